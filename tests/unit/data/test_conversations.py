"""Which conversations are drawn, from a data set of three images held in memory."""

import math
from fractions import Fraction

import attrs
import numpy as np
import pytest
import torch
from fakes import BrightnessConfig, tiny_recipe
from hypothesis import given
from hypothesis import strategies as st

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.data.collate import Collate
from perceptio.data.conversations import ConversationSampler, auxiliary_count
from perceptio.errors import DataError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.interfaces import LETTERS, DepthMap, Sample, Turn
from perceptio.model.parts import build_part
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream
from perceptio.tasks.plain import PlainTaskConfig
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapFSQConfig

POINTS = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.9))
MARKED = Turn(question="Which point is closest?", answer="(C)", task="relative_depth", points=POINTS)
REFERRING = Turn(
    question="Please segment the red sphere in this image.",
    answer="Sure",
    task="referring",
    masks=(np.ones((16, 16), dtype=bool),),
)
PLAIN = Turn(question="Which", answer="red", task="attribute")


class Images:
    """Three images: all kinds of turn, a marked-point question alone, an attribute alone without depth."""

    def __init__(self) -> None:
        self._turns = [(MARKED, REFERRING, PLAIN), (MARKED,), (PLAIN,)]
        self.tasks = [{turn.task for turn in turns} for turns in self._turns]

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, number: int) -> Sample:
        return Sample(
            turns=self._turns[number], image_3HW=torch.full((3, 16, 16), number / 4), depth=self.depth(number)
        )

    def with_target(self, name: str) -> np.ndarray:
        return np.flatnonzero([self[number].has_target(name) for number in range(len(self))])

    def image(self, number: int) -> torch.Tensor:
        return torch.full((3, 16, 16), number / 4)

    def turns(self, number: int) -> tuple[Turn, ...]:
        return self._turns[number]

    def depth(self, number: int) -> DepthMap | None:
        return (
            None
            if number == 2
            else DepthMap(values_HW=np.full((16, 16), 2.0, dtype=np.float32), unit="metres")
        )


CODES = torch.tensor([[1] * 16, [2] * 16, [-1] * 16])


def recipe_with(**data: object) -> Recipe:
    config = DataConfig(folders=(DataFolder(path="unused"),), **data)
    return tiny_recipe(data=config)


def drawn(recipe: Recipe, count: int = 60, codes: torch.Tensor = CODES) -> list[Sample]:
    return ConversationSampler(recipe, [Images()], {"depth": [codes]}).draw(0, count)


def test_what_reads_the_depth_block_comes_last_and_the_block_before_it() -> None:
    with_block = set()
    for sample in drawn(recipe_with(perceive="before", turns=2)):
        tasks = [turn.task for turn in sample.turns]
        assert "relative_depth" not in tasks[:-1]
        expected = [task in ("relative_depth", "referring") for task in tasks].index(True)
        expected = tasks.index("relative_depth") if "relative_depth" in tasks else expected
        assert [number for number, turn in enumerate(sample.turns) if "depth" in turn.perceive] == [expected]
        for turn in sample.turns:
            assert ("segmentation" in turn.perceive) == (turn.task == "referring")
        with_block.add((tasks[expected], sample.turns[expected].perceive))
    assert with_block == {("relative_depth", ("depth",)), ("referring", ("segmentation", "depth"))}


def test_a_depth_map_that_is_asked_for_holds_the_block() -> None:
    for sample in drawn(recipe_with(mixture={"depth_map": 1.0})):
        (asked,) = (turn for turn in sample.turns if turn.task == "depth_map")
        assert asked.perceive == ("depth",)
        assert sum("depth" in turn.perceive for turn in sample.turns) == 1


@pytest.mark.parametrize("perceive", ["before", "separate_task", "never"])
def test_a_task_may_write_its_turn_from_the_sample(perceive: str) -> None:
    """Of any image, the third too, which has no target; and it may perceive first."""
    recipe = recipe_with(mixture={"brightness": 1.0}, perceive=perceive, turns=1)
    recipe = attrs.evolve(recipe, tasks={"brightness": BrightnessConfig()}, answer_format="direct")
    asked = {}
    for sample in drawn(recipe):
        (turn,) = (turn for turn in sample.turns if turn.task == "brightness")
        asked[turn.answer] = turn.perceive
    depth = ("depth",) if perceive == "before" else ()
    assert asked == {"0%": depth, "25%": depth, "50%": ()}


