"""The paper's Perceptio with another segmentation tokenizer: learned per-pixel features instead of SAM 2.

One line replaces a segmentation tokenizer by another one. The width of its head, the vocabulary and the inputs of the
losses are derived. This tokenizer has no pretrained weights, so all of it is trained.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig


def recipe() -> Recipe:
    """Return the paper's composition at 8B, with `pixel_features`."""
    masks = PixelFeaturesConfig(image_size=(512, 512), widths=(32, 64, 128, 256), feature_dim=64)
    return _with(load_recipe("perceptio_8b.py", beside=__file__), "other-masks", masks)


def tiny() -> Recipe:
    """Return the same recipe at sizes for a CPU."""
    masks = PixelFeaturesConfig(image_size=(32, 32), widths=(8, 8), feature_dim=8)
    return _with(load_recipe("perceptio_8b.py:tiny", beside=__file__), "other-masks-tiny", masks)


def _with(base: Recipe, name: str, masks: PixelFeaturesConfig) -> Recipe:
    trained = [group for group in base.train.train if not group.startswith("streams.")]
    return attrs.evolve(
        base.with_stream("segmentation", tokenizer=masks),
        name=name,
        train=attrs.evolve(base.train, train=(*trained, "streams.segmentation.*")),
    )
