"""The paper's Perceptio with masks of another kind: prompts against per-pixel features, learned here, and no SAM 2.

A segmentation tokenizer takes the place of another in one line; the width of its head, the vocabulary and what the
losses compare follow. This one has no pretrained weights, so that all of it trains.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig


def recipe() -> Recipe:
    """The paper's composition at 8B, with `pixel_features`."""
    masks = PixelFeaturesConfig(image_size=(512, 512), widths=(32, 64, 128, 256), feature_dim=64)
    return _with(load_recipe("perceptio_8b.py", beside=__file__), "other-masks", masks)


def tiny() -> Recipe:
    """The same at sizes for a CPU."""
    masks = PixelFeaturesConfig(image_size=(32, 32), widths=(8, 8), feature_dim=8)
    return _with(load_recipe("perceptio_8b.py:tiny", beside=__file__), "other-masks-tiny", masks)


def _with(base: Recipe, name: str, masks: PixelFeaturesConfig) -> Recipe:
    trained = [group for group in base.train.train if not group.startswith("streams.")]
    return attrs.evolve(
        base.with_stream("segmentation", tokenizer=masks),
        name=name,
        train=attrs.evolve(base.train, train=(*trained, "streams.segmentation.*")),
    )