def test_apart_the_block_is_the_last_turn_that_no_answer_sees() -> None:
    for sample in drawn(recipe_with(perceive="separate_task")):
        *answers, last = sample.turns
        assert (last.question, last.perceive) == ("What is the depth map of this image?", ("depth",))
        assert not any("depth" in turn.perceive for turn in answers)


def test_never_means_neither_depth_nor_masks() -> None:
    recipe = attrs.evolve(recipe_with(perceive="never"), answer_format="direct")
    samples = drawn(recipe)

    assert {turn.task for sample in samples for turn in sample.turns} == {"relative_depth", "attribute"}
    assert not any(turn.perceive for sample in samples for turn in sample.turns)


def test_marks_are_shuffled_and_the_answer_with_them() -> None:
    answers = set()
    for sample in drawn(recipe_with(mixture={"relative_depth": 1.0})):
        for turn in sample.turns:
            if turn.task == "relative_depth":
                right = turn.points[LETTERS.index(turn.answer.strip("()"))]
                assert right == POINTS[2]
                answers.add(turn.answer)
    assert answers == {"(A)", "(B)", "(C)"}


def test_only_so_many_images_questions_are_used() -> None:
    samples = drawn(recipe_with(max_questions=1))

    marked = [s for s in samples if any(turn.task == "relative_depth" for turn in s.turns)]
    assert marked
    assert all(float(sample.image_3HW[0, 0, 0]) == 0.0 for sample in marked)


def test_a_step_is_drawn_the_same_whenever_it_is_drawn() -> None:
    sampler = ConversationSampler(recipe_with(), [Images()], {"depth": [CODES]})

    def told(step: int) -> list[list[tuple[str, str]]]:
        return [[(turn.question, turn.answer) for turn in sample.turns] for sample in sampler.draw(step, 20)]

    assert told(7) == told(7)
    assert told(7) != told(8)


@pytest.mark.parametrize(
    ("lesson", "perceived"), [("text_only_readout", ("depth",)), ("text_only_comparison", ())]
)
def test_lessons_are_marked_questions_without_an_image(lesson: str, perceived: tuple[str, ...]) -> None:
    samples = drawn(recipe_with(**{lesson: 0.5}), count=20)

    lessons = [sample for sample in samples if sample.image_3HW is None]
    assert len(lessons) == 10
    for sample in lessons:
        assert "depth" in sample.codes
        assert [(turn.task, turn.perceive, turn.readout) for turn in sample.turns] == [
            ("relative_depth", perceived, True)
        ]


def test_lessons_of_less_than_one_a_draw_are_carried_over() -> None:
    assert [auxiliary_count(0.5, number, 1) for number in range(6)] == [0, 1, 0, 1, 0, 1]
    assert [auxiliary_count(0.4, number, 2) for number in range(5)] == [0, 1, 1, 1, 1]
    assert [auxiliary_count(0.29, number, 100) for number in range(3)] == [29, 29, 29]
    # Where there is no rest every draw has as many: the small recipe's own settings.
    assert [[auxiliary_count(rate, number, 8) for number in (0, 7)] for rate in (0.5, 3.0, 1.0)] == [
        [4, 4],
        [24, 24],
        [8, 8],
    ]


@given(st.decimals(0, 4, places=2).map(float), st.integers(1, 9), st.integers(1, 60))
def test_lessons_are_as_many_as_their_rate_says(rate: float, count: int, draws: int) -> None:
    drawn = sum(auxiliary_count(rate, number, count) for number in range(draws))
    assert drawn == math.floor(Fraction(str(rate)) * count * draws)


