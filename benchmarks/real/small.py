"""`perceptio_135m` at a size that two CPU cores train in minutes, on weights and pictures of this machine.

    perceptio train benchmarks/real/small.py --arg weights=build/real/weights --arg pictures=build/real/way --out …

Parts, losses and their weights are the recipe's, with masks from features of pixels. Ours are the sizes: pictures of
224 pixels in 64 tokens, small depth maps, ten codes a step, adapters in place of the whole language model, and one
conversation of two questions a step. The adapters learn more slowly than what starts from random values.
"""

import attrs

from perceptio.backbones.language.hf import LoRA
from perceptio.losses.code_tokens import ExpectedCountConfig
from perceptio.recipe import DataFolder, Recipe, TokenizerTraining
from perceptio.settings import load_recipe

SIDE = 224


def recipe(weights: str, pictures: str, steps: int = 300) -> Recipe:
    """The small setting.

    Args:
        weights: The folder that `weights.py` made.
        pictures: Holds the data folders that `whole_way.py` imports.
        steps: Of training.
    """
    base = load_recipe("perceptio_135m", masks="pixel_features")
    dinov2, smollm2 = f"{weights}/dinov2-small", f"{weights}/smollm2-135m"
    vision = attrs.evolve(base.vision, weights=dinov2, image_size=(SIDE, SIDE), grid=(8, 8))
    masks = attrs.evolve(
        base.stream("segmentation").tokenizer,
        image_size=(SIDE, SIDE),
        widths=(16, 32, 64, 128),
        backbone=attrs.evolve(vision, grid=None),
    )
    depth = attrs.evolve(
        base.stream("depth").tokenizer, image_size=(80, 80), widths=(16, 32, 64), latent_dim=32
    )
    small = base.with_stream("segmentation", tokenizer=masks).with_stream(
        "depth", tokenizer=depth, codes_per_step=10, training=TokenizerTraining(steps=300, batch_size=8)
    )
    return attrs.evolve(
        small,
        name="perceptio-135m-small",
        vision=vision,
        language=attrs.evolve(
            base.language,
            weights=smollm2,
            text_tokenizer_files=smollm2,
            dtype="bfloat16",
            lora=LoRA(rank=16, alpha=32),
        ),
        # It describes blocks that are written code by code.
        losses=tuple(one for one in base.losses if not isinstance(one.loss, ExpectedCountConfig)),
        data=attrs.evolve(
            base.data,
            folders=(
                DataFolder(path=f"{pictures}/objects/train"),
                DataFolder(path=f"{pictures}/points/train"),
            ),
            mixture={"referring": 2.0, "relative_depth": 1.0},
            turns=2,
        ),
        train=attrs.evolve(
            base.train,
            steps=steps,
            micro_batch_size=1,
            grad_accumulation=1,
            lr=1e-3,
            lr_scale={"language.lora": 0.3},
            warmup_steps=20,
            log_every=10,
            save_every=100,
            train=("language.lora", "language.vocabulary", *base.train.train[:1], *base.train.train[2:]),
        ),
    )
