"""Built-in losses."""

from perceptio.hookspecs import hookimpl
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.losses.code_tokens import (
    CountConfig,
    ExpectedCountConfig,
    MarkerConfig,
    TokenConfig,
)
from perceptio.losses.decoded_l1 import DecodedL1Config
from perceptio.losses.features import FeatureCosineConfig, FeatureMSEConfig
from perceptio.losses.mask_quality import MaskQualityConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.matched_masks import MatchedMasksConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig


@hookimpl
def register_losses() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [
        NextTokenConfig,
        MarkerConfig,
        TokenConfig,
        CountConfig,
        ExpectedCountConfig,
        SoftReconstructionConfig,
        CellCodesConfig,
        MaskBCEConfig,
        DiceConfig,
        MaskQualityConfig,
        DecodedL1Config,
        FeatureMSEConfig,
        FeatureCosineConfig,
        MatchedMasksConfig,
    ]