def test_a_lesson_is_drawn_with_one_conversation_a_step() -> None:
    sampler = ConversationSampler(recipe_with(text_only_readout=0.5), [Images()], {"depth": [CODES]})
    counts = [sum(sample.image_3HW is None for sample in sampler.draw(step, 1)) for step in range(4)]
    assert counts == [0, 1, 0, 1]


def test_a_task_nobody_has_is_refused() -> None:
    with pytest.raises(
        DataError, match="asks for 'captions' and no folder has such a turn: attribute, referring"
    ):
        drawn(recipe_with(mixture={"captions": 1.0}))


def test_pictures_have_no_words_but_their_codes() -> None:
    samples = drawn(recipe_with(vision_only=0.5), count=20)

    pictures = [sample for sample in samples if not sample.turns]
    assert len(pictures) == 10
    assert all(sample.codes["depth"][0] > 0 and sample.image_3HW is not None for sample in pictures)


ABSENT = attrs.evolve(REFERRING, answer="There is no such object.", masks=())


class Referred(Images):
    """An object and one that is not there; nothing to be found in the others."""

    def __init__(self, *turns: Turn) -> None:
        self._turns = [(PLAIN, *turns), (MARKED,), (PLAIN,)]
        self.tasks = [{turn.task for turn in turns} for turns in self._turns]


def test_referring_lessons_are_the_objects_of_an_image_out_of_context() -> None:
    recipe = recipe_with(text_only_referring=0.5)
    sampler = ConversationSampler(recipe, [Referred(ABSENT, REFERRING)], {"depth": [CODES]})
    samples = sampler.draw(0, 20)

    lessons = [sample for sample in samples if not sample.in_context]
    assert len(lessons) == 10 and len(samples) == 30
    for sample in lessons:
        assert sample.image_3HW is not None and torch.equal(sample.codes["depth"], CODES[0])
        assert [(turn.question, turn.perceive) for turn in sample.turns] == [
            (REFERRING.question, ("segmentation",))
        ]
        assert len(sample.turns[0].masks) == 1


def test_referring_lessons_that_nothing_can_be_learned_from_are_refused() -> None:
    recipe = recipe_with(text_only_referring=0.5, mixture={"relative_depth": 1.0})
    with pytest.raises(
        DataError, match="text_only_referring asks for turns about objects, and no folder has any"
    ):
        ConversationSampler(recipe, [Referred()], {"depth": [CODES]})
    boxes = attrs.evolve(
        recipe, streams=(Stream(name="box", tokenizer=BoxConfig(bins=8)), recipe.stream("depth"))
    )
    for without in (boxes, attrs.evolve(recipe, data=attrs.evolve(recipe.data, perceive="never"))):
        with pytest.raises(
            DataError,
            match="text_only_referring trains special tokens of objects .* and the recipe writes none",
        ):
            ConversationSampler(without, [Images()], {"depth": [CODES]})


def test_pictures_without_depth_are_refused() -> None:
    with pytest.raises(
        DataError,
        match="vision_only trains on the codes of the stream 'depth', and no image of any",
    ):
        drawn(recipe_with(vision_only=1.0), codes=torch.full((3, 16), -1))


def test_lessons_are_drawn_from_images_with_depth() -> None:
    codes = CODES.clone()
    codes[1] = -1
    recipe = recipe_with(text_only_readout=0.5, text_only_comparison=0.5)
    lessons = [sample for sample in drawn(recipe, codes=codes) if sample.image_3HW is None]
    assert len(lessons) == 60 and all(torch.equal(sample.codes["depth"], CODES[0]) for sample in lessons)

    with pytest.raises(
        DataError,
        match="data.text_only_comparison need codes of the stream 'depth', and no image with marked points has",
    ):
        drawn(recipe, codes=torch.full((3, 16), -1))


FIXED = (
    Turn(question="Segment it.", answer="Sure", task="referring", masks=(np.ones((16, 16), dtype=bool),)),
    MARKED,
    Turn(question="What of B?", answer="It is far.", task="chat"),
    Turn(question="And A?", answer="Farther.", task="chat"),
)


