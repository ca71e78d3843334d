"""Built-in losses."""

from perceptio.hookspecs import hookimpl
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.losses.depth_reconstruction import DepthReconstructionConfig
from perceptio.losses.depth_tokens import (
    DepthCountConfig,
    DepthMarkerConfig,
    DepthTokenConfig,
    ExpectedCountConfig,
)
from perceptio.losses.mask_quality import MaskQualityConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.next_token import NextTokenConfig


@hookimpl
def register_losses() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [
        NextTokenConfig,
        DepthMarkerConfig,
        DepthTokenConfig,
        DepthCountConfig,
        ExpectedCountConfig,
        DepthReconstructionConfig,
        MaskBCEConfig,
        DiceConfig,
        MaskQualityConfig,
        CellCodesConfig,
    ]
