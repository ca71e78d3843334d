"""Accuracies on marked-point questions that need no idea of depth: lower bounds that a model has to beat."""

from collections import Counter
from typing import Any

import numpy as np

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.interfaces import LETTERS, Turn
from perceptio.ops.intervals import wilson


def shortcuts(
    dataset: FolderDataset, task: str = "relative_depth", *, limit: int | None = None
) -> dict[str, Any]:
    """Return the accuracy of three shortcuts on the marked-point questions of a folder, in [0, 1].

    `majority` answers the letter that is most often right among questions with the same number of points. `lowest`
    answers the point lowest in the image. `largest` answers the point on the object with the most pixels, or the
    lowest point if none is on an object. Each accuracy is the mean over numbers of points, as for models, with a 95%
    interval over all questions in `<name>_interval`.

    Args:
        dataset: The folder.
        task: The name of its marked-point questions.
        limit: Use only this many samples, from the first; None: all.

    Raises:
        DataError: The folder has no marked-point question.
    """
    asked: list[tuple[int, Turn]] = [
        (number, turn)
        for number in range(len(dataset) if limit is None else limit)
        for turn in dataset.turns(number)
        if turn.task == task
    ]
    if not asked:
        raise DataError(f"{dataset.name} has no {task} question, so there is no shortcut to measure.")
    right_letters = {
        count: Counter(_right(turn) for _, turn in asked if len(turn.points) == count)
        for count in _counts(asked)
    }
    majority = {count: letters.most_common(1)[0][0] for count, letters in right_letters.items()}
    choices = {
        "majority": [majority[len(turn.points)] for _, turn in asked],
        "lowest": [_lowest(turn) for _, turn in asked],
        "largest": _largest(dataset, asked),
    }
    figures: dict[str, Any] = {}
    for name, chosen in choices.items():
        hits = [one == _right(turn) for one, (_, turn) in zip(chosen, asked, strict=True)]
        by_count = [
            np.mean([hit for hit, (_, turn) in zip(hits, asked, strict=True) if len(turn.points) == count])
            for count in _counts(asked)
        ]
        figures[name] = float(np.mean(by_count))
        figures[f"{name}_interval"] = list(wilson(sum(hits), len(hits)))
    return figures


def names_a_point(turn: Turn) -> bool:
    """Return whether the answer to a question is the letter of one of its marked points, as `shortcuts` requires."""
    return turn.answer.strip("()") in tuple(LETTERS[: len(turn.points)])


def _counts(asked: list[tuple[int, Turn]]) -> list[int]:
    return sorted({len(turn.points) for _, turn in asked})


def _right(turn: Turn) -> int:
    return LETTERS.index(turn.answer.strip("()"))


def _lowest(turn: Turn) -> int:
    return int(np.argmax([y for _, y in turn.points]))


def _largest(dataset: FolderDataset, asked: list[tuple[int, Turn]]) -> list[int]:
    """Return the index of the point on the largest object for each question; masks are read once per image."""
    chosen, held, masks = [], -1, list[np.ndarray]()
    for number, turn in asked:
        if number != held:
            held, masks = number, list(dataset.object_masks(number).values())
        areas = [
            max((mask.sum() for mask in masks if _covers(mask, point)), default=0) for point in turn.points
        ]
        chosen.append(int(np.argmax(areas)) if max(areas) else _lowest(turn))
    return chosen


def _covers(mask_HW: np.ndarray, point: tuple[float, float]) -> bool:
    height, width = mask_HW.shape
    return bool(mask_HW[min(int(point[1] * height), height - 1), min(int(point[0] * width), width - 1)])