class Ordered(Images):
    """An image whose turns are one conversation, and a conversation about no picture."""

    def __init__(self) -> None:
        self._turns = [FIXED, FIXED[2:]]
        self.tasks = [{turn.task for turn in turns} for turns in self._turns]

    def __getitem__(self, number: int) -> Sample:
        image_3HW = torch.zeros(3, 16, 16) if number == 0 else None
        return Sample(turns=self._turns[number], image_3HW=image_3HW, depth=self.depth(number), ordered=True)

    def depth(self, number: int) -> DepthMap | None:
        return None if number else super().depth(number)


@pytest.mark.parametrize("turns", [1, 5])
def test_an_ordered_conversation_is_drawn_whole_and_in_its_order(turns: int) -> None:
    tasks = {"referring": 1.0, "relative_depth": 1.0, "chat": 1.0, "depth_map": 1.0}
    sampler = ConversationSampler(
        recipe_with(mixture=tasks, turns=turns), [Ordered()], {"depth": [CODES[[0, 2]]]}
    )
    words = [turn.question for turn in FIXED]
    own = ["What is the depth map of this image?"]
    seen: set[int] = set()
    for sample in sampler.draw(0, 60):
        asked = [turn.question for turn in sample.turns]
        if sample.image_3HW is None:
            assert asked == words[2:]
            assert not any(turn.perceive or turn.readout for turn in sample.turns)
            continue
        assert asked in (words, [*words, *own] if turns == 5 else own)
        seen.add(len(asked))
        if asked == words:
            assert sample.turns[1].points == POINTS and sample.turns[1].answer == "(C)"
            assert sample.turns[1].perceive == ("depth",), "what is read is written before"
    assert seen == {4, turns}


def test_of_an_ordered_conversation_what_cannot_be_trained_on_is_left_out() -> None:
    recipe = recipe_with(mixture={"chat": 1.0}, perceive="never")
    sampler = ConversationSampler(recipe, [Ordered()], {"depth": [CODES[[0, 2]]]})
    for sample in sampler.draw(0, 20):
        left = [turn.task for turn in sample.turns]
        assert left == ["relative_depth", "chat", "chat"][-2 if sample.image_3HW is None else -3 :]


