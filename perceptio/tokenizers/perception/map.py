"""A dense map of the data folder, such as edges or surface normals, as discrete codes on a grid.

Shapes: T N maps, M channels of a map, H W pixels, L codes, K codebook size.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import (
    NO_MAPS,
    CodeMeanings,
    Codes,
    Kind,
    PerceptionSpec,
    Reconstruction,
    Size,
    StreamSpec,
    device_of,
)
from perceptio.interfaces.maps import pixels_at, resize_maps, stack_known
from perceptio.ops.wording import number_of
from perceptio.tokenizers._autoencoder import (
    Autoencoder,
    AutoencoderConfig,
    FSQAutoencoderConfig,
    Quantizer,
    VQAutoencoderConfig,
)

ROUNDING = 1e-3
"""How far values may leave their range, as a share of it: half precision and resampling cause small excesses."""


class MapTokenizer(Autoencoder):
    """A tokenizer that encodes, quantizes and decodes maps with a value range of their own, NaN where unknown."""

    def __init__(
        self,
        spec: PerceptionSpec,
        parts: tuple[nn.Sequential, Quantizer, nn.Sequential],
        *,
        channels: int,
        map_size: tuple[int, int],
        grid: tuple[int, int],
        value_range: tuple[float, float],
        unit_vectors: bool,
        squared_error: float,
    ) -> None:
        super().__init__(spec, parts, channels=channels, map_size=map_size, grid=grid)
        self.low, self.high = value_range
        self.unit_vectors = unit_vectors
        self.squared_error = squared_error

    def targets(self, raw: Sequence[np.ndarray | None]) -> Tensor:
        """See `PerceptionTokenizer.targets`: maps [T, M, H, W], with known values averaged over areas.

        Raises:
            DataError: A map has another number of channels, or values outside the range.
        """
        device = device_of(self)
        known = (None if values_HWM is None else self._resized(values_HWM, device) for values_HWM in raw)
        maps_TMHW = stack_known(known, self.map_shape, device)
        return F.normalize(maps_TMHW, dim=1) if self.unit_vectors else maps_TMHW

    def _resized(self, values_HWM: np.ndarray, device: torch.device) -> Tensor:
        (channels, height, width), name = self.map_shape, self.spec.stream.target
        if values_HWM.ndim != 3 or values_HWM.shape[2] != channels:
            raise DataError(
                f"A map {name!r} has the shape {list(values_HWM.shape)}, and the tokenizer is set to "
                f"{number_of(channels, 'channel')}: it must be [H, W, channels]."
            )
        slack = ROUNDING * (self.high - self.low)
        known = values_HWM[~np.isnan(values_HWM)]
        if known.size and not (known.min() >= self.low - slack and known.max() <= self.high + slack):
            raise DataError(
                f"A map {name!r} goes from {known.min():g} to {known.max():g}, and the tokenizer is set to values "
                f"from {self.low:g} to {self.high:g}: set low and high to the range of the data."
            )
        values_MHW = torch.from_numpy(values_HWM.astype(np.float32)).to(device).permute(2, 0, 1)
        return resize_maps(values_MHW[None], (height, width))[0]

    def to_unit(self, maps_TMHW: Tensor) -> Tensor:
        """See `Autoencoder.to_unit`."""
        return (maps_TMHW - self.low) / (self.high - self.low)

    def from_unit(self, maps_TMHW: Tensor) -> Tensor:
        """See `Autoencoder.from_unit`; unit vectors are also normalized."""
        values_TMHW = self.low + (self.high - self.low) * maps_TMHW
        return F.normalize(values_TMHW, dim=1) if self.unit_vectors else values_TMHW

    def reconstruct(self, targets: Tensor, *, quantize: bool = True) -> Reconstruction:
        """See `Autoencoder.reconstruct`; the squared error is added to the auxiliary loss."""
        made = super().reconstruct(targets, quantize=quantize)
        scale = self.squared_error / (self.high - self.low) ** 2
        return attrs.evolve(
            made, auxiliary_loss=made.auxiliary_loss + scale * F.mse_loss(made.values, targets)
        )

    def mirrored(self, targets: Tensor) -> Tensor:
        """See `PerceptionTokenizer.mirrored`; the first component of unit vectors, to the right, changes its sign."""
        mirrored_TMHW = targets.flip(-1)
        if self.unit_vectors:
            mirrored_TMHW[:, 0].neg_()
        return mirrored_TMHW

    def to_codes(self, targets: Tensor) -> Tensor:
        """See `PerceptionTokenizer.to_codes`; unknown values become the mean of the known ones.

        Raises:
            DataError: A channel of a map has no known pixel.
        """
        return self.codes_of(targets)

    def from_codes(
        self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_codes`: maps [N, M, H, W]."""
        return self.maps_of_codes(codes_NL)

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_probabilities`: maps [N, M, H, W]."""
        return self.maps_of_probabilities(probabilities[0])

    def values_at(self, decoded: Tensor, points_NP2: Tensor) -> Tensor:
        """See `PerceptionTokenizer.values_at`: the pixel that contains each point, scaled from `low`, `high` to 0, 1.

        Only maps with one channel have such values.
        """
        if not self.spec.stream.point_values:
            return super().values_at(decoded, points_NP2)
        return self.to_unit(pixels_at(decoded[:, 0], points_NP2)).clamp(0, 1)

    def shown(self, decoded: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: one float32 array [H, W, M] per row, at the tokenizer's own size."""
        return list(decoded.detach().float().permute(0, 2, 3, 1).cpu().numpy())

    def compare(self, decoded: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """See `PerceptionTokenizer.compare`: the mean absolute error, or the mean angle in degrees of unit vectors.

        Maps with one channel also have the correlation with the target. In sparse maps, such as edges, a blank
        prediction has a small error but no correlation.
        """
        if not self.unit_vectors:
            figures = dict(super().compare(decoded, targets))
            return figures | (
                {"correlation": _correlation(decoded, targets)} if decoded.shape[1] == 1 else {}
            )
        # For unit vectors. Unlike the arc cosine of their dot product, this is also exact for small angles.
        half_NHW = torch.atan2((decoded - targets).norm(dim=1), (decoded + targets).norm(dim=1))
        return {"angle_degrees": (2 * half_NHW).rad2deg().flatten(1).nanmean(1)}

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """See `PerceptionTokenizer.code_meanings`: each code's vector, and the mean of a map of this code alone."""
        return (CodeMeanings(values_KV=self.means_of_codes(), vectors_KC=self.codebook_KC),)


def _correlation(made_N1HW: Tensor, targets_N1HW: Tensor) -> Tensor:
    """Return Pearson's correlation [N] over the known pixels of pairs of maps.

    It is 0 if one of the maps is constant, and NaN if no pixel is known.
    """
    known_N1HW = ~targets_N1HW.isnan()
    made_NX, targets_NX = (
        torch.where(known_N1HW, maps, torch.nan).flatten(1) for maps in (made_N1HW, targets_N1HW)
    )
    made_NX, targets_NX = (maps - maps.nanmean(1, keepdim=True) for maps in (made_NX, targets_NX))
    norms_N = (made_NX.square().nansum(1) * targets_NX.square().nansum(1)).sqrt()
    products_N = (made_NX * targets_NX).nansum(1)
    correlation_N = torch.where(norms_N > 0, products_N / norms_N.clamp_min(1e-12), 0.0)
    return torch.where(known_N1HW.flatten(1).any(1), correlation_N, torch.nan)


# slots=False because Python cannot combine these slots with those of the quantizer's config in one subclass.
@attrs.frozen(kw_only=True, slots=False)
class MapConfig(AutoencoderConfig):
    """Settings that all tokenizers of maps share, besides the sizes of the network.

    Attributes:
        map: The name of the map in the data folder.
        channels: The number of values per pixel, M.
        low: The smallest value.
        high: The largest value.
        unit_vectors: Whether each pixel is a unit vector, such as a surface normal, whose first component points to
            the right. Decoded vectors are then normalized, compared by their angle, and mirrored correctly.
        squared_error: The weight of the squared error in training, in addition to the absolute error, for values
            scaled to [0, 1]. Without it, thin lines, which cover less than half of their surroundings, are
            reconstructed as blank (ours).

    Raises:
        RecipeError: A value is out of range, `map` is empty or one of `NO_MAPS`, or the settings do not fit together.
    """

    map: str
    channels: int = 1
    low: float = 0.0
    high: float = 1.0
    unit_vectors: bool = False
    squared_error: float = 4.0

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.map in NO_MAPS or not self.map:
            raise RecipeError(
                f"{self.name}: map is {self.map!r}; it must be the name of a map of the data folder, and none of "
                f"{', '.join(NO_MAPS)}."
            )
        if self.channels < 1 or not self.low < self.high or self.squared_error < 0:
            raise RecipeError(
                f"{self.name}: channels ({self.channels}) must be at least 1, low ({self.low:g}) below high "
                f"({self.high:g}), and squared_error ({self.squared_error:g}) not negative."
            )
        if self.unit_vectors and (self.channels < 2 or not self.low < 0 < self.high):
            raise RecipeError(
                f"{self.name}: unit vectors have at least 2 channels and values on both sides of 0, and channels is "
                f"{self.channels}, low {self.low:g}, high {self.high:g}."
            )

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`."""
        written = Codes.on_grid(self.codebook_size, self.grid)
        stream = StreamSpec(written=written, target=self.map, point_values=self.channels == 1)
        return PerceptionSpec(stream=stream)

    def build(self) -> MapTokenizer:
        """See `PerceptionTokenizerConfig.build`."""
        return MapTokenizer(
            self.spec,
            self.new_parts(self.channels),
            channels=self.channels,
            map_size=self.image_size,
            grid=self.grid,
            value_range=(self.low, self.high),
            unit_vectors=self.unit_vectors,
            squared_error=self.squared_error,
        )


@attrs.frozen(kw_only=True)
class MapVQVAEConfig(VQAutoencoderConfig, MapConfig):
    """A map as codes of a VQ-VAE; the default sizes are those of AURORA's depth tokenizer."""

    name: ClassVar[str] = "map_vqvae"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)


@attrs.frozen(kw_only=True)
class MapFSQConfig(FSQAutoencoderConfig, MapConfig):
    """A map as codes of a fixed lattice (FSQ, arXiv 2309.15505)."""

    name: ClassVar[str] = "map_fsq"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)
