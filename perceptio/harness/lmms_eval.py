"""Perceptio's models in lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval), as the model `perceptio`.

    python -m lmms_eval --model perceptio --model_args pretrained=runs/mine --tasks mme --batch_size 8

The package offers the model by an entry point of the group `lmms_eval.models`, so that nothing is to be imported.
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
"""Settings of generation that a Perceptio model follows."""
NEUTRAL = {"top_p": 1.0, "top_k": 0, "num_beams": 1, "repetition_penalty": 1.0}
"""Values at which settings that it does not have make no difference."""
OF_SAMPLING = ("top_p", "top_k")
"""Those that make none where the likeliest token is taken."""


def manifest() -> "ModelManifest":
    """What lmms-eval's registry asks the entry point for."""
    # It asks when its models are first imported, by this module too if that came first.
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="perceptio", simple_class_path=f"{__name__}.{Perceptio.__name__}")


class Perceptio(lmms):
    """A Perceptio model as lmms-eval asks it.

    Args:
        args: Those of `perceptio.harness.model_args.ModelArgs`, by name. lmms-eval adds the values of its own options
            `--batch_size`, `--device` and `--max_batch_size`.

    Raises:
        UnknownNameError: An argument has another name.
        InputError: A value cannot be meant.
        CheckpointError: The model cannot be loaded.
    """

    is_simple = True

    def __init__(self, **args: Any) -> None:
        super().__init__()
        # Of use where a harness searches for a batch size, which "auto" would ask for.
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
        """Where the model is; lmms-eval asks it of several processes."""
        return self.responder.model.device

    @property
    def batch_size(self) -> int:
        """Questions that are answered at once."""
        return self.args.batch_size

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """A reply to each request, in their order.

        Raises:
            InputError: A request shows several pictures, or something else than pictures.
        """
        asked = []
        for request in requests:
            text, settings, visual, number, task, split = request.args
            asked.append(self._request(text, visual, number, task, split, self._decoding(settings, task)))
        return list(self.responder.replies(asked))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """How unlikely the model finds the answer of each request, and whether it is what it would write.

        As lmms-eval's own models have it, and its scoring of multiple choice expects, which takes the least, this is
        a loss: the mean negative log-likelihood of the answer's tokens, its end token included.

        Raises:
            InputError: As of `generate_until`.
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
        # A bare pair is turned into text by the evaluator of lmms-eval 0.7, whose own scoring then fails on it.
        return [GenerationResult(text=(-one.log_likelihood / one.ids, one.likeliest)) for one in found]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refused: a Perceptio model is asked one question at a time.

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
        """A task's generation settings; of what makes a difference and is not followed, a warning says so.

        Raises:
            InputError: Masks are asked for in another form.
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
