"""The folder of a suite's evaluation, and whether an evaluation can continue from the answers in it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perceptio.errors import DataError, quoted
from perceptio.evaluation.answers import ANSWERS
from perceptio.ops.files import disk_errors, folder_lock
from perceptio.ops.json_files import read_json, read_log, rewrite_log, write_json
from perceptio.ops.wording import number_of

SUMMARY = "summary.json"
COMPARED = ("suite", "settings", "limit", "model", "data", "versions")
"""What must be equal for an evaluation to continue."""
REMEDY = "choose another --out, or remove the folder"
AskedAt = tuple[str, str, str]
"""The name of the data, the name of the image, and the question."""
KNOWN_BY = ("data", "sample", "question")
"""The fields of an answer with these values."""


def refuse_suite(out: Path) -> None:
    """Check that the answers in a folder may be replaced.

    Raises:
        DataError: The folder holds the evaluation of a suite.
    """
    if (out / SUMMARY).exists():
        raise DataError(f"{out} holds {SUMMARY}, the evaluation of a suite: {REMEDY}.")


def begin(
    out: Path, summary: Mapping[str, Any], total: int, asked: Iterable[AskedAt], held: ExitStack
) -> int:
    """Open and lock the folder of an evaluation for this process.

    Args:
        out: The folder.
        summary: What is evaluated, and on which data.
        total: Total number of questions.
        asked: The questions, in order.
        held: Keeps the lock.

    Returns:
        The number of questions that are already answered.

    Raises:
        DataError: The folder holds another evaluation, or cannot be written, or another process writes there.
    """
    answers = out / ANSWERS
    with disk_errors(out, DataError):
        held.enter_context(folder_lock(out))
        if (out / SUMMARY).exists():
            _check_same(out, read_json(out / SUMMARY, remedy=REMEDY), summary)
            values, torn = read_log(answers)
            if torn is not None:
                rewrite_log(answers, values)
            if len(values) > total:
                raise DataError(
                    f"{answers} has {number_of(len(values), 'answer')} to {number_of(total, 'question')}: {REMEDY}."
                )
            for line, (value, question) in enumerate(zip(values, asked, strict=False), start=1):
                if not isinstance(value, dict) or tuple(map(value.get, KNOWN_BY)) != question:
                    raise DataError(
                        f"{answers} line {line} is not the answer to {quoted(question[2])} of the sample "
                        f"{quoted(question[1])} of {question[0]}, which is asked there: {REMEDY}."
                    )
            return len(values)
        if answers.exists():
            raise DataError(f"{out} holds {ANSWERS} of an evaluation without a suite: {REMEDY}.")
        write_json(out / SUMMARY, summary)
        return 0


def _check_same(out: Path, there: Any, here: Mapping[str, Any]) -> None:
    """Refuse to continue an evaluation of something else.

    Raises:
        DataError: The two summaries differ in one of `COMPARED`.
    """
    if not isinstance(there, dict) or any(key not in there for key in COMPARED):
        raise DataError(f"{out / SUMMARY} is not the summary of a suite: {REMEDY}.")
    by_key = ([*_differences(key, there[key], here[key])] for key in COMPARED)
    # For another suite everything differs, and for another limit the questions do: the first difference says enough.
    found = next(filter(None, by_key), [])
    if found:
        different = [f"{path} is {_said(one)} there and {_said(other)} here" for path, one, other in found]
        raise DataError(f"{out} holds another evaluation: {'; '.join(different)}. {REMEDY.capitalize()}.")


def _differences(path: str, there: Any, here: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys((*there, *here)):
            yield from _differences(f"{path}.{key}", there.get(key), here.get(key))
    elif there != here:
        yield path, there, here


def _said(value: Any) -> str:
    return "not set" if value is None else quoted(value, 20)
