"""Conformance tests of a task.

Shapes: H W pixels, L codes.
"""

import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import attrs
import numpy as np
import torch

from perceptio.interfaces import (
    Case,
    Codes,
    DepthMap,
    DepthSpec,
    GenerationSettings,
    Kind,
    ModelSpecs,
    Pass,
    Question,
    Reply,
    Sample,
    Task,
    TaskConfig,
    TaskData,
    Turn,
)
from perceptio.testing.component import MODEL, PIXELS, ComponentConformance

NAME = "the_task"
"""The name of the task in the synthetic data."""
OBJECTS = np.zeros((2, PIXELS, PIXELS), dtype=bool)
OBJECTS[0, :4, :4] = OBJECTS[1, 8:, 8:] = True


class Letters:
    """A text tokenizer with one token per letter."""

    def encode(self, text: str) -> list[int]:
        """The numbers of the letters."""
        return [ord(letter) for letter in text]


class TaskConformance(ComponentConformance):
    """Set `config`, and `turns` of the task as data hold them; a task that writes its own turns needs none.

    Attributes:
        turns: Valid questions and answers. Their masks have the size 16 x 16; the tests set their task.
    """

    config: ClassVar[TaskConfig]
    kind = Kind.TASK
    turns: ClassVar[tuple[Turn, ...]] = ()

    def fresh(self) -> Any:
        """Return the task, built for a model with every kind of stream."""
        return self.config.build(MODEL)

    def test_its_outline_can_be_built_on_the_meta_device(self) -> None:
        """A task has no weights; its config builds a task, with or without the streams that it refers to."""
        for model in (MODEL, attrs.evolve(MODEL, streams={})):
            task = self.config.build(model)
            assert isinstance(task, Task)
            assert isinstance(task.required, tuple) and all(isinstance(name, str) for name in task.required)
            self._passes(task, model)

    def test_right_turns_have_no_problems(self) -> None:
        """Valid turns are not rejected."""
        for turn in self._turns():
            assert list(self.config.problems(turn)) == []

    def test_its_own_turn_is_of_the_task(self) -> None:
        """If a task writes its own turns, a sample has one, the same every time."""
        task = self.fresh()
        if not task.writes_turns:
            assert self.turns, "Give turns of the task, as data hold them."
            return
        turn, again = (task.own_turn(NAME, self._sample()) for _ in range(2))
        assert isinstance(turn, Turn) and turn.task == NAME
        assert (turn.question, turn.answer) == (again.question, again.answer), "A sample has other turns."

    def test_shuffled_points_are_the_same_points_and_a_right_turn(self) -> None:
        """After shuffling, the answer is right for the new order: it means the same point."""
        task = self.fresh()
        for turn in self._turns():
            before = attrs.astuple(turn, recurse=False)
            orders: dict[tuple[tuple[float, float], ...], str] = {}
            for seed in range(20):
                shuffled = task.with_points_shuffled(turn, np.random.default_rng(seed))
                assert sorted(shuffled.points) == sorted(turn.points)
                assert (shuffled.question, shuffled.task) == (turn.question, turn.task)
                assert not list(self.config.problems(shuffled))
                # An order has one right answer, however it was reached.
                again = task.with_points_shuffled(shuffled, np.random.default_rng(seed + 1))
                for one in (shuffled, again):
                    said = orders.setdefault(one.points, one.answer)
                    assert said == one.answer, "The answer does not follow its point."
            assert len(orders) < 2 or len(set(orders.values())) > 1, (
                "Points move, and the answer stays the same."
            )
            assert all(
                one is other for one, other in zip(before, attrs.astuple(turn, recurse=False), strict=True)
            )

    def test_its_questions_can_be_asked(self) -> None:
        """Passes use streams that the model has and the codes they declare; samples are not modified."""
        codes = self._codes()
        case = self._case()
        before = [(turn.answer, turn.perceive) for turn in case.sample.turns]
        for one, questions in self._asked(self._passes(self.fresh(), MODEL), case):
            assert set(one.gives) <= set(codes)
            settings = one.settings(questions)
            assert isinstance(settings, GenerationSettings)
            assert settings.streams is not None, (
                "Say which streams a pass may perceive; None is whatever there is."
            )
            absent = (set(settings.streams) | set(settings.force)) - set(MODEL.streams)
            assert not absent, f"Streams {absent} are asked for in a model without them: see data.perceives."
            assert set(settings.force) <= set(settings.streams), (
                "force names streams that streams leaves out."
            )
            assert set(one.decodes) | set(one.compares) <= set(settings.streams)
            assert set(one.gives) <= set(settings.streams)
            assert set(one.controlled) <= set(settings.streams)
            per_image = {name for name, stream in MODEL.streams.items() if stream.spec.per == "image"}
            assert set(one.controlled) <= per_image, "Controls replace what is written once per image."
            for question in questions:
                assert set(question.codes) == set(one.gives)
                assert question.sample is case.sample
        assert before == [(turn.answer, turn.perceive) for turn in case.sample.turns]

    def test_right_answers_and_wrong_ones_have_different_figures(self) -> None:
        """At least one figure tells them apart; all can be written as JSON, and none is infinite."""
        scored = []
        for right in (True, False):
            figures: dict[str, Any] = {}
            asked = list(self._asked(self._passes(self.fresh(), MODEL), self._case()))
            assert asked, "An evaluation asks nothing of a model that has every kind of stream."
            for one, questions in asked:
                kept: dict[str, Any] = {}
                for question in questions:
                    one.asked += 1
                    kept.update(one.score(self._reply(one, question, right)) or {})
                computed = one.figures()
                assert kept.keys() <= computed.keys(), "What is kept of a reply has the names of figures."
                for name, found in computed.items():
                    figures[name] = {**figures.get(name, {}), **found}
            numbers = [value for found in figures.values() for value in _numbers(found)]
            assert numbers and not any(map(math.isinf, numbers))
            scored.append(json.dumps(figures))
        assert scored[0] != scored[1]

    def test_passes_with_controls_tell_right_answers_from_wrong_ones(self) -> None:
        """Right and wrong answers are told apart by their words only."""
        for one, questions in self._asked(self._passes(self.fresh(), MODEL), self._case()):
            for question in questions if one.controlled else ():
                assert one.is_right(Reply(question=question, text=question.turn.answer)) is True
                assert one.is_right(Reply(question=question, text="?!")) is False

    def _turns(self) -> list[Turn]:
        task = self.fresh()
        turns = [attrs.evolve(turn, task=NAME) for turn in self.turns]
        return [*turns, task.own_turn(NAME, self._sample())] if task.writes_turns else turns

    def _sample(self, turns: tuple[Turn, ...] = ()) -> Sample:
        metres_HW = np.linspace(2.0, 4.0, PIXELS * PIXELS, dtype=np.float32).reshape(PIXELS, PIXELS)
        return Sample(
            turns=turns,
            image_3HW=torch.zeros(3, PIXELS, PIXELS),
            depth=DepthMap(values_HW=metres_HW, unit="metres"),
            objects=tuple(OBJECTS),
            maps={"edges": metres_HW[..., None]},
        )

    def _case(self) -> Case:
        codes = self._codes()
        return Case(
            sample=self._sample(tuple(self._turns())),
            true_codes=codes,
            other_codes={name: 1 - one for name, one in codes.items()},
        )

    def _codes(self) -> dict[str, torch.Tensor]:
        return {
            name: torch.ones(stream.spec.written.length, dtype=torch.long)
            for name, stream in MODEL.streams.items()
            if stream.spec.per == "image" and isinstance(stream.spec.written, Codes)
        }

    def _passes(self, task: Task, model: ModelSpecs) -> list[Pass]:
        perceives = tuple(name for name, stream in model.streams.items() if stream.spec.per == "image")
        data = TaskData(model=model, perceives=perceives, units={"depth": "metres"}, text=Letters())  # type: ignore[arg-type]
        passes = list(task.passes(NAME, data))
        assert all(isinstance(one, Pass) for one in passes)
        return passes

    def _asked(self, passes: list[Pass], case: Case) -> Iterator[tuple[Pass, list[Question]]]:
        for one in passes:
            questions = list(one.questions(case))
            if questions:
                yield one, questions

    def _reply(self, one: Pass, question: Question, right: bool) -> Reply:
        """Return the answer of the data with every stream written correctly, or other words without streams."""
        sample, turn = question.sample, question.turn
        decoded: dict[str, Any] = {}
        for name in one.decodes:
            tokenizer = MODEL.streams[name].tokenizer
            if tokenizer.stream.shows_masks:
                decoded[name] = turn.masks if right else ()
            elif isinstance(tokenizer, DepthSpec):
                decoded[name] = sample.depth if right else None
            else:
                per_object = MODEL.streams[name].spec.per == "object"
                decoded[name] = (
                    () if per_object else sample.target(tokenizer.stream.target) if right else None
                )
        return Reply(
            question=question,
            text=turn.answer if right else "?!",
            decoded=decoded,
            closed={name: right for name, stream in MODEL.streams.items() if stream.spec.per == "image"},
            compared={name: {"absolute_error": (0.0,)} if right else {} for name in one.compares},
        )


def _numbers(found: Any) -> Iterator[float]:
    for value in found.values():
        if isinstance(value, int | float):
            yield float(value)
