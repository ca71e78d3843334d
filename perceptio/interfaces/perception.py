"""Perception tokenizers: the tokens that a language model writes about an image or object <-> what they stand for.

A perception stream is written as discrete codes or as special tokens, once per image or once per object. Depth and
segmentation tokenizers have interfaces of their own; every other tokenizer derives from the class in this module.

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
"""The height and width of an image in pixels."""


@attrs.frozen(kw_only=True)
class PerceptionSpec:
    """Facts about a perception tokenizer that are known without its weights.

    Attributes:
        stream: How its stream is written and what it is learned from.
    """

    stream: StreamSpec


@attrs.frozen(kw_only=True, eq=False)
class CodeMeanings:
    """What the codes of one codebook mean, so that tokens of similar codes can start with similar embeddings.

    Attributes:
        values_KV: V numbers in [0, 1] that each code stands for; None if unknown.
        vectors_KC: A vector of any scale for each code; None if there are none.
    """

    values_KV: Tensor | None = None
    vectors_KC: Tensor | None = None


class PerceptionTokenizer(CheckedModule, ABC):
    """The tokens of a stream <-> what they stand for. A subclass sets `spec` in its constructor.

    A subclass implements these methods:

    - always `targets` and `shown`; `compare` has a default, the mean absolute error;
    - `to_codes` and `from_codes` if the stream is written as codes, and `from_probabilities` if a loss uses soft
      merging;
    - `from_rows` if the stream is written as special tokens;
    - `encode_image` if the spec has an `image_size`: each image is encoded once, and decoding is given its features;
    - `values_at` and `from_probabilities` if the spec has `point_values`.

    Decoding may return any type of value: the losses of the stream read it, and `shown` converts it to what a user
    receives. All methods must accept `N == 0`.
    """

    spec: Any
    """A `PerceptionSpec`, or any other value with an attribute `stream`."""

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
        # `device_of` finds the device of a tokenizer without weights by this buffer.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a frozen tokenizer, such as a teacher, stays in eval mode."""
        return super().train(mode and not self.spec.stream.frozen)

    @abstractmethod
    def targets(self, raw: Sequence[Any]) -> Any:
        """Convert the raw targets of T images or objects to training targets on the tokenizer's device.

        Args:
            raw: One value per image or object, of the type that the spec's `target` has in samples: a `DepthMap`, a
                boolean mask [H, W], the boolean masks [k, H, W] of all objects of an image, an RGB image [3, H, W]
                in [0, 1], or a map as a float32 array [H, W, C]. None if an image has no target; the values of
                objects are never None.

        Returns:
            A tensor [T, ...], or another value that can be indexed like one, with NaN where unknown.
        """

    def encode_image(self, pixels_B3HW: Tensor) -> Any:
        """Encode images, RGB in [0, 1] at the spec's `image_size`, as features in any form that decoding reads."""
        raise self._absent("encode_image")

    def to_codes(self, targets: Any) -> Tensor:
        """Encode targets as codes [T, L], int64 with 0 <= code < K of their codebook, without gradient."""
        raise self._absent("to_codes")

    def from_codes(self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None) -> Any:
        """Decode N rows of codes.

        Args:
            codes_NL: Codes as `to_codes` returns them.
            features: The result of `encode_image`, if the spec has an `image_size`.
            image_index_N: For each row, the index of its image among the features.

        Raises:
            DataError: The codes are not valid. Checking their values waits for the device.
        """
        raise self._absent("from_codes")

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Tensor | None = None
    ) -> Any:
        """Decode distributions over codes (soft merging); the result is differentiable in the probabilities.

        One-hot probabilities give the same result as `from_codes`.

        Args:
            probabilities: One float32 tensor [N, l, K] for each run of l codes of one codebook.
            features: As for `from_codes`.
            image_index_N: As for `from_codes`.
        """
        raise self._absent("from_probabilities")

    def from_rows(self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None) -> Any:
        """Decode the rows of special tokens; `features` and `image_index_N` as for `from_codes`."""
        raise self._absent("from_rows")

    def target_rows(self, targets: Any) -> Tensor:
        """Return the rows [T, m, P] that stand for targets; training feeds them back if a stream has `feedback`."""
        raise InterfaceError(
            f"{self.known_as} makes no rows of its targets, and its stream is to be fed back: leave feedback out."
        )

    @abstractmethod
    def shown(self, decoded: Any, sizes: Sequence[Size]) -> list[Any]:
        """Convert N decoded rows to what a user receives: arrays on the CPU, or values such as `DepthMap`.

        Args:
            decoded: The result of decoding.
            sizes: For each row, the size of its image.
        """

    def values_at(self, decoded: Any, points_NP2: Tensor) -> Tensor:
        """Return the decoded values at marked points, [N, P] in [0, 1]; for depth, 1 is the nearest possible value.

        The values are quantized into equal levels for the language model, so equal differences should mean the same
        everywhere. An implementation must not wait for the device.

        Args:
            decoded: The result of decoding N rows.
            points_NP2: P points per row, as (x, y) in [0, 1], x to the right and y down, on the same device.
        """
        raise InterfaceError(
            f"{self.known_as} has no values at points: name another stream with readout, or leave point_values out."
        )

    def compare(self, decoded: Any, targets: Any) -> Mapping[str, Tensor]:
        """Compare N decoded rows with N targets and return metrics [N] by name; by default the mean absolute error.

        Unknown values are left out. A row without known values is NaN.
        """
        return {"absolute_error": (decoded - targets).abs().flatten(1).nanmean(1)}

    def to_reconstruct(self, targets: Any) -> Tensor:
        """Return what training the tokenizer reconstructs, dense [T, C, H, W]; by default the targets."""
        return targets

    def mirrored(self, targets: Tensor) -> Tensor:
        """Return dense targets [T, C, H, W] mirrored left to right, for augmentation in training the tokenizer.

        The default flips the last axis. Override it if values encode directions, which mirroring also changes.
        """
        return targets.flip(-1)

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """Return what the codes of each codebook mean; unknown by default, so that their tokens start at random."""
        written = self.spec.stream.written
        return (CodeMeanings(),) * (len(written.codebook_sizes) if isinstance(written, Codes) else 0)

    @property
    def missing(self) -> tuple[str, ...]:
        """The methods that its spec requires and the class does not implement.

        `from_probabilities` counts only if the spec has `point_values`; otherwise only some losses need it.
        """
        stream = self.spec.stream
        promised = ["to_codes", "from_codes"] if isinstance(stream.written, Codes) else ["from_rows"]
        promised += ["encode_image"] if stream.image_size is not None else []
        promised += ["from_probabilities", "values_at"] if stream.point_values else []
        return tuple(
            name for name in promised if getattr(type(self), name) is getattr(PerceptionTokenizer, name)
        )

    def _absent(self, method: str) -> InterfaceError:
        """Return the error for a call to an optional method that the class does not implement."""
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
    """What a trainable tokenizer returns for a batch of targets in training.

    Attributes:
        values: The reconstruction, with the shape of the targets.
        codes_TL: The codes of what is reconstructed, which may be only a part of a block.
        auxiliary_loss: A loss of the tokenizer itself, such as a commitment loss, which training adds.
    """

    values: Tensor
    codes_TL: Tensor
    auxiliary_loss: Tensor


@runtime_checkable
class TrainableTokenizer(Protocol):
    """A tokenizer of dense maps that `perceptio train-tokenizer` can train."""

    def reconstruct(self, targets: Tensor, *, quantize: bool = True) -> Reconstruction:
        """Encode, quantize and decode targets [T, C, H, W] from `to_reconstruct`, without NaN, with gradients.

        Training begins with `quantize=False`: latents are then decoded unquantized, and codes are only reported.
        """
        ...

    def freeze(self) -> None:
        """End training: no later call may change a weight or a buffer, not even in training mode."""
        ...


@attrs.frozen(kw_only=True)
class PerceptionTokenizerConfig(ComponentConfig, ABC):
    """Config of a perception tokenizer of any kind."""

    @property
    @abstractmethod
    def spec(self) -> Any:
        """Facts that are known without weights: a `PerceptionSpec`, or any other value with an attribute `stream`."""

    @abstractmethod
    def build(self) -> PerceptionTokenizer:
        """Build the tokenizer with random weights."""
