"""What a harness is told of the model: `pretrained=runs/mine,perceive=none`."""

from collections.abc import Mapping
from typing import Any, Self

import attrs
import torch

from perceptio.errors import InputError, UnknownNameError, near_miss, quoted

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@attrs.frozen(kw_only=True)
class ModelArgs:
    """The model of an evaluation, and how it answers.

    Attributes:
        pretrained: A run's folder, a checkpoint, or a model's id on the Hugging Face hub.
        perceive: `auto`: what the recipe lists and the model then decides. `none`: nothing. `before`: every stream
            that is written once per image, before each answer. Or names of streams with `+` between them, each
            before every answer: `depth+segmentation`.
        device: As PyTorch names it, such as `cuda:0`; `auto`: a GPU where there is one.
        dtype: What the model computes in, `float32`, `bfloat16` or `float16`; `auto`: as its weights are saved.
        batch_size: Questions that are answered at once, at least 1.
        max_new_tokens: Most tokens of an answer where the benchmark does not say, at least 1.
    """

    pretrained: str
    perceive: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 1
    max_new_tokens: int = 1024

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """The arguments by name, as numbers or as texts.

        Raises:
            UnknownNameError: A name is none of these.
            InputError: A value cannot be meant, or `pretrained` is missing.
        """
        names = [field.name for field in attrs.fields(cls)]
        for name in given:
            if name not in names:
                raise UnknownNameError(f"A perceptio model has no argument {name!r}{near_miss(name, names)}")
        if not given.get("pretrained"):
            raise InputError("No model is named: give pretrained=DIR, a run's folder or a checkpoint.")
        texts = ("pretrained", "perceive", "device", "dtype")
        values: dict[str, Any] = {
            name: str(value) if name in texts else _whole(name, value) for name, value in given.items()
        }
        args = cls(**values)
        if args.dtype not in ("auto", *DTYPES):
            raise InputError(f"dtype is {args.dtype!r}: it must be auto, {' or '.join(DTYPES)}.")
        return args

    @property
    def torch_device(self) -> torch.device:
        """The device.

        Raises:
            InputError: PyTorch knows none of this name, or does not find it here.
        """
        if self.device == "auto":
            found = torch.accelerator.current_accelerator(check_available=True)
            return torch.device("cpu") if found is None else found
        try:
            return torch.empty(0, device=self.device).device
        except (RuntimeError, AssertionError) as refusal:
            raise InputError(
                f"device is {self.device!r}, and PyTorch finds none here ({str(refusal).splitlines()[0]}): leave it "
                "out for the one that there is."
            ) from refusal


def _whole(name: str, value: Any) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{name} is {quoted(value)}: it must be a whole number of at least 1.")
    return int(text)
