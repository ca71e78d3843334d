"""Asking the questions of a suite: in batches, on one or several processes, and resumable.

The questions are divided into batches once, with whole images in each if they fit. Batches are assigned to processes
in turn, and after every round the first process appends the answers in order. The file is therefore always the
beginning of what a single process would write, and its number of lines says where to continue. Figures are computed
from all answers at the end, so they do not depend on the number of processes.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import torch

import perceptio
from perceptio.errors import DataError, PerceptioError
from perceptio.evaluation.answers import ANSWERS, ScoredAnswer, read_answers
from perceptio.evaluation.asking import BATCH_SIZE, Asker
from perceptio.evaluation.suites.resuming import REMEDY, SUMMARY, AskedAt, begin
from perceptio.evaluation.suites.suite import Suite, SuiteData, hash_of
from perceptio.interfaces import Pass, Question, Sample
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.files import disk_errors
from perceptio.ops.interrupts import Stopped, interrupt_flag
from perceptio.ops.json_files import append_line, without_nan, write_json
from perceptio.ops.ranks import Ranks
from perceptio.ops.wording import number_of


@attrs.frozen(kw_only=True)
class _Batch:
    """Questions that are asked together.

    Attributes:
        data: The name of their data.
        pictures: For each image its number, and the slice of its questions as (start, stop).
    """

    data: str
    pictures: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return sum(last - first for _, first, last in self.pictures)

    def without(self, count: int) -> "_Batch":
        """Return the batch without its first `count` questions."""
        left = []
        for number, first, last in self.pictures:
            done = min(count, last - first)
            count -= done
            if first + done < last:
                left.append((number, first + done, last))
        return _Batch(data=self.data, pictures=tuple(left))


def run_suite(
    model: PerceptionModel,
    suite: Suite,
    data: Mapping[str, SuiteData],
    out: Path,
    *,
    identity: Mapping[str, Any],
    ranks: Ranks,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Ask a model the questions of a suite, and write every answer and a summary.

    Args:
        model: The model, in every process.
        suite: The suite.
        data: The opened data, by the names that figures use.
        out: Folder for `answers.jsonl` and `summary.json`. An interrupted evaluation there continues after its last
            answer.
        identity: What identifies the model, for the summary.
        ranks: The processes that share the work.
        limit: Use only this many images of each of the data, from the first; None: all.
        batch_size: Maximum number of questions in a batch.
        progress: Called in the first process with the number of questions answered, and the total.

    Returns:
        The summary.

    Raises:
        DataError: The folder holds another evaluation, or cannot be written; or data cannot be read.
        InputError: The model lacks what the suite needs.
        Stopped: A signal was received; the answers of complete batches are kept.
    """
    passes = {name: suite.asking(model, one) for name, one in data.items()}
    counts = {name: min(len(one), limit or len(one)) for name, one in data.items()}
    batches = [batch for name, one in data.items() for batch in _batches(name, one, counts[name], batch_size)]
    total = sum(map(len, batches))
    with ExitStack() as held:
        held.enter_context(ranks.together())
        summary = ranks.on_main(lambda: _summary(suite, identity, limit, data, counts, batches))
        done = ranks.on_main(lambda: begin(out, summary, total, _asked(batches, data), held))
        if ranks.main:
            progress(done, total)
        stop = held.enter_context(interrupt_flag())
        answering = _Answering(Asker(model), data, passes)
        left = iter(list(_after(batches, done)))
        while batch_of_each := list(islice(left, ranks.count)):
            failure: PerceptioError | None = None
            answers: list[ScoredAnswer] = []
            if ranks.index < len(batch_of_each):
                try:
                    answers = answering.answer(batch_of_each[ranks.index])
                except PerceptioError as error:
                    failure = error
            ranks.raise_together(failure)
            lines = [one for each in ranks.gather([attrs.asdict(one) for one in answers]) for one in each]
            if ranks.main:
                with disk_errors(out, DataError):
                    for line in lines:
                        append_line(out / ANSWERS, without_nan(line))
                progress(done := done + len(lines), total)
            if signal := max(ranks.gather(stop.signal)):
                raise Stopped(signal)
        return ranks.on_main(lambda: _finish(out, suite, summary, data, total))


