"""Conformance tests for plugin authors: a test class for each interface that every component must pass.

    # tests/test_my_tokenizer.py
    from perceptio.testing import DepthTokenizerConformance

    class TestMyTokenizer(DepthTokenizerConformance):
        config = MyDepthConfig(codebook_size=16, grid=(4, 4), image_size=(32, 32))

pytest collects the inherited tests. They need no weights, no GPU and no network, and take seconds at small sizes. The
library runs its own components through them, and injects bugs to verify that they fail.
"""

from perceptio.testing.depth import DepthTokenizerConformance
from perceptio.testing.head import HeadConformance, RowHeadConformance
from perceptio.testing.language import LanguageBackboneConformance
from perceptio.testing.loss import LossConformance
from perceptio.testing.perception import PerceptionTokenizerConformance
from perceptio.testing.segmentation import SegmentationTokenizerConformance
from perceptio.testing.source import SourceConformance
from perceptio.testing.task import TaskConformance
from perceptio.testing.teacher import TeacherConformance
from perceptio.testing.vision import VisionEncoderConformance

__all__ = [
    "DepthTokenizerConformance",
    "HeadConformance",
    "LanguageBackboneConformance",
    "LossConformance",
    "PerceptionTokenizerConformance",
    "RowHeadConformance",
    "SegmentationTokenizerConformance",
    "SourceConformance",
    "TaskConformance",
    "TeacherConformance",
    "VisionEncoderConformance",
]
