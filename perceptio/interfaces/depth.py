"""Depth tokenizers: dense depth maps <-> a short row of codes that a language model can emit.

Shapes: B batch, H W pixels, h w grid cells, L = h*w codes, K codebook size, C latent width.
"""

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor

from perceptio.errors import DataError, InterfaceError, quoted
from perceptio.interfaces.component import CheckedModule, ComponentConfig, described

ROUNDING = 1e-3
"""Depth may leave [0, 1] by so much, which half precision and resampling do to it."""


@attrs.frozen(kw_only=True)
class DepthConvention:
    """What a depth value in [0, 1] means.

    Relative (`near_m` and `far_m` are None): inverse depth, scaled by each image's own minimum and maximum, near
    is one, as a disparity teacher such as Depth Anything V2 gives it; it has no metres. Metric: far is one,
    logarithmic between `near_m` and `far_m` metres, so that equal steps are equal ratios.
    """

    near_m: float | None = None
    far_m: float | None = None

    def __attrs_post_init__(self) -> None:
        if (self.near_m is None) != (self.far_m is None):
            raise ValueError(
                "A metric depth convention needs both near_m and far_m; a relative one has neither."
            )
        if self.near_m is not None and self.far_m is not None and not 0 < self.near_m < self.far_m:
            raise ValueError(f"near_m ({self.near_m}) must be above 0 and below far_m ({self.far_m}).")

    @property
    def metric(self) -> bool:
        """Whether values can be turned into metres."""
        return self.near_m is not None

    @property
    def near_is_one(self) -> bool:
        """Whether larger values are nearer to the camera."""
        return not self.metric

    def to_metres(self, unit: Tensor) -> Tensor:
        """Values in [0, 1] to metres; NaN stays NaN.

        Raises:
            DataError: The convention is relative.
        """
        near, ratio = self._range()
        return near * torch.exp(unit * ratio)

    def from_metres(self, metres: Tensor) -> Tensor:
        """Metres to values in [0, 1], clipped to the range; NaN stays NaN.

        Raises:
            DataError: The convention is relative.
        """
        near, ratio = self._range()
        return (torch.log(metres / near) / ratio).clamp(0.0, 1.0)

    def _range(self) -> tuple[float, float]:
        if self.near_m is None or self.far_m is None:
            raise DataError("Relative depth has no metres: use a depth tokenizer with a metric convention.")
        return self.near_m, math.log(self.far_m / self.near_m)


@attrs.frozen(kw_only=True)
class DepthSpec:
    """Facts of a depth tokenizer that are known without its weights."""

    codebook_size: int
    grid: tuple[int, int]
    image_size: tuple[int, int]
    convention: DepthConvention

    @property
    def num_codes(self) -> int:
        """Codes of one depth map, L."""
        return self.grid[0] * self.grid[1]


def depth_problem(depth_B1HW: Tensor, spec: DepthSpec, *, unknown: bool = True) -> str | None:
    """What keeps a tensor from being depth under a spec; None where nothing does.

    Args:
        depth_B1HW: Anything. On the meta device, which holds no values, only its type and shape are looked at.
        spec: Whose convention and size it should have.
        unknown: Whether NaN is allowed.

    Returns:
        Words that complete "depth that ...".
    """
    shape = (1, *spec.image_size)
    if not isinstance(depth_B1HW, Tensor):
        return f"is {quoted(depth_B1HW)} and no tensor"
    if not depth_B1HW.is_floating_point() or tuple(depth_B1HW.shape[1:]) != shape or depth_B1HW.ndim != 4:
        return (
            f"is {described(depth_B1HW)} and not floating-point [B, {', '.join(map(str, shape))}]: "
            "perceptio.ops.depth_maps.resize_depth brings maps to a size"
        )
    if depth_B1HW.is_meta or not depth_B1HW.numel():
        return None
    low, high = (x.item() for x in depth_B1HW.detach().nan_to_num(0.5, math.inf, -math.inf).aminmax())
    if low < -ROUNDING or high > 1 + ROUNDING:
        return (
            f"goes from {low:g} to {high:g} and not from 0 to 1: perceptio.ops.depth_maps.from_map brings metres and "
            "disparity to the tokenizer's convention"
        )
    if not unknown and bool(depth_B1HW.isnan().any()):
        return "has NaN"
    return None


def code_problem(codes_BL: Tensor, spec: DepthSpec) -> str | None:
    """What keeps a tensor from being codes under a spec; None where nothing does.

    Args:
        codes_BL: Anything. On the meta device, which holds no values, only its type and shape are looked at.
        spec: Whose number and range of codes it should have.

    Returns:
        Words that complete "codes that ...".
    """
    if not isinstance(codes_BL, Tensor):
        return f"are {quoted(codes_BL)} and no tensor"
    if codes_BL.dtype != torch.int64 or codes_BL.ndim != 2 or codes_BL.shape[1] != spec.num_codes:
        return f"are {described(codes_BL)} and not int64 [B, {spec.num_codes}]"
    if codes_BL.is_meta or not codes_BL.numel():
        return None
    low, high = (int(x) for x in codes_BL.aminmax())
    if low < 0 or high >= spec.codebook_size:
        return f"go from {low} to {high} and not from 0 to {spec.codebook_size - 1}; -1 says that there is no code"
    return None


