"""Depth tokenizers: dense depth maps <-> a short sequence of codes that a language model can generate.

Shapes: B batch, H W pixels, h w grid cells, L = h*w codes, K codebook size, C latent width.
"""

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor

from perceptio.errors import DataError, InterfaceError, quoted
from perceptio.interfaces.component import described, device_of
from perceptio.interfaces.depth_maps import DepthConvention, stack_depth, to_maps
from perceptio.interfaces.maps import clip_unit, pixels_at
from perceptio.interfaces.perception import (
    CodeMeanings,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    Size,
)
from perceptio.interfaces.perception_checks import codes_problem
from perceptio.interfaces.tokens import CodeGroup, Codes, StreamSpec

ROUNDING = 1e-3
"""How far depth values may leave [0, 1]: half precision and resampling cause small excesses."""
DECODED_PIXELS = 2**19
"""`code_meanings` decodes batches of about this many pixels, to bound memory: 5 maps of 320 x 320."""
MOST_DECODED = 2048
"""`code_meanings` decodes no larger codebook, which would take minutes; it then returns vectors only."""


@attrs.frozen(kw_only=True)
class DepthSpec:
    """Facts about a depth tokenizer that are known without its weights.

    Attributes:
        codebook_size: The number of different codes, K.
        grid: Rows and columns of the code grid; the finest one if there are several scales.
        image_size: Height and width of the maps in pixels.
        convention: What a depth value means.
        scales: The grids from the coarsest to `grid`, for a tokenizer that writes a map coarse to fine. Empty if
            `grid` is the only one.
    """

    codebook_size: int
    grid: tuple[int, int]
    image_size: tuple[int, int]
    convention: DepthConvention
    scales: tuple[tuple[int, int], ...] = ()

    @property
    def num_codes(self) -> int:
        """The number of codes of one depth map, L."""
        return sum(rows * columns for rows, columns in self.scales or (self.grid,))

    @property
    def stream(self) -> StreamSpec:
        """How depth is written as a stream."""
        written = Codes.on_grid(self.codebook_size, self.grid)
        if self.scales:
            groups = tuple(CodeGroup.on_grid(scale) for scale in self.scales)
            written = Codes(codebook_sizes=(self.codebook_size,), groups=groups)
        return StreamSpec(written=written, target="depth", point_values=True)


def depth_problem(depth_B1HW: Tensor, spec: DepthSpec, *, unknown: bool = True) -> str | None:
    """Say why a value is not valid depth under a spec; None if it is valid.

    Args:
        depth_B1HW: Any value. On the meta device, which holds no values, only dtype and shape are checked.
        spec: The spec whose size it should have.
        unknown: Whether NaN, for unknown pixels, is allowed.

    Returns:
        Words that complete "depth that ...".
    """
    shape = (1, *spec.image_size)
    if not isinstance(depth_B1HW, Tensor):
        return f"is {quoted(depth_B1HW)} and no tensor"
    if not depth_B1HW.is_floating_point() or tuple(depth_B1HW.shape[1:]) != shape or depth_B1HW.ndim != 4:
        return (
            f"is {described(depth_B1HW)} and not floating-point [B, {', '.join(map(str, shape))}]: "
            "perceptio.interfaces.resize_maps brings maps to a size"
        )
    if depth_B1HW.is_meta or not depth_B1HW.numel():
        return None
    low, high = (x.item() for x in depth_B1HW.detach().nan_to_num(0.5, math.inf, -math.inf).aminmax())
    if low < -ROUNDING or high > 1 + ROUNDING:
        return (
            f"goes from {low:g} to {high:g} and not from 0 to 1: perceptio.interfaces.depth_maps.from_map brings "
            "metres and disparity to the tokenizer's convention"
        )
    if not unknown and bool(depth_B1HW.isnan().any()):
        return "has NaN"
    return None


