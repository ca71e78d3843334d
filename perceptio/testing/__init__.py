"""What plugin authors get: for each interface a class of tests that every part must pass.

    # tests/test_my_tokenizer.py
    from perceptio.testing import DepthTokenizerConformance

    class TestMyTokenizer(DepthTokenizerConformance):
        config = MyDepthConfig(codebook_size=16, grid=(4, 4), image_size=(32, 32))

pytest collects the inherited tests. They need no weights, no GPU and no network, and take seconds on small sizes; the
library runs its own parts through them, and plants bugs to see that they fail.
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
