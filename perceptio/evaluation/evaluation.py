"""Evaluation of a model on a data folder: every question is asked, and every figure has a count.

Tasks define what is asked and measured: each provides the passes in which its questions are asked. The evaluation
covers the tasks in the data, and those of the recipe's mixture that write their own turns. A stream that none of them
decodes is asked for by its own question. Samples are read one after the other, and their questions wait until a batch
of their pass is full. Of a sample, only what its questions need is kept, and an image is encoded once for all of
them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError
from perceptio.evaluation.answers import ScoredAnswer
from perceptio.evaluation.asking import Asker, batches, task_data
from perceptio.evaluation.controls import Controls
from perceptio.evaluation.replacements import Control
from perceptio.interfaces import Case, Kept, Pass, Question, Reply, Sample, Turn
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.files import path_text


class Evaluation:
    """Asks a model the questions of a folder.

    Args:
        model: The model; its mode is not changed.
        dataset: The questions.
        limit: Use only this many samples, from the first; None: all.
        tasks: Ask only these tasks, by their names in the data; None: all.
        controls: Controls under which to ask the same questions again.
        progress: Called with the number of samples done, and the total.
        on_answer: Called with every answer once it is scored.

    Raises:
        DataError: No sample has an image, or none belongs to a task that is asked.
    """

    def __init__(
        self,
        model: PerceptionModel,
        dataset: FolderDataset,
        *,
        limit: int | None = None,
        tasks: Collection[str] | None = None,
        controls: Collection[Control] = (),
        progress: Callable[[int, int], None] | None = None,
        on_answer: Callable[[ScoredAnswer], None] | None = None,
    ) -> None:
        self._asker = Asker(model)
        self.model, self.dataset, self.progress = self._asker.model, dataset, progress
        self.on_answer = on_answer
        self._tasks, self._asked = TaskTable(model.recipe), tasks
        self.count = len(dataset) if limit is None else min(limit, len(dataset))
        self._numbers = [number for number in dataset.with_target("image").tolist() if number < self.count]
        if not self._numbers:
            raise DataError("There is nothing to evaluate on: the folder has no sample with a picture.")
        self._controls = Controls(self.model, dataset, self.count, controls) if controls else None

    @torch.inference_mode()
    def run(self) -> dict[str, Any]:
        """Return every figure that the model and the data allow, as nested dictionaries.

        If a sample lacks the target of a stream, figures that need it leave the sample out, which shows in their
        counts. `without_target` lists the streams whose target no sample has. Samples without an image are left out,
        and `without_image` counts them. `not_scored` counts, by task, the questions that this model cannot answer.
        """
        passes = self._passes()
        given = tuple(dict.fromkeys(stream for one in passes for stream in one.gives))
        scored = dict.fromkeys(passes.values())
        waiting: dict[Pass, list[Question]] = {one: [] for one in passes}
        left_out: Counter[str] = Counter()
        untargeted = {
            stream.name: stream.spec.target
            for stream in self.model.recipe.streams
            if stream.spec.per == "image"
        }
        for number, case in zip(self._numbers, self._cases(given, scored), strict=True):
            left_out.update(
                turn.task
                for turn in case.sample.turns
                if turn.task not in scored and self._is_asked(turn.task)
            )
            untargeted = {
                name: target for name, target in untargeted.items() if not case.sample.has_target(target)
            }
            for one, questions in waiting.items():
                for batch in batches(questions, list(one.questions(case))):
                    self._ask(one, batch)
            if self.progress is not None and number + 1 < self.count:
                self.progress(number + 1, self.count)
        figures: dict[str, Any] = {}
        for one, questions in waiting.items():
            if questions:
                self._ask(one, questions)
            if one.asked:
                for name, found in one.figures().items():
                    figures[name] = figures.get(name, {}) | found
        if self._controls is not None:
            figures |= self._controls.figures()
        if len(self._numbers) < self.count:
            figures["without_image"] = self.count - len(self._numbers)
        if self.progress is not None:
            self.progress(self.count, self.count)
        if untargeted:
            figures["without_target"] = list(untargeted)
        return figures | ({"not_scored": dict(left_out)} if left_out else {})

    def _passes(self) -> dict[Pass, str]:
        """Return the passes that suit the model and the data, each with the name of its task."""
        recipe, tasks = self.model.recipe, self._tasks
        per_image = tuple(stream.name for stream in recipe.streams if stream.spec.per == "image")
        data = task_data(self.model, self.dataset.info.units)
        passes: dict[Pass, str] = {}
        there = {name for number in self._numbers for name in self.dataset.tasks[number]}
        for name in sorted(filter(self._is_asked, there)):
            passes |= dict.fromkeys(tasks[name].passes(name, data), name)
        looked_at = {stream for one in passes for stream in (*one.decodes, *one.compares)}
        trained = [name for name, weight in recipe.data.mixture.items() if weight > 0]
        own = [name for name in trained if tasks[name].writes_turns] + list(map(tasks.of_stream, per_image))
        for name in dict.fromkeys(own):
            known = tasks[name].perception_only and looked_at.issuperset(tasks[name].required)
            if self._is_asked(name) and name not in passes.values() and not known:
                passes |= dict.fromkeys(tasks[name].passes(name, data), name)
        if not passes and self._asked is not None:
            raise DataError(
                f"Only {', '.join(self._asked)} is to be asked, and the data have {', '.join(sorted(there))}."
            )
        return passes

    def _is_asked(self, task: str) -> bool:
        return self._asked is None or task in self._asked

    def _cases(self, given: Sequence[str], tasks: Collection[str]) -> Iterator[Case]:
        """Yield the samples with an image, in order.

        The other codes of a sample are those of the previous sample that has some; for the first, those of the last.

        Args:
            given: The streams whose codes are needed.
            tasks: The tasks that are asked; those that write their own turns add one to samples without.
        """
        writing = [name for name in tasks if self._tasks[name].writes_turns]
        before: dict[str, Tensor] = {}
        for number in self._numbers:
            sample = self.dataset[number]
            sample = attrs.evolve(sample, turns=(*sample.turns, *self._own_turns(sample, writing)))
            own = {
                stream: self._codes(stream, sample.target(self._target(stream)))
                for stream in given
                if sample.has_target(self._target(stream))
            }
            for stream in own.keys() - before.keys():
                last = self._last_with(stream, number)
                if last is not None:
                    before[stream] = self._codes(stream, self.dataset.target(last, self._target(stream)))
            others = {stream: before[stream] for stream in own if stream in before}
            yield Case(sample=sample, true_codes=own, other_codes=others)
            before |= own

    def _own_turns(self, sample: Sample, tasks: Collection[str]) -> Iterator[Turn]:
        """Yield turns about a sample from tasks that write their own, unless the sample has a turn of the task."""
        there = {turn.task for turn in sample.turns}
        for name in tasks:
            required = [self._target(one) for one in self._tasks[name].required if one in self.model.streams]
            if name not in there and all(map(sample.has_target, required)):
                yield self._tasks[name].own_turn(name, sample)

    def _last_with(self, stream: str, first: int) -> int | None:
        """Return the last sample after `first` that has the target of a stream."""
        having = self.dataset.with_target(self._target(stream))
        others = having[(first < having) & (having < self.count)]
        return int(others[-1]) if len(others) else None

    def _target(self, stream: str) -> str:
        return self.model.stream(stream).spec.target

    def _codes(self, stream: str, target: Any) -> Tensor:
        """Return the codes [L] of a target."""
        tokenizer = self.model.stream(stream).tokenizer
        return tokenizer.to_codes(tokenizer.targets([target]))[0]

    def _ask(self, one: Pass, questions: Sequence[Question]) -> None:
        """Ask a batch of questions of a pass, and score the replies."""
        one.asked += len(questions)
        asked = self._asker.ask(one, questions)
        if self._controls is not None and one.controlled:
            for reply, kept in self._controls.ask(asked):
                self._keep(reply, kept)
        for reply in asked.replies:
            self._keep(reply, one.score(reply))

    def _keep(self, reply: Reply, kept: Kept) -> None:
        if self.on_answer is not None:
            self.on_answer(ScoredAnswer.of(reply, kept or {}, data=path_text(self.dataset.name)))
