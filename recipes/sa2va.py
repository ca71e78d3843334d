"""Sa2VA (arXiv 2501.04001) on images: InternVL2.5 whose [SEG] tokens prompt SAM 2.

    perceptio explain sa2va --arg size=1b
    perceptio train sa2va --out runs/sa2va

docs/published.md says which numbers are from the paper, which from its code, and which are ours.
"""

import attrs

from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import Recipe, WeightedLoss
from perceptio.settings import load_recipe

TASKS = {"referring": 258_000, "chat": 665_000}
"""Conversations per epoch: the images of RefCOCO, RefCOCO+ and RefCOCOg times their repeats, LLaVA's mixture once."""


def recipe(size: str = "8b") -> Recipe:
    """Return the published composition.

    Args:
        size: The size of InternVL2.5: "1b", "4b" or "8b".
    """
    perceptio = load_recipe("perceptio_8b.py", beside=__file__, size=size)
    steps = sum(TASKS.values()) // (perceptio.train.micro_batch_size * perceptio.train.grad_accumulation)
    masks = perceptio.stream("segmentation")
    sam = attrs.evolve(masks.tokenizer, version="2", weights="facebook/sam2-hiera-large")
    return attrs.evolve(
        perceptio,
        name=f"sa2va-{size}",
        streams=(attrs.evolve(masks, tokenizer=sam),),
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=MaskBCEConfig(stream="segmentation"), weight=2.0),
            WeightedLoss(loss=DiceConfig(stream="segmentation"), weight=0.5),
        ),
        data=attrs.evolve(
            perceptio.data,
            folders=tuple(folder for folder in perceptio.data.folders if folder.path != "data/ade20k"),
            mixture=TASKS,
        ),
        train=attrs.evolve(perceptio.train, steps=steps, warmup_steps=round(0.05 * steps)),
    )


def tiny(size: str = "8b") -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights.

    Args:
        size: The InternVL2.5 whose type of language model is used.
    """
    paper = recipe(size)
    small = load_recipe("perceptio_8b.py:tiny", beside=__file__, size=size)
    sam = attrs.evolve(small.stream("segmentation").tokenizer, version="2")
    return attrs.evolve(
        small,
        name=f"{paper.name}-tiny",
        streams=(attrs.evolve(small.stream("segmentation"), tokenizer=sam),),
        losses=paper.losses,
        data=attrs.evolve(small.data, mixture={"referring": 1.0}),
    )