def _checked_encode(encode: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(encode)
    def checked(self: Any, depth_B1HW: Tensor) -> Tensor:
        problem = depth_problem(depth_B1HW, self.spec)
        if problem:
            raise DataError(f"{type(self).__name__}.encode was given depth that {problem}.")
        codes_BL = encode(self, depth_B1HW)
        problem = code_problem(codes_BL, self.spec)
        if problem:
            raise InterfaceError(f"{self.known_as}.encode made codes that {problem}.")
        return codes_BL

    return checked


def _checked_decode(decode: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(decode)
    def checked(self: Any, codes_BL: Tensor) -> Tensor:
        problem = code_problem(codes_BL, self.spec)
        if problem:
            raise DataError(f"{type(self).__name__}.decode was given codes that {problem}.")
        depth_B1HW = decode(self, codes_BL)
        problem = depth_problem(depth_B1HW, self.spec, unknown=False)
        if problem:
            raise InterfaceError(f"{self.known_as}.decode made depth that {problem}.")
        return depth_B1HW

    return checked


@attrs.frozen(kw_only=True, eq=False)
class DepthReconstruction:
    """What a trainable depth tokenizer makes of a batch in training."""

    depth_B1HW: Tensor
    codes_BL: Tensor
    auxiliary_loss: Tensor


class DepthTokenizer(CheckedModule, ABC):
    """Depth maps <-> codes. `spec` is set in the constructor.

    Depth goes in as float [B, 1, H, W] in [0, 1] at `spec.image_size`, NaN where unknown, and comes out the same,
    without NaN. Codes are int64 [B, L], 0 <= code < K, row-major over `spec.grid`.

    Every subclass's `encode` and `decode` are held to this: what is given and what is returned are checked around
    them, with `depth_problem` and `code_problem`. That waits for the device, so neither belongs in a loop over codes;
    `soft_decode`, which training calls in every step, is not checked.
    """

    spec: DepthSpec
    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "encode": _checked_encode,
        "decode": _checked_decode,
    }

    @abstractmethod
    def encode(self, depth_B1HW: Tensor) -> Tensor:
        """Codes [B, L] of depth maps, without gradient; unknown pixels are filled with `fill_unknown`.

        Raises:
            DataError: What is given is no depth in [0, 1] at `spec.image_size`, or a map has no known pixel.
            InterfaceError: The subclass made something else than codes.
        """

    @abstractmethod
    def decode(self, codes_BL: Tensor) -> Tensor:
        """Depth maps [B, 1, H, W] in [0, 1] of codes [B, L].

        Raises:
            DataError: What is given are no codes.
            InterfaceError: The subclass made something else than depth in [0, 1].
        """

    @abstractmethod
    def soft_decode(self, probabilities_BLK: Tensor) -> Tensor:
        """Depth maps [B, 1, H, W] of a distribution over codes per cell: the paper's soft merging.

        Differentiable in the probabilities, averaged in float32; one-hot probabilities give `decode`.
        """


class CodebookDepthTokenizer(DepthTokenizer):
    """Where most authors start: give `encode`, `codebook_KC` and `decode_latents`; decoding is written once, here."""

    @property
    @abstractmethod
    def codebook_KC(self) -> Tensor:
        """The latent vector of every code [K, C], in the space `decode_latents` reads."""

    @abstractmethod
    def decode_latents(self, latents_BChw: Tensor) -> Tensor:
        """Depth maps [B, 1, H, W] of a grid of latents, not yet clipped to [0, 1]."""

    def decode(self, codes_BL: Tensor) -> Tensor:
        """See `DepthTokenizer.decode`."""
        return self._decode_rows(self.codebook_KC.detach()[codes_BL])

    def soft_decode(self, probabilities_BLK: Tensor) -> Tensor:
        """See `DepthTokenizer.soft_decode`; no gradient reaches the codebook."""
        codebook_KC = self.codebook_KC.detach()
        return self._decode_rows((probabilities_BLK.float() @ codebook_KC.float()).to(codebook_KC.dtype))

    def _decode_rows(self, latents_BLC: Tensor) -> Tensor:
        return clip_unit(
            self.decode_latents(
                latents_BLC.mT.reshape(len(latents_BLC), latents_BLC.shape[2], *self.spec.grid)
            )
        )


@runtime_checkable
class TrainableDepthTokenizer(Protocol):
    """A depth tokenizer that `perceptio train-depth-tokenizer` can train."""

    def reconstruct(self, depth_B1HW: Tensor, *, quantize: bool = True) -> DepthReconstruction:
        """Encode, quantize and decode with gradients; depth without NaN.

        Training begins with `quantize=False`: latents are decoded as they are, and codes only said.
        """
        ...

    def freeze(self) -> None:
        """End training on purpose: no later call may change a weight or a buffer."""
        ...


@attrs.frozen(kw_only=True)
class DepthTokenizerConfig(ComponentConfig, ABC):
    """Config of a depth tokenizer."""

    @property
    @abstractmethod
    def spec(self) -> DepthSpec:
        """Facts known without weights."""

    @abstractmethod
    def build(self) -> DepthTokenizer:
        """The tokenizer with random weights."""


def fill_unknown(depth_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Replace NaN by the mean of the known pixels of the same map.

    Returns:
        The filled maps and the mask of known pixels, both [B, 1, H, W].

    Raises:
        DataError: A map has no known pixel.
    """
    known_B1HW = ~depth_B1HW.isnan()
    counts_B = known_B1HW.flatten(1).sum(1)
    if not bool((counts_B > 0).all()):
        empty = (counts_B == 0).nonzero().flatten().tolist()
        raise DataError(
            f"Depth map(s) {empty} of a batch of {len(depth_B1HW)} have no known pixel: leave them out."
        )
    mean_B111 = depth_B1HW.nan_to_num(0.0).flatten(1).sum(1).div(counts_B).view(-1, 1, 1, 1)
    return torch.where(known_B1HW, depth_B1HW, mean_B111), known_B1HW


def clip_unit(values: Tensor) -> Tensor:
    """Clip to [0, 1] in the forward pass and pass the gradient through unchanged."""
    return values + (values.clamp(0.0, 1.0) - values).detach()
