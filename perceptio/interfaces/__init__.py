"""The ground of the library: what each kind of part promises. Nothing here has a choice in it."""

from perceptio.interfaces.component import (
    INTERFACE_VERSION,
    ComponentConfig,
    Kind,
    device_of,
    parameter_groups,
)
from perceptio.interfaces.depth import (
    CodebookDepthTokenizer,
    DepthConvention,
    DepthReconstruction,
    DepthSpec,
    DepthTokenizer,
    DepthTokenizerConfig,
    TrainableDepthTokenizer,
    clip_unit,
    fill_unknown,
)
from perceptio.interfaces.head import Head, HeadConfig
from perceptio.interfaces.language import (
    ChatTemplate,
    LanguageBackbone,
    LanguageBackboneConfig,
    LanguageSpec,
    MergeableAdapters,
    SequenceLayout,
    TextTokenizer,
    text_positions,
)
from perceptio.interfaces.loss import Loss, LossConfig, LossValue
from perceptio.interfaces.model_specs import ModelSpecs
from perceptio.interfaces.records import (
    Batch,
    DepthMap,
    Part,
    PerceptionOutput,
    Sample,
    TokenBlock,
    TokenSpan,
    Turn,
)
from perceptio.interfaces.segmentation import (
    MaskCodes,
    MaskPrediction,
    SegmentationSpec,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
)
from perceptio.interfaces.vision import VisionEncoder, VisionEncoderConfig, VisionFeatures, VisionSpec

__all__ = [
    "INTERFACE_VERSION",
    "Batch",
    "ChatTemplate",
    "CodebookDepthTokenizer",
    "ComponentConfig",
    "DepthConvention",
    "DepthMap",
    "DepthReconstruction",
    "DepthSpec",
    "DepthTokenizer",
    "DepthTokenizerConfig",
    "Head",
    "HeadConfig",
    "Kind",
    "LanguageBackbone",
    "LanguageBackboneConfig",
    "LanguageSpec",
    "Loss",
    "LossConfig",
    "LossValue",
    "MaskCodes",
    "MaskPrediction",
    "MergeableAdapters",
    "ModelSpecs",
    "Part",
    "PerceptionOutput",
    "Sample",
    "SegmentationSpec",
    "SegmentationTokenizer",
    "SegmentationTokenizerConfig",
    "SequenceLayout",
    "TextTokenizer",
    "TokenBlock",
    "TokenSpan",
    "TrainableDepthTokenizer",
    "Turn",
    "VisionEncoder",
    "VisionEncoderConfig",
    "VisionFeatures",
    "VisionSpec",
    "clip_unit",
    "device_of",
    "fill_unknown",
    "parameter_groups",
    "text_positions",
]
