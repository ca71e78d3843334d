"""The answers of an evaluation, one by one: a file of JSON lines beside its figures.

From them accuracies are computed again, and two models are compared question by question, which needs far fewer
questions than comparing their accuracies; see `perceptio.ops.paired`.
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

ANSWERS = "answers.jsonl"
AGAIN = "run `perceptio eval` again, which writes it"


@attrs.frozen(kw_only=True)
class ScoredAnswer:
    """A question of an evaluation, what was replied, and what was scored; a line of the file.

    Attributes:
        data: The data folder.
        sample: The sample's id in it.
        task: What the data call the task.
        question: The user's words.
        points: Its marked points as (x, y) in [0, 1].
        answer: The true answer.
        reply: What the model said, in words.
        scored: What the task's pass kept of it, by figure, as `Pass.score` returns it. A question that is asked in
            several ways, such as with given codes, has an answer for each.
        turn: The question's id in its data, such as `"ref1023-sent5567"`; "" where it has none.
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
        """What is to be kept of a reply."""
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
        """The question, asked for so many times. Where the data lie is not part of it: folders are moved."""
        content = [self.sample, self.task, self.question, self.points, self.answer, time]
        marked = f" with {len(self.points)} points" if self.points else ""
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
    """What tells the questions of an evaluation apart.

    Attributes:
        id: Sixteen hexadecimal digits, a hash of the sample's id, the task, the words, the marked points, the true
            answer, and of a question that is asked several times which time it is.
        num_points: How many points it marks.
        description: What a message says of it.
    """

    id: str
    num_points: int = attrs.field(eq=False)
    description: str = attrs.field(default="", eq=False)


@contextmanager
def writing_answers(path: Path, *, append: bool = False) -> Iterator[Callable[[ScoredAnswer], None]]:
    """A function that writes an answer as a line of a file, which takes its place when the block ends well.

    Args:
        path: The file.
        append: Whether what is in the file stays, as it does from one data folder of an evaluation to the next.

    Raises:
        DataError: The disk refuses, or an answer cannot be said in JSON; what was there is unchanged.
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
    """The answers that an evaluation wrote into a folder.

    Args:
        folder: The folder.
        remedy: The end of a message: what to do about answers that are missing or broken.

    Raises:
        DataError: There are none, or a line is not of the form.
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
    """A line as an answer.

    Raises:
        TypeError: It is of another form.
        ValueError: A point has not two numbers.
    """
    names = [field.name for field in attrs.fields(ScoredAnswer)]
    # Answers of before have no "turn".
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
    """The figures whose answers count as right or wrong, in order."""
    return list(
        dict.fromkeys(name for one in answers for name, kept in one.scored.items() if "right" in kept)
    )


def paired(
    first: Mapping[AskedQuestion, bool], second: Mapping[AskedQuestion, bool], figure: str
) -> dict[AskedQuestion, tuple[bool, bool]]:
    """Whether each of two models answered each question of a figure right.

    Args:
        first: The first model's answers, as `right_by_question` has them.
        second: The second's.
        figure: What they are of, for messages.

    Raises:
        DataError: They were not asked the same questions of it, or none.
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
    """Whether each question of a figure was answered right; one that was asked several times is counted from 1."""
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