class ManyMarked(Images):
    """Two marked-point questions and a plain one about each image."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = [(MARKED, PLAIN, attrs.evolve(MARKED, points=POINTS[:2], answer="(B)"))] * 3
        self.tasks = [{"relative_depth", "attribute"}] * 3


@pytest.mark.parametrize("task", ["relative_depth", "attribute"])
def test_where_points_are_drawn_a_conversation_has_one_question_with_points(task: str) -> None:
    recipe = attrs.evolve(recipe_with(turns=3, mixture={task: 1.0}), points="drawn")
    samples = ConversationSampler(recipe, [ManyMarked()], {"depth": [CODES]}).draw(0, 40)
    counts = [
        sum(bool(turn.points) for turn in sample.turns) for sample in samples if sample.image_3HW is not None
    ]
    assert set(counts) == {1}
    text = build_part(recipe.language).text_tokenizer
    batch = Collate.of(recipe, text)(samples)
    assert len(batch.images) == len(counts)
    as_tokens = attrs.evolve(recipe, points="tokens")
    free = ConversationSampler(as_tokens, [ManyMarked()], {"depth": [CODES]}).draw(0, 40)
    assert max(sum(bool(turn.points) for turn in sample.turns) for sample in free) == 2


WRITTEN = ("segmentation", "depth", "box", "edges", "features")
EDGES = torch.tensor([[3] * 4, [-1] * 4, [-1] * 4])
MAP_SIZES = {
    "grid": (2, 2),
    "image_size": (16, 16),
    "widths": (4, 4, 8),
    "latent_dim": 4,
    "residual_blocks": 1,
}


def drawn_of_many(count: int = 80, **data: object) -> list[Sample]:
    """Conversations of a recipe with five streams; of the edges and the features one is codes, the other is not."""
    recipe = recipe_with(**data)
    others = (
        Stream(name="box", tokenizer=BoxConfig(bins=8)),
        Stream(name="edges", tokenizer=MapFSQConfig(map="edges", levels=(4, 3), **MAP_SIZES)),
        Stream(
            name="features",
            tokenizer=FeaturesConfig(teacher=ConvVisionConfig(image_size=(16, 16), widths=(4, 4))),
            head=LinearHeadConfig(),
        ),
    )
    recipe = attrs.evolve(recipe, streams=(*recipe.streams, *others))
    recipe.check()
    return ConversationSampler(recipe, [Images()], {"depth": [CODES], "edges": [EDGES]}).draw(0, count)


def test_a_stream_precedes_the_first_answer_that_requires_it_or_the_last_that_may_have_it() -> None:
    seen = set()
    for sample in drawn_of_many(mixture={"edges_map": 1.0, "relative_depth": 1.0, "referring": 1.0}):
        tasks = [turn.task for turn in sample.turns]
        places = {
            name: [n for n, turn in enumerate(sample.turns) if name in turn.perceive] for name in WRITTEN
        }
        read = tasks.index("relative_depth") if "relative_depth" in tasks else None
        last = max(n for n, task in enumerate(tasks) if task != "attribute")
        assert places["depth"] == [last if read is None else read]
        assert places["features"] == [last]
        has_edges = "edges" in sample.codes
        asked = tasks.index("edges_map") if "edges_map" in tasks else last
        assert places["edges"] == ([asked] if has_edges else [])
        assert ("edges_map" in tasks) <= has_edges
        for turn in sample.turns:
            assert turn.perceive == tuple(name for name in WRITTEN if name in turn.perceive)
            assert ("segmentation" in turn.perceive) == ("box" in turn.perceive) == (turn.task == "referring")
        seen |= set(tasks)
    assert seen == {"edges_map", "relative_depth", "referring", "attribute"}


def test_apart_every_stream_is_a_turn_of_its_own() -> None:
    for sample in drawn_of_many(perceive="separate_task", mixture={"relative_depth": 1.0}):
        own = [turn for turn in sample.turns if turn.task.endswith("_map")]
        known = ["depth", *(["edges"] if "edges" in sample.codes else []), "features"]
        assert [turn.perceive for turn in own] == [(name,) for name in known]
        assert [turn.question for turn in own] == [f"What is the {name} map of this image?" for name in known]
        assert sample.turns[-len(own) :] == tuple(own)


def test_a_random_subset_keeps_half_of_each_stream_and_what_is_asked_for() -> None:
    mixture = {"edges_map": 1.0, "relative_depth": 1.0}
    samples = drawn_of_many(300, streams="random_subset", mixture=mixture)
    kept = {name: [] for name in ("depth", "features")}
    for sample in samples:
        written = {name for turn in sample.turns for name in turn.perceive}
        for name, found in kept.items():
            found.append(name in written)
        assert ("edges_map" not in [turn.task for turn in sample.turns]) or "edges" in written
        assert all(
            "segmentation" in turn.perceive for turn in sample.turns if turn.task == "referring"
        )  # What is written of objects is no part of the subset.
    assert all(0.4 < sum(found) / len(found) < 0.6 for found in kept.values())
    both = sum(one and other for one, other in zip(*kept.values(), strict=True))
    assert 0.15 < both / len(samples) < 0.35


def test_a_task_of_the_recipe_s_is_known_by_the_name_that_the_data_give() -> None:
    recipe = recipe_with(mixture={"attribute": 1.0}, turns=1)
    perceiving = attrs.evolve(recipe, tasks={"attribute": PlainTaskConfig(may_perceive=True)})
    alone = ConversationSampler(recipe, [Images()], {"depth": [CODES]}).draw(0, 30)
    first = ConversationSampler(perceiving, [Images()], {"depth": [CODES]}).draw(0, 30)
    for one, other in zip(alone, first, strict=True):
        told = [[(turn.task, turn.answer) for turn in sample.turns] for sample in (one, other)]
        assert told[0] == told[1]
    assert not any(
        "depth" in turn.perceive for sample in alone for turn in sample.turns if turn.task == "attribute"
    )
    assert any(
        "depth" in turn.perceive for sample in first for turn in sample.turns if turn.task == "attribute"
    )
