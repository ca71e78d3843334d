"""Perception tokenizers: what a language model writes of an image or of an object <-> something to look at.

A stream of perception is written as discrete codes or as special tokens, once per image or once per object; depth and
segmentation tokenizers are two kinds with interfaces of their own, and any other derives from the class here.

Shapes: N blocks or objects, T targets, L codes of a block, m rows, P width of a row, K codebook size, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import attrs
import torch
from torch import Tensor

from perceptio.errors import InterfaceError
from perceptio.interfaces.component import CheckedModule, ComponentConfig
from perceptio.interfaces.perception_checks import (
    checked_compare,
    checked_from_codes,
    checked_from_rows,
    checked_meanings,
    checked_shown,
    checked_targets,
    checked_to_codes,
    checked_values_at,
)
from perceptio.interfaces.tokens import Codes, StreamSpec

Size = tuple[int, int]
"""Height and width of a picture."""


@attrs.frozen(kw_only=True)
class PerceptionSpec:
    """Facts of a perception tokenizer that are known without its weights.

    Attributes:
        stream: How its stream is written, and what it is learned from.
    """

    stream: StreamSpec


@attrs.frozen(kw_only=True, eq=False)
class CodeMeanings:
    """What is known of the codes of one codebook, so that codes which mean nearly the same can start nearly the same.

    Attributes:
        values_KV: Numbers in [0, 1] that each code stands for; None: none are known.
        vectors_KC: A vector for each code, of any scale; None: there is none.
    """

    values_KV: Tensor | None = None
    vectors_KC: Tensor | None = None


class PerceptionTokenizer(CheckedModule, ABC):
    """What is written of a stream <-> what it stands for. `spec` is set in the constructor.

    Every tokenizer gives `targets`, `shown` and `compare`; one whose stream is written as codes `to_codes`,
    `from_codes` and `from_probabilities`; one whose stream is written as special tokens `from_rows`. Where the spec
    names an `image_size`, decoding is given what `encode_image` made of the pictures: each is encoded once. Where it
    has `point_values`, the tokenizer gives `values_at` and `from_probabilities`, too.

    What decoding returns may be any value; the losses of the stream read it, and `shown` turns it into what a user is
    given. `N == 0` is legal everywhere.
    """

    spec: Any
    """`PerceptionSpec`, or a value of its own with a `stream`."""

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "targets": checked_targets,
        "to_codes": checked_to_codes,
        "from_codes": checked_from_codes,
        "from_rows": checked_from_rows,
        "shown": checked_shown,
        "compare": checked_compare,
        "code_meanings": checked_meanings,
        "values_at": checked_values_at,
    }

    def __init__(self) -> None:
        super().__init__()
        # Without weights it would not know where it lies: `device_of` looks here, too.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Training mode; a frozen tokenizer, as a teacher, stays in eval mode."""
        return super().train(mode and not self.spec.stream.frozen)

    @abstractmethod
    def targets(self, raw: Sequence[Any]) -> Any:
        """What is to be learned, on the tokenizer's device, of so many images or objects.

        Args:
            raw: What the samples hold, by the spec's `target`: a `DepthMap`, a boolean mask [H, W], the boolean
                masks [k, H, W] of all objects of an image, an RGB picture [3, H, W] in [0, 1], or a map, an
                array [H, W, C] of float32; None where a sample has none, which a stream of objects never sees.

        Returns:
            A tensor [T, ...], or another value that can be indexed so; of what is unknown, NaN.
        """

    def encode_image(self, pixels_B3HW: Tensor) -> Any:
        """Features of pictures, RGB in [0, 1] at the spec's `image_size`, in whatever form decoding reads them."""
        raise self._absent("encode_image")

    def to_codes(self, targets: Any) -> Tensor:
        """Codes [T, L] of targets, int64, 0 <= code < K of their codebook, without gradient."""
        raise self._absent("to_codes")

    def from_codes(self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None) -> Any:
        """What N rows of codes stand for.

        Args:
            codes_NL: Codes as `to_codes` makes them.
            features: Of the pictures, where the spec asks for them.
            image_index_N: Whose picture each row is about, among the features.

        Raises:
            DataError: What is given are no codes. They are looked at, which waits for the device.
        """
        raise self._absent("from_codes")

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Tensor | None = None
    ) -> Any:
        """What distributions over codes stand for: soft merging, differentiable in the probabilities.

        One-hot probabilities give `from_codes`.

        Args:
            probabilities: In float32 [N, l, K], for each run of l codes of one codebook.
            features: As for `from_codes`.
            image_index_N: As for `from_codes`.
        """
        raise self._absent("from_probabilities")

    def from_rows(self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None) -> Any:
        """What the rows of special tokens stand for; `features` and `image_index_N` as for `from_codes`."""
        raise self._absent("from_rows")

    def target_rows(self, targets: Any) -> Tensor:
        """Rows [T, m, P] that stand for targets: what is fed back in training, where a recipe feeds a stream back."""
        raise InterfaceError(
            f"{self.known_as} makes no rows of its targets, and its stream is to be fed back: leave feedback out."
        )

    @abstractmethod
    def shown(self, decoded: Any, sizes: Sequence[Size]) -> list[Any]:
        """What a user is given of each of the N rows, on the CPU: arrays, or a value such as `DepthMap`.

        Args:
            decoded: What decoding returned.
            sizes: Of the picture that each row is about.
        """

    def values_at(self, decoded: Any, points_NP2: Tensor) -> Tensor:
        """What is decoded at marked points, as numbers [N, P] in [0, 1]: of depth 1 is the nearest that there can be.

        Given to a language model they are cut into levels, so that equal steps should mean equally much. Nothing
        here waits for the device.

        Args:
            decoded: What decoding returned of N rows.
            points_NP2: P points of each, as (x, y) in [0, 1], x to the right and y down, on the same device.
        """
        raise InterfaceError(
            f"{self.known_as} has no values at points: name another stream with readout, or leave point_values out."
        )

    def compare(self, decoded: Any, targets: Any) -> Mapping[str, Tensor]:
        """Figures [N] of what was decoded against as many targets, by name; by default the mean absolute error.

        Unknown values are left out; a row of which nothing is known is NaN.
        """
        return {"absolute_error": (decoded - targets).abs().flatten(1).nanmean(1)}

    def to_reconstruct(self, targets: Any) -> Tensor:
        """What training of the tokenizer reconstructs of targets, dense [T, C, H, W]; by default all of them."""
        return targets

    def mirrored(self, targets: Tensor) -> Tensor:
        """Dense targets [T, C, H, W] of the same pictures, mirrored left to right; training draws such ones, too.

        By default the last axis is flipped; a tokenizer whose values say where something points changes them, too.
        """
        return targets.flip(-1)

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """What is known of each codebook's codes; none by default, and their tokens start at random."""
        written = self.spec.stream.written
        return (CodeMeanings(),) * (len(written.codebook_sizes) if isinstance(written, Codes) else 0)

    @property
    def missing(self) -> tuple[str, ...]:
        """The methods that its spec promises and it has not; `from_probabilities` where only losses ask for it."""
        stream = self.spec.stream
        promised = ["to_codes", "from_codes"] if isinstance(stream.written, Codes) else ["from_rows"]
        promised += ["encode_image"] if stream.image_size is not None else []
        promised += ["from_probabilities", "values_at"] if stream.point_values else []
        return tuple(
            name for name in promised if getattr(type(self), name) is getattr(PerceptionTokenizer, name)
        )

    def _absent(self, method: str) -> InterfaceError:
        """Why a method that has no meaning for every stream is not there."""
        stream = self.spec.stream
        if method == "encode_image":
            promised, why = stream.image_size is not None, f"its spec has the image_size {stream.image_size}"
        else:
            written = "codes" if isinstance(stream.written, Codes) else "special tokens"
            promised, why = (
                (method == "from_rows") == (written != "codes"),
                f"its stream is written as {written}",
            )
        todo = f"add the method to {type(self).__name__}" if promised else "it is not to be called"
        return InterfaceError(f"{self.known_as} has no {method}, and {why}: {todo}.")