def _checked_encode(encode: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(encode)
    def checked(self: Any, depth_B1HW: Tensor) -> Tensor:
        problem = depth_problem(depth_B1HW, self.spec)
        if problem:
            raise DataError(f"{type(self).__name__}.encode was given depth that {problem}.")
        codes_BL = encode(self, depth_B1HW)
        problem = codes_problem(codes_BL, self.spec.stream.written)
        if problem:
            raise InterfaceError(f"{self.known_as}.encode made codes that {problem}.")
        return codes_BL

    return checked


def _checked_decode(decode: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    @functools.wraps(decode)
    def checked(self: Any, codes_BL: Tensor) -> Tensor:
        problem = codes_problem(codes_BL, self.spec.stream.written)
        if problem:
            raise DataError(f"{type(self).__name__}.decode was given codes that {problem}.")
        depth_B1HW = decode(self, codes_BL)
        problem = depth_problem(depth_B1HW, self.spec, unknown=False)
        if problem:
            raise InterfaceError(f"{self.known_as}.decode made depth that {problem}.")
        return depth_B1HW

    return checked


class DepthTokenizer(PerceptionTokenizer):
    """Depth maps <-> codes. A subclass sets `spec` in its constructor.

    Depth is a float tensor [B, 1, H, W] with values in [0, 1] at `spec.image_size`. Input maps may hold NaN for
    unknown pixels; decoded maps never do. Codes are int64 [B, L] with 0 <= code < K, row-major over `spec.grid`; if
    there are `spec.scales`, they follow one another.

    The arguments and results of every subclass's `encode` and `decode` are checked with `depth_problem` and
    `codes_problem`. The checks wait for the device, so do not call these methods in a loop over codes. `soft_decode`,
    which training calls in every step, is not checked.
    """

    spec: DepthSpec
    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        **PerceptionTokenizer.checks,
        "encode": _checked_encode,
        "decode": _checked_decode,
    }

    @abstractmethod
    def encode(self, depth_B1HW: Tensor) -> Tensor:
        """Encode depth maps as codes [B, L], without gradient; unknown pixels are filled with `fill_unknown`.

        Raises:
            DataError: The argument is not depth in [0, 1] at `spec.image_size`, or a map has no known pixel.
            InterfaceError: The subclass returned invalid codes.
        """

    @abstractmethod
    def decode(self, codes_BL: Tensor) -> Tensor:
        """Decode codes [B, L] to depth maps [B, 1, H, W] in [0, 1].

        Raises:
            DataError: The argument is not valid codes.
            InterfaceError: The subclass returned something other than depth in [0, 1].
        """

    @abstractmethod
    def soft_decode(self, probabilities_BLK: Tensor) -> Tensor:
        """Decode one distribution over codes per cell to depth maps [B, 1, H, W]: the paper's soft merging.

        The result is differentiable in the probabilities. Latents are averaged in float32. One-hot probabilities
        give the same maps as `decode`.
        """

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: depth maps [T, 1, H, W] in the convention's [0, 1], NaN where unknown.

        Raises:
            DataError: As `from_map`, for instance if the convention is metric and a map is not in metres.
        """
        return stack_depth(raw, self.spec.convention, self.spec.image_size, device_of(self))

    def to_codes(self, targets: Tensor) -> Tensor:
        """See `PerceptionTokenizer.to_codes`."""
        return self.encode(targets)

    def from_codes(
        self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_codes`: maps [N, 1, H, W]."""
        return self.decode(codes_NL)

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_probabilities`: maps [N, 1, H, W]."""
        return self.soft_decode(probabilities[0])

    def shown(self, decoded: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: one `DepthMap` per row, at the tokenizer's own size."""
        return list(to_maps(decoded, self.spec.convention))

    def values_at(self, decoded: Tensor, points_NP2: Tensor) -> Tensor:
        """See `PerceptionTokenizer.values_at`: the nearness of the pixel that contains each point; 1 is the nearest.

        Nearness is linear in the tokenizer's own [0, 1]: in log depth under a metric convention, and in disparity
        under a relative one.
        """
        values_NP = pixels_at(decoded[:, 0], points_NP2)
        return 1 - values_NP if self.spec.convention.metric else values_NP

    @torch.no_grad()
    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """See `PerceptionTokenizer.code_meanings`: each code's vector, and the mean of a map of this code alone."""
        codebook_KC = getattr(self, "codebook_KC", None)
        values_KV = None
        if codebook_KC is None or self.spec.codebook_size <= MOST_DECODED:
            codes_K = torch.arange(self.spec.codebook_size, device=device_of(self))
            at_once = max(1, DECODED_PIXELS // math.prod(self.spec.image_size))
            means = [
                self.decode(codes_B[:, None].expand(-1, self.spec.num_codes)).flatten(1).mean(1)
                for codes_B in torch.split(codes_K, at_once)
            ]
            values_KV = torch.cat(means)[:, None]
        return (CodeMeanings(values_KV=values_KV, vectors_KC=codebook_KC),)


class CodebookDepthTokenizer(DepthTokenizer):
    """A depth tokenizer with a codebook, the usual base class for a new depth tokenizer.

    Implement `encode`, `codebook_KC` and `decode_latents`; this class provides `decode` and `soft_decode`. With
    several scales, override `latent_grid` as well, to combine the vectors of all scales into one grid.
    """

    @property
    @abstractmethod
    def codebook_KC(self) -> Tensor:
        """The latent vectors of all codes [K, C], in the space that `decode_latents` reads."""

    @abstractmethod
    def decode_latents(self, latents_BChw: Tensor) -> Tensor:
        """Decode a grid of latents to depth maps [B, 1, H, W], not yet clipped to [0, 1]."""

    def latent_grid(self, vectors_BLC: Tensor) -> Tensor:
        """Arrange the vectors of L codes as a grid of latents [B, C, h, w]; row by row by default.

        An override must be linear in the vectors.
        """
        latents_BCL = vectors_BLC.mT
        return latents_BCL.reshape(*latents_BCL.shape[:2], *self.spec.grid)

    def decode(self, codes_BL: Tensor) -> Tensor:
        """See `DepthTokenizer.decode`."""
        return self._decoded(self.codebook_KC.detach()[codes_BL])

    def soft_decode(self, probabilities_BLK: Tensor) -> Tensor:
        """See `DepthTokenizer.soft_decode`. No gradient reaches the codebook."""
        codebook_KC = self.codebook_KC.detach()
        return self._decoded((probabilities_BLK.float() @ codebook_KC.float()).to(codebook_KC.dtype))

    def _decoded(self, vectors_BLC: Tensor) -> Tensor:
        return clip_unit(self.decode_latents(self.latent_grid(vectors_BLC)))


@attrs.frozen(kw_only=True)
class DepthTokenizerConfig(PerceptionTokenizerConfig):
    """Config of a depth tokenizer."""

    @property
    @abstractmethod
    def spec(self) -> DepthSpec:
        """Facts about the tokenizer that are known without its weights."""

    @abstractmethod
    def build(self) -> DepthTokenizer:
        """Build the tokenizer with random weights."""
