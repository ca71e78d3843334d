"""The paper's depth tokenizer, trained on a teacher's maps: 10x10 codes out of 128 for 320x320 relative depth.

    perceptio depth-targets PHOTOS --teacher depth-anything-v2-small --out runs/targets
    perceptio train-tokenizer depth_tokenizer_320 --data runs/targets --out runs/codebook
    perceptio tokenize runs/codebook runs/targets/depth/PHOTO.jpg.png

The network and its learning rate, batch and steps are AURORA's; the schedule is ours. A recipe always describes a
whole model, so the tokenizer is part of the small Perceptio, which can be trained with it to draw depth maps:

    perceptio train depth_tokenizer_320 --set streams.depth.tokenizer.weights=runs/codebook --out runs/drawing
"""

import attrs

from perceptio.recipe import DataConfig, DataFolder, Recipe, TokenizerTraining
from perceptio.settings import load_recipe
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig


def recipe() -> Recipe:
    """Return the small Perceptio with the paper's depth tokenizer."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(
        base.with_stream(
            "depth",
            tokenizer=VQVAEDepthConfig(codebook_size=128, grid=(10, 10), image_size=(320, 320)),
            training=TokenizerTraining(steps=50_000, batch_size=8, lr=3e-4, warmup_steps=500),
        ),
        name="depth-tokenizer-320",
        data=DataConfig(folders=(DataFolder(path="runs/targets"),), mixture={"depth_map": 1.0}, turns=1),
    )
