"""The model `perceptio` for lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval).

    python -m lmms_eval --model perceptio --model_args pretrained=runs/mine --tasks mme --batch_size 8

The package registers the model by an entry point of the group `lmms_eval.models`, so nothing needs to be imported.
"""

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms

from perceptio.errors import InputError, quoted
from perceptio.harness.model_args import ModelArgs
from perceptio.harness.responder import Decoding, Request, Responder

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest

HONORED = ("until", "max_new_tokens", "temperature", "do_sample", "masks")
"""Generation settings that a Perceptio model supports."""
NEUTRAL = {"top_p": 1.0, "top_k": 0, "num_beams": 1, "repetition_penalty": 1.0}
"""Values at which unsupported settings have no effect."""
OF_SAMPLING = ("top_p", "top_k")
"""Settings that have no effect in greedy decoding."""


def manifest() -> "ModelManifest":
    """Return the manifest for lmms-eval's registry, which calls this entry point."""
    # Imported here because the registry calls this when its models are first imported, possibly by this module.
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="perceptio", simple_class_path=f"{__name__}.{Perceptio.__name__}")


class Perceptio(lmms):
    """A Perceptio model behind lmms-eval's interface.

    Args:
        args: Arguments of `perceptio.harness.model_args.ModelArgs`, by name. lmms-eval adds the values of its own
            options `--batch_size`, `--device` and `--max_batch_size`.

    Raises:
        UnknownNameError: An argument has another name.
        InputError: A value is invalid.
        CheckpointError: The model cannot be loaded.
    """

    is_simple = True

    def __init__(self, **args: Any) -> None:
        super().__init__()
        # Only used by harnesses that search for a batch size, which happens with "auto".
        args.pop("max_batch_size", None)
        self.args, self._said = ModelArgs.of(args), set[tuple[str, str]]()
        device = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            device = self.accelerator.device
        self.responder = Responder.of(self.args, device=device)

    @property
    def device(self) -> torch.device:
        """The model's device, which lmms-eval reads with several processes."""
        return self.responder.model.device

    @property
    def batch_size(self) -> int:
        """Number of questions in a batch."""
        return self.args.batch_size

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Return a reply to each request, in their order.

        Raises:
            InputError: A request shows several images, or something other than images.
        """
        asked = []
        for request in requests:
            text, settings, visual, number, task, split = request.args
            asked.append(self._request(text, visual, number, task, split, self._decoding(settings, task)))
        return list(self.responder.replies(asked))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Return the loss of each request's answer, and whether greedy decoding would write it.

        As in lmms-eval's own models, and as its scoring of multiple choice expects, which selects the lowest value,
        this is the mean negative log-likelihood of the answer's tokens, including its end token.

        Raises:
            InputError: See `generate_until`.
        """
        asked, answers = [], []
        for request in requests:
            if len(request.args) == 2:
                raise InputError(
                    f"The task {request.task_name!r} asks how likely an answer is without its question "
                    "(acc_mutual_info), which a Perceptio model does not say: leave that metric out."
                )
            text, answer, visual, number, task, split = request.args
            if not isinstance(answer, str):
                answer = answer(self.task_dict[task][split][number])
            decoding = Decoding(max_new_tokens=1)
            asked.append(self._request(text, visual, number, task, split, decoding))
            answers.append(str(answer).strip())
        found = self.responder.likelihoods(asked, answers)
        # Not a bare pair: the evaluator of lmms-eval 0.7 turns it into text, and its own scoring then fails.
        return [GenerationResult(text=(-one.log_likelihood / one.ids, one.likeliest)) for one in found]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not supported: a Perceptio model answers one question at a time.

        Raises:
            InputError: Always.
        """
        task = requests[0].task_name if requests else ""
        raise InputError(
            f"The task {task!r} asks in several rounds, and a Perceptio model answers one question: leave it out."
        )

    def _request(
        self, text: str, visual: Any, number: int, task: str, split: str, decoding: Decoding
    ) -> Request:
        def picture() -> Any:
            shown = visual(self.task_dict[task][split][number]) if visual is not None else []
            shown = [] if shown is None else list(shown)
            if len(shown) > 1:
                raise InputError(
                    f"Document {number} of the task {task!r} shows {len(shown)} pictures, and a Perceptio model sees "
                    "one: leave the task out."
                )
            if shown and not hasattr(shown[0], "convert"):
                raise InputError(
                    f"Document {number} of the task {task!r} shows {quoted(shown[0])}, and a Perceptio model sees "
                    "pictures only: leave the task out."
                )
            return shown[0] if shown else None

        return Request(text=text, picture=picture, decoding=decoding)

    def _decoding(self, settings: dict[str, Any], task: str) -> Decoding:
        """Return a task's generation settings; warn about settings that matter and are not supported.

        Raises:
            InputError: Masks are requested in another format.
        """
        temperature = float(settings.get("temperature") or 0.0)
        samples = settings.get("do_sample")
        if samples is False:
            temperature = 0.0
        elif samples and not temperature:
            temperature = 1.0
        for name, value in settings.items():
            neutral = value is None or value == NEUTRAL.get(name) or (not temperature and name in OF_SAMPLING)
            if name not in HONORED and not neutral and (task, name) not in self._said:
                self._said.add((task, name))
                warnings.warn(
                    f"The task {task!r} sets {name}={value!r} for generation, which a Perceptio model does not have: "
                    "its answers are written without.",
                    stacklevel=2,
                )
        if settings.get("masks") not in (None, "coco_rle"):
            raise InputError(
                f"The task {task!r} sets masks={settings['masks']!r}; the one form of masks is coco_rle."
            )
        until = settings.get("until") or ()
        return Decoding(
            max_new_tokens=int(settings.get("max_new_tokens") or self.args.max_new_tokens),
            temperature=temperature,
            until=(until,) if isinstance(until, str) else tuple(until),
            masks=bool(settings.get("masks")),
        )