@attrs.frozen(kw_only=True, eq=False)
class Reconstruction:
    """What a trainable tokenizer makes of a batch of targets in training.

    Attributes:
        values: Shaped as the targets.
        codes_TL: The codes of what is reconstructed, which may be a part of a block.
        auxiliary_loss: A loss of the tokenizer's own, to be added.
    """

    values: Tensor
    codes_TL: Tensor
    auxiliary_loss: Tensor


@runtime_checkable
class TrainableTokenizer(Protocol):
    """A tokenizer of dense maps that `perceptio train-tokenizer` can train."""

    def reconstruct(self, targets: Tensor, *, quantize: bool = True) -> Reconstruction:
        """Encode, quantize and decode with gradients; [T, C, H, W] as of `to_reconstruct`, without NaN.

        Training begins with `quantize=False`: latents are decoded as they are, and codes only said.
        """
        ...

    def freeze(self) -> None:
        """End training on purpose: no later call may change a weight or a buffer."""
        ...


@attrs.frozen(kw_only=True)
class PerceptionTokenizerConfig(ComponentConfig, ABC):
    """Config of a perception tokenizer of any kind."""

    @property
    @abstractmethod
    def spec(self) -> Any:
        """Facts known without weights: `PerceptionSpec`, or a value of its own with a `stream`."""

    @abstractmethod
    def build(self) -> PerceptionTokenizer:
        """The tokenizer with random weights."""
