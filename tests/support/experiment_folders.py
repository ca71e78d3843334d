"""Experiments without training: cells with the answers and figures that a test says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perceptio.evaluation.answers import ANSWERS, ScoredAnswer, writing_answers
from perceptio.experiments.results import CellResult, ExperimentResult
from perceptio.ops.intervals import wilson


def figures_of(letters: str, **others: Any) -> dict[str, Any]:
    """What an evaluation says of a plain task `color` with these answers, r for a right one; `others` come after."""
    right, count = letters.count("r"), len(letters)
    own = {"accuracy": right / count, "interval": list(wilson(right, count)), "count": count}
    return {"color": own, **others}


def cell(
    root: Path,
    variant: str,
    seed: int,
    letters: str = "",
    *,
    points: tuple[int, ...] = (),
    figures: Mapping[str, Any] | None = None,
    curve: tuple[dict[str, float], ...] = (),
    recipe: Mapping[str, Any] | None = None,
    **changes: Any,
) -> CellResult:
    """A cell of an experiment: complete, with one answer for each letter, where letters are given.

    Args:
        root: Where its folders lie.
        variant: Its variant.
        seed: Its seed.
        letters: Its answers, r for a right one.
        points: How many points each question marks; by default none.
        figures: What its evaluation found, where it is more than `figures_of` the letters.
        curve: The lines of its metrics.jsonl.
        recipe: What its recipe.json says.
        **changes: Fields of the cell.
    """
    name = f"{variant}-{seed}"
    folder, evaluation = root / "cells" / name, root / "evaluations" / name
    for one in (folder, evaluation):
        one.mkdir(parents=True, exist_ok=True)
    if letters:
        with writing_answers(evaluation / ANSWERS) as keep:
            for number, letter in enumerate(letters):
                keep(
                    ScoredAnswer(
                        data="data/test",
                        sample=f"{number}",
                        task="color",
                        question="Which?",
                        points=((0.5, 0.5),) * (points[number] if points else 0),
                        answer="red",
                        reply="red" if letter == "r" else "blue",
                        scored={"color": {"right": letter == "r"}},
                    )
                )
    if curve:
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in curve))
    if recipe is not None:
        (folder / "recipe.json").write_text(json.dumps(recipe))
    given: dict[str, Any] = {
        "variant": variant,
        "seed": seed,
        "fingerprint": name,
        "status": "complete" if letters else "waiting",
        "folder": folder,
        "figures": figures_of(letters) if letters and figures is None else figures or {},
        "answers": evaluation / ANSWERS,
        "seconds": 60.0 if letters else None,
        "parameters": 1000 if letters else None,
        "error": "",
    }
    return CellResult(**given | changes)


def experiment(*cells: CellResult, baseline: str = "base", name: str = "colors") -> ExperimentResult:
    """An experiment of these cells."""
    return ExperimentResult(name=name, baseline=baseline, cells=cells)