class _Answering:
    """Asks batches.

    Args:
        asker: Asks the model.
        data: The data, by name.
        passes: The pass for each of the data.
    """

    def __init__(self, asker: Asker, data: Mapping[str, SuiteData], passes: Mapping[str, Pass]) -> None:
        self._asker, self._data, self._passes = asker, data, passes
        self._last: tuple[tuple[str, int], Sample] | None = None

    def answer(self, batch: _Batch) -> list[ScoredAnswer]:
        """Return the scored answers to a batch of questions."""
        data, one = self._data[batch.data], self._passes[batch.data]
        questions: list[Question] = []
        labels: list[Mapping[str, Any]] = []
        for number, first, last in batch.pictures:
            sample = self._sample(batch.data, number)
            questions += [Question(sample=sample, turn=turn) for turn in sample.turns[first:last]]
            labels += [data.labels(number, place) for place in range(first, last)]
        replies = self._asker.ask(one, questions).replies
        return [
            ScoredAnswer.of(
                reply,
                {figure: {**kept, **told} for figure, kept in (one.score(reply) or {}).items()},
                data=batch.data,
            )
            for reply, told in zip(replies, labels, strict=True)
        ]

    def _sample(self, name: str, number: int) -> Sample:
        """Return an image with its questions; the last one is kept, in case its questions fill several batches."""
        if self._last is None or self._last[0] != (name, number):
            self._last = (name, number), self._data[name].sample(number)
        return self._last[1]


def _summary(
    suite: Suite,
    identity: Mapping[str, Any],
    limit: int | None,
    data: Mapping[str, SuiteData],
    counts: Mapping[str, int],
    batches: Sequence[_Batch],
) -> dict[str, Any]:
    """Return the summary before there are figures: the suite, the model and the data."""
    return {
        "suite": suite.name,
        "settings": attrs.asdict(suite),
        "limit": limit,
        "model": dict(identity),
        "data": {
            name: {
                "pictures": counts[name],
                "questions": sum(len(batch) for batch in batches if batch.data == name),
                "sha256": hash_of(one, counts[name]),
            }
            for name, one in data.items()
        },
        "versions": {
            "perceptio": perceptio.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "figures": None,
    }


def _batches(name: str, data: SuiteData, count: int, size: int) -> Iterator[_Batch]:
    """Divide the questions about the first images into batches; those about one image stay together if they fit."""
    waiting: list[tuple[int, int, int]] = []
    held = 0
    for number in range(count):
        asked = len(data.turns(number))
        if waiting and held + asked > size:
            yield _Batch(data=name, pictures=tuple(waiting))
            waiting, held = [], 0
        for first in range(0, asked, size):
            last = min(first + size, asked)
            waiting.append((number, first, last))
            held += last - first
            if held >= size:
                yield _Batch(data=name, pictures=tuple(waiting))
                waiting, held = [], 0
    if waiting:
        yield _Batch(data=name, pictures=tuple(waiting))


def _asked(batches: Sequence[_Batch], data: Mapping[str, SuiteData]) -> Iterator[AskedAt]:
    """Yield the questions in order."""
    for batch in batches:
        one = data[batch.data]
        for number, first, last in batch.pictures:
            for turn in one.turns(number)[first:last]:
                yield batch.data, one.name(number), turn.question


def _after(batches: Sequence[_Batch], done: int) -> Iterator[_Batch]:
    """Yield the batches without the first `done` questions, which are answered."""
    for batch in batches:
        left = batch.without(done)
        done = max(0, done - len(batch))
        if len(left):
            yield left


def _finish(
    out: Path, suite: Suite, summary: dict[str, Any], data: Mapping[str, SuiteData], total: int
) -> dict[str, Any]:
    """Compute the figures of all answers, and write them."""
    answers = read_answers(out)
    if len(answers) != total:
        raise DataError(
            f"{out / ANSWERS} has {number_of(len(answers), 'answer')} to {number_of(total, 'question')}: {REMEDY}."
        )
    figures = {name: suite.figures([one for one in answers if one.data == name]) for name in data}
    summary = without_nan(summary | {"figures": figures})
    write_json(out / SUMMARY, summary)
    return summary
