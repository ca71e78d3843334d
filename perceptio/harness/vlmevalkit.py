"""Perceptio's models in VLMEvalKit (https://github.com/open-compass/VLMEvalKit).

VLMEvalKit finds models in a table in its own code; `register` adds one to it. In a checkout of VLMEvalKit:

    # evaluate.py
    import run  # VLMEvalKit's own; import it first, because it assigns GPUs to processes

    from perceptio.harness.vlmevalkit import register

    register("mine", pretrained="runs/mine")
    run.main()

Then run `python evaluate.py --model mine --data MMBench_DEV_EN`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import vlmeval.vlm
from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

from perceptio.errors import InputError
from perceptio.harness.model_args import ModelArgs
from perceptio.harness.responder import Decoding, Request, Responder


class Perceptio(BaseModel):
    """A Perceptio model behind VLMEvalKit's interface: one question at a time, in words, about at most one image.

    Args:
        args: Arguments of `perceptio.harness.model_args.ModelArgs`, by name, and `temperature`, 0 by default.

    Raises:
        UnknownNameError: An argument has another name.
        InputError: A value is invalid.
        CheckpointError: The model cannot be loaded.
    """

    INTERLEAVE = False
    allowed_types = ("text", "image")

    def __init__(self, *, temperature: float = 0.0, **args: Any) -> None:
        super().__init__()
        parsed = ModelArgs.of(args)
        self.decoding = Decoding(max_new_tokens=parsed.max_new_tokens, temperature=float(temperature))
        self.responder = Responder.of(parsed)

    def generate_inner(self, message: Sequence[Mapping[str, str]], dataset: str | None = None) -> str:
        """Return the reply to a message: a list of texts, which are joined by line breaks, and of image paths.

        Raises:
            InputError: There are several images, or the texts are empty.
        """
        pictures = [part["value"] for part in message if part["type"] == "image"]
        if len(pictures) > 1:
            raise InputError(
                f"A question of {dataset or 'the dataset'} shows {len(pictures)} pictures, and a Perceptio model "
                "sees one: leave the dataset out."
            )
        text = "\n".join(part["value"] for part in message if part["type"] == "text")
        request = Request(
            text=text, picture=lambda: pictures[0] if pictures else None, decoding=self.decoding
        )
        (reply,) = self.responder.replies([request])
        return reply


def register(name: str, **args: Any) -> None:
    """Add a model to VLMEvalKit's table, and its class to those that `--config` may name.

    Args:
        name: Name of the model for `--model`.
        args: Arguments of `Perceptio`.

    Raises:
        UnknownNameError: An argument has another name.
        InputError: A value is invalid, or another model has the name.
    """
    ModelArgs.of({given: value for given, value in args.items() if given != "temperature"})
    held = supported_VLM.get(name)
    if held is not None and getattr(held, "func", None) is not Perceptio:
        raise InputError(f"VLMEvalKit has a model {name!r} of its own: give yours another name.")
    supported_VLM[name] = partial(Perceptio, **args)
    vlmeval.vlm.Perceptio = Perceptio
