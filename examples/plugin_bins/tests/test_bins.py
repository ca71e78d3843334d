from perceptio_bins import BinsDepthConfig

from perceptio.testing import DepthTokenizerConformance


class TestBins(DepthTokenizerConformance):
    config = BinsDepthConfig(bins=32, grid=(4, 6), image_size=(16, 24))
    fidelity = 0.05
