"""Depth tokenizers with an autoencoder. Depth is in [0, 1] outside and in [-1, 1] inside, as in AURORA's weights."""

import attrs
from torch import Tensor, nn

from perceptio.interfaces import (
    CodebookDepthTokenizer,
    CodeMeanings,
    DepthConvention,
    DepthSpec,
    DepthTokenizerConfig,
)
from perceptio.tokenizers._autoencoder import Autoencoder, AutoencoderConfig, Quantizer


class AutoencoderDepthTokenizer(Autoencoder, CodebookDepthTokenizer):
    """A depth tokenizer that encodes, quantizes and decodes maps with an autoencoder."""

    spec: DepthSpec

    def __init__(self, spec: DepthSpec, parts: tuple[nn.Sequential, Quantizer, nn.Sequential]) -> None:
        super().__init__(spec, parts, channels=1, map_size=spec.image_size, grid=spec.grid)

    def encode(self, depth_B1HW: Tensor) -> Tensor:
        """See `DepthTokenizer.encode`."""
        return self.codes_of(depth_B1HW)

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """See `PerceptionTokenizer.code_meanings`; with several scales, what a code means at the coarsest scale."""
        if not self.spec.scales:
            return super().code_meanings()
        return (CodeMeanings(values_KV=self.means_of_codes(), vectors_KC=self.codebook_KC),)


# slots=False because Python cannot combine these slots with those of the quantizer's config in one subclass.
@attrs.frozen(kw_only=True, slots=False)
class AutoencoderDepthConfig(AutoencoderConfig, DepthTokenizerConfig):
    """Settings that all depth autoencoders share.

    Attributes:
        convention: What a depth value means.
    """

    convention: DepthConvention = attrs.field(factory=DepthConvention)

    @property
    def spec(self) -> DepthSpec:
        """See `DepthTokenizerConfig.spec`."""
        return DepthSpec(
            codebook_size=self.codebook_size,
            grid=self.grid,
            image_size=self.image_size,
            convention=self.convention,
        )

    def build(self) -> AutoencoderDepthTokenizer:
        """See `DepthTokenizerConfig.build`."""
        return AutoencoderDepthTokenizer(self.spec, self.new_parts(1))
