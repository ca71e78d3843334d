"""The individual answers of an evaluation: a file of JSON lines beside its figures.

They suffice to recompute accuracies, and to compare two models question by question. This needs far fewer questions
than comparing accuracies; see `perceptio.ops.paired`.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import DataError, quoted
from perceptio.interfaces import Reply
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.json_files import InvalidJSONError, append_line, parse_json, read_lines, without_nan
from perceptio.ops.wording import number_of

ANSWERS = "answers.jsonl"
AGAIN = "run `perceptio eval` again, which writes it"


@attrs.frozen(kw_only=True)
class ScoredAnswer:
    """A question of an evaluation, the model's reply, and its score; one line of the file.

    Attributes:
        data: The data folder.
        sample: The sample's id in it.
        task: The task's name in the data.
        question: The user's words.
        points: The question's marked points as (x, y) in [0, 1].
        answer: The correct answer.
        reply: The model's answer, as text.
        scored: What the task's pass keeps of the reply, by figure, as returned by `Pass.score`. A question that is
            asked in several ways, for example with given codes, has one answer for each.
        turn: The question's id in its data, such as `"ref1023-sent5567"`; "" if it has none.
    """

    data: str
    sample: str
    task: str
    question: str
    points: tuple[tuple[float, float], ...]
    answer: str
    reply: str
    scored: Mapping[str, Mapping[str, Any]]
    turn: str = ""

    @classmethod
    def of(cls, reply: Reply, scored: Mapping[str, Mapping[str, Any]], *, data: str) -> "ScoredAnswer":
        """Return the answer to keep for a reply."""
        turn = reply.question.turn
        return cls(
            data=data,
            sample=reply.question.sample.id,
            task=turn.task,
            question=turn.question,
            points=turn.points,
            answer=turn.answer,
            reply=reply.text,
            scored={figure: dict(kept) for figure, kept in scored.items()},
            turn=turn.id,
        )

    def asked(self, time: int = 1) -> "AskedQuestion":
        """Identify the question, asked for the `time`-th time; its data folder does not count, as it may be moved."""
        content = [self.sample, self.task, self.question, self.points, self.answer, time]
        marked = f" with {number_of(len(self.points), 'point')}" if self.points else ""
        return AskedQuestion(
            id=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16],
            num_points=len(self.points),
            description=(
                f"{quoted(self.question)}{marked} of the sample {quoted(self.sample)}, whose answer is "
                f"{quoted(self.answer)}"
            ),
        )


@attrs.frozen(kw_only=True)
class AskedQuestion:
    """What distinguishes the questions of an evaluation.

    Attributes:
        id: Sixteen hexadecimal digits: a hash of the sample's id, the task, the question, the marked points, the
            correct answer, and, for a question that is asked repeatedly, which time it is.
        num_points: Number of marked points.
        description: A description for messages.
    """

    id: str
    num_points: int = attrs.field(eq=False)
    description: str = attrs.field(default="", eq=False)


@contextmanager
def writing_answers(path: Path, *, append: bool = False) -> Iterator[Callable[[ScoredAnswer], None]]:
    """Yield a function that writes an answer as a line of a file, which replaces `path` when the block succeeds.

    Args:
        path: The file.
        append: Whether to keep the file's earlier lines, as for the next data folder of the same evaluation.

    Raises:
        DataError: The file cannot be written, or an answer cannot be written as JSON; the earlier file is unchanged.
    """
    with disk_errors(path, DataError), new_file(path) as new:
        if append:
            shutil.copyfile(path, new)

        def write(answer: ScoredAnswer) -> None:
            try:
                append_line(new, without_nan(attrs.asdict(answer)))
            except InvalidJSONError as problem:
                raise DataError(
                    f"The answer {quoted(answer.reply)} to {quoted(answer.question)} of the sample "
                    f"{quoted(answer.sample)} cannot be written to {path} ({problem}): look at what the task "
                    f"{answer.task!r} keeps of it."
                ) from problem

        yield write


def read_answers(folder: Path, *, remedy: str = AGAIN) -> list[ScoredAnswer]:
    """Read the answers that an evaluation wrote into a folder.

    Args:
        folder: The folder.
        remedy: The end of error messages: what to do about missing or broken answers.

    Raises:
        DataError: There is no file of answers, or a line has the wrong form.
    """
    path = folder / ANSWERS
    if not path.is_file():
        raise DataError(f"{folder} has no {ANSWERS}: {remedy}.")
    answers = []
    for line in read_lines(path):
        try:
            answers.append(_parsed(parse_json(line.text)))
        except (InvalidJSONError, TypeError, ValueError) as problem:
            raise DataError(
                f"{path} line {line.number} is not an answer of an evaluation ({problem}): {remedy}."
            ) from problem
    return answers


def _parsed(value: Any) -> ScoredAnswer:
    """Parse a line as an answer.

    Raises:
        TypeError: The line has another form.
        ValueError: A point does not have two numbers.
    """
    names = [field.name for field in attrs.fields(ScoredAnswer)]
    # Files of earlier versions have no "turn".
    if not isinstance(value, dict) or sorted({"turn": "", **value}) != sorted(names):
        raise TypeError(f"it needs {', '.join(names)}, and is {quoted(value)}")
    value = {"turn": "", **value}
    points, scored = value["points"], value["scored"]
    if not all(isinstance(value[name], str) for name in names if name not in ("points", "scored")):
        raise TypeError(f"something in {quoted(value)} is not text")
    if not isinstance(scored, dict) or not all(isinstance(one, dict) for one in scored.values()):
        raise TypeError(f"scored is {quoted(scored)}")
    return ScoredAnswer(**value | {"points": tuple((float(x), float(y)) for x, y in points)})


def right_or_wrong(answers: Sequence[ScoredAnswer]) -> list[str]:
    """Return the figures whose answers are right or wrong, in order."""
    return list(
        dict.fromkeys(name for one in answers for name, kept in one.scored.items() if "right" in kept)
    )


def paired(
    first: Mapping[AskedQuestion, bool], second: Mapping[AskedQuestion, bool], figure: str
) -> dict[AskedQuestion, tuple[bool, bool]]:
    """Return whether each of two models answered each question of a figure right.

    Args:
        first: The first model's answers, from `right_by_question`.
        second: The second model's.
        figure: The figure, for messages.

    Raises:
        DataError: The models were not asked the same questions, or none.
    """
    alone = [[key for key in one if key not in other] for one, other in ((first, second), (second, first))]
    if any(alone):
        found = "; ".join(
            f"of {len(keys)} only {which} was asked, such as {keys[0].description}"
            for keys, which in zip(alone, ("the first", "the second"), strict=True)
            if keys
        )
        raise DataError(
            f"The two evaluations were not asked the same questions of {figure!r}: {found}. Evaluate both on the "
            "same data, with the same --limit."
        )
    if not first:
        raise DataError(f"Neither evaluation has an answer of {figure!r} that is right or wrong.")
    return {key: (right, second[key]) for key, right in first.items()}


def right_by_question(answers: Sequence[ScoredAnswer], figure: str) -> dict[AskedQuestion, bool]:
    """Return whether each question of a figure was answered right; repetitions of a question are numbered from 1."""
    right: dict[AskedQuestion, bool] = {}
    times: Counter[AskedQuestion] = Counter()
    for one in answers:
        kept = one.scored.get(figure, {})
        if "right" in kept:
            first = one.asked()
            times[first] += 1
            asked = first if times[first] == 1 else one.asked(times[first])
            right[asked] = bool(kept["right"])
    return right
