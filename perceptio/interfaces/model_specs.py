"""What a model will be, as far as its losses and heads may know it: specs and token ids, no part and no weights."""

import attrs

from perceptio.interfaces.depth import DepthSpec
from perceptio.interfaces.language import LanguageSpec
from perceptio.interfaces.records import TokenBlock, TokenSpan
from perceptio.interfaces.segmentation import SegmentationSpec
from perceptio.interfaces.vision import VisionSpec


@attrs.frozen(kw_only=True)
class ModelSpecs:
    """The one value from which losses and heads are built.

    Attributes:
        vision: Facts of the vision encoder.
        language: Facts of the language backbone.
        depth: Facts of the depth tokenizer; None in a model without.
        depth_block: The ids of a block of depth tokens; None in a model without.
        segmentation: Facts of the segmentation tokenizer; None in a model without.
        mask_codes: The ids of mask codes; None where masks are decoded from hidden states, or there are none.
        locations: The ids of location tokens, row-major over the depth grid.
        vocab_size: How many ids there are in all, V.
        heads: Names of the auxiliary heads, which a loss reads as `"heads.NAME"`.
    """

    vision: VisionSpec
    language: LanguageSpec
    depth: DepthSpec | None = None
    depth_block: TokenBlock | None = None
    segmentation: SegmentationSpec | None = None
    mask_codes: TokenSpan | None = None
    locations: TokenSpan
    vocab_size: int
    heads: tuple[str, ...] = ()
