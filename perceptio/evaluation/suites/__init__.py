"""Benchmarks: `perceptio eval RUN --suite NAME --data PATH --out DIR`.

A suite defines its data, how a model is asked, and the figures of the answers; `run_suite` asks the questions.
"""

from collections.abc import Iterable
from pathlib import Path

from perceptio.errors import UnknownNameError, near_miss
from perceptio.evaluation.suites.blink_depth import BLINKDepth
from perceptio.evaluation.suites.cv_bench import CVBench
from perceptio.evaluation.suites.depth import Depth
from perceptio.evaluation.suites.folders import data_folders
from perceptio.evaluation.suites.hardblink import HardBLINK
from perceptio.evaluation.suites.refcoco import RefCOCO
from perceptio.evaluation.suites.run import run_suite
from perceptio.evaluation.suites.suite import Suite, SuiteData
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.files import path_text

SUITES: dict[str, type[Suite]] = {one.name: one for one in (RefCOCO, HardBLINK, BLINKDepth, CVBench, Depth)}
"""All suites, by name."""

__all__ = ["SUITES", "Suite", "SuiteData", "open_all", "run_suite", "suite_named"]


def suite_named(name: str) -> type[Suite]:
    """Return the suite with a name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in SUITES:
        raise UnknownNameError(f"There is no suite {name!r}{near_miss(name, SUITES)}")
    return SUITES[name]


def open_all(suite: Suite, paths: Iterable[Path], model: PerceptionModel) -> dict[str, SuiteData]:
    """Open the data at paths, keyed by the names of their folders, or by their paths if two names are the same.

    Args:
        suite: The suite that the data belong to.
        paths: Folders or files with the data; a folder that contains data folders, such as splits, stands for these.
        model: The model to ask.

    Raises:
        DataError: The data do not exist, or do not have the suite's layout.
        InputError: The model lacks what the suite needs.
    """
    places = [place for path in paths for place in data_folders(path)]
    names = [place.resolve().name for place in places]
    return {
        (name if names.count(name) == 1 else path_text(place)): suite.open(place, model)
        for name, place in zip(names, places, strict=True)
    }
