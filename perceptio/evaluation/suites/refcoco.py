"""RefCOCO, RefCOCO+ and RefCOCOg: referring segmentation, by cIoU and gIoU.

The arithmetic is that of Sa2VA's evaluation: cIoU sums intersections and unions over a split, gIoU is the mean IoU of
expressions. Every expression counts; an answer without a mask counts as an empty mask, and several masks are united.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError, InputError
from perceptio.evaluation.answers import ScoredAnswer
from perceptio.evaluation.asking import task_data
from perceptio.evaluation.suites.folders import FolderData
from perceptio.evaluation.suites.suite import Suite, SuiteData
from perceptio.interfaces import Pass
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.mask_metrics import MaskMeter

TASK = "referring"
IMPORT = "make one of the published files with `perceptio data import refcoco`"


@attrs.frozen(kw_only=True)
class RefCOCO(Suite):
    """A data folder of one split of one of the sets, whose referring expressions are asked."""

    name: ClassVar[str] = "refcoco"
    about: ClassVar[str] = "referring segmentation: cIoU and gIoU of a split"

    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """See `Suite.open`."""
        dataset = FolderDataset(path)
        data = FolderData.of_task(dataset, TASK)
        if not len(data):
            raise DataError(f"{path} has no question of the task {TASK!r}: {IMPORT}.")
        if not len(dataset.with_target("masks")):
            raise DataError(f"{path} has referring expressions and no masks to measure answers by: {IMPORT}.")
        return data

    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """See `Suite.asking`."""
        passes = TaskTable(model.recipe)[TASK].passes(TASK, task_data(model, data.units))
        for one in passes:
            if one.decodes:
                return one
        written = ", ".join(model.streams) or "no stream"
        raise InputError(
            f"The suite {self.name} needs a model that writes masks of objects, and this one writes {written}: "
            "evaluate one with a stream of masks, such as segmentation."
        )

    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """See `MaskMeter.compute`."""
        meter = MaskMeter()
        for one in answers:
            meter.add(one.scored[TASK])
        return meter.compute()
