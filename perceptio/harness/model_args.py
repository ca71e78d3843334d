"""Arguments that a harness passes to the model: `pretrained=runs/mine,perceive=none`."""

from collections.abc import Mapping
from typing import Any, Self

import attrs
import torch

from perceptio.errors import InputError, UnknownNameError, near_miss, quoted

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@attrs.frozen(kw_only=True)
class ModelArgs:
    """The model to evaluate, and how it answers.

    Attributes:
        pretrained: A run's folder, a checkpoint, or a model's id on the Hugging Face hub.
        perceive: `auto`: the recipe's streams, as the model decides. `none`: nothing. `before`: every stream that is
            written once per image, before each answer. Or names of streams joined by `+`, each written before every
            answer: `depth+segmentation`.
        device: A PyTorch device, such as `cuda:0`; `auto`: a GPU if there is one.
        dtype: The model's data type, `float32`, `bfloat16` or `float16`; `auto`: the type of the saved weights.
        batch_size: Number of questions in a batch, at least 1.
        max_new_tokens: Maximum number of tokens of an answer if the benchmark sets none, at least 1.
    """

    pretrained: str
    perceive: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 1
    max_new_tokens: int = 1024

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Parse the arguments by name, given as numbers or text.

        Raises:
            UnknownNameError: There is no argument of this name.
            InputError: A value is invalid, or `pretrained` is missing.
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
            InputError: PyTorch does not know this name, or does not find the device.
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
