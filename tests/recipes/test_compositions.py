"""Any built-in tokenizers, encoder and language backbone are one model: composed pairwise, trained, and asked."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import pytest
from small import scenes_folder
from tiny_parts import PARTS

from perceptio.data.folder import FolderDataset
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.interfaces import ComponentConfig, DepthMap, GenerationSettings, Kind
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.recipe import (
    DataConfig,
    DataFolder,
    Recipe,
    Stream,
    TokenizerTraining,
    TrainConfig,
    WeightedLoss,
)
from perceptio.registry import Registry
from perceptio.training.trainer import METRICS, train

Composition = tuple[str, ...]
"""A name of each kind, in the order of `PARTS`."""
LOSSES = (
    NextTokenConfig(),
    MarkerConfig(stream="depth"),
    TokenConfig(stream="depth"),
    CountConfig(stream="depth"),
    SoftReconstructionConfig(stream="depth"),
    MaskBCEConfig(stream="segmentation"),
    DiceConfig(stream="segmentation"),
)


def pairs_of(composition: Composition) -> set[tuple[int, str, int, str]]:
    """Every two names in a composition, each with the number of its kind."""
    return {(*one, *other) for one, other in combinations(enumerate(composition), 2)}


def pairwise(names: Sequence[Iterable[str]]) -> list[Composition]:
    """Compositions in which every two names of different kinds occur together.

    Greedy: each next one has the most new pairs, the first of those that have as many.
    """
    every = list(product(*names))
    missing = set().union(*map(pairs_of, every))
    chosen: list[Composition] = []
    while missing:
        chosen.append(max(every, key=lambda one: len(pairs_of(one) & missing)))
        missing -= pairs_of(chosen[-1])
    return chosen


REGISTRY = Registry.discover()
NAMES = {kind: [name for name in REGISTRY.names(kind) if "/" not in name] for kind in PARTS}
COMPOSITIONS = pairwise(list(NAMES.values()))


def test_every_two_parts_are_composed_and_few_compositions_suffice():
    for (one, ones), (other, others) in combinations(enumerate(NAMES.values()), 2):
        together = {(composition[one], composition[other]) for composition in COMPOSITIONS}
        assert together == set(product(ones, others))
    most = sorted(map(len, NAMES.values()))[-2:]
    assert most[0] * most[1] <= len(COMPOSITIONS) < len(list(product(*NAMES.values())))


def test_pairs_of_hand_checked_names_are_covered_by_four_compositions():
    assert pairwise(["ab", "cd", "ef"]) == [
        ("a", "c", "e"),
        ("a", "d", "f"),
        ("b", "c", "f"),
        ("b", "d", "e"),
    ]


def tiny(kind: Kind, name: str) -> ComponentConfig:
    """The small config of a registered part."""
    for config in PARTS[kind]:
        if REGISTRY.name_of(config) == name:
            return config
    raise AssertionError(
        f"{kind}:{name} is registered: give PARTS of tests/support/tiny_parts.py a small one."
    )


def composed(parts: Mapping[Kind, ComponentConfig], folder: str) -> Recipe:
    one_grid = (
        parts[Kind.DEPTH].spec.stream.written.grid is not None
    )  # Of codes at several scales there is none.
    return Recipe(
        name="composed",
        vision=parts[Kind.VISION],
        vision_head=MLPHeadConfig(),
        language=parts[Kind.LANGUAGE],
        streams=(
            Stream(name="segmentation", tokenizer=parts[Kind.SEGMENTATION], head=PromptMLPConfig()),
            Stream(
                name="depth",
                tokenizer=parts[Kind.DEPTH],
                training=TokenizerTraining(steps=3, batch_size=4, unquantized=0.0),
            ),
        ),
        answer_format="readout" if one_grid else "direct",
        losses=tuple(WeightedLoss(loss=loss) for loss in LOSSES),
        data=DataConfig(folders=(DataFolder(path=folder),)),
        train=TrainConfig(steps=2, micro_batch_size=2, warmup_steps=1, log_every=1),
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes", count=4)


@pytest.mark.parametrize("composition", COMPOSITIONS, ids="-".join)
def test_a_composition_trains_and_answers_with_every_stream(composition, scenes, tmp_path):
    parts = {kind: tiny(kind, name) for kind, name in zip(PARTS, composition, strict=True)}
    recipe = composed(parts, str(scenes))
    model = train(recipe, tmp_path)
    steps = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert {loss.term for loss in LOSSES} <= set().union(*steps)

    image = FolderDataset(scenes)[0].image_3HW
    settings = GenerationSettings(force=("segmentation", "depth"), max_new_tokens=4)
    answer = model.ask(
        image, "Which point is closest to the camera?", points=((0.2, 0.3), (0.7, 0.6)), settings=settings
    )
    spec = recipe.stream("depth").tokenizer.spec
    assert len(answer.codes["depth"]) == spec.stream.written.length
    assert isinstance(answer["depth"], DepthMap) and answer["depth"].values_HW.shape == spec.image_size
    assert len(answer["segmentation"]) >= 1
    assert all(mask_HW.shape == image.shape[1:] for mask_HW in answer["segmentation"])
