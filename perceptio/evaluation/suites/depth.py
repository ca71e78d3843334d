"""Depth maps of any RGB-D data: AbsRel, RMSE and delta, under a stated alignment."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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
from perceptio.interfaces import DepthMap, DepthSpec, GenerationSettings, Kept, Pass, Question, Reply, Sample
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.aligned_depth import Alignment, Crop, aligned_errors, mean_errors

FIGURE = "depth"


def _above_0(_: Any, field: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, int | float) and not value > 0:
        raise InputError(f"{field.name} is {value}: it must be above 0.")


@attrs.frozen(kw_only=True)
class Depth(Suite):
    """A data folder with depth in metres; the model is asked for the depth of every image that has ground truth.

    Attributes:
        alignment: How predicted depth is aligned to metres: `none`, `median` or `least_squares`. None means `none`
            if the model predicts metres, otherwise `least_squares`.
        max_depth: Distance in metres beyond which the ground truth counts as unknown, such as 10 for NYUv2 and 80 for
            KITTI.
        crop: The part of each image that counts in published figures: `eigen_nyu` for NYUv2, `garg` or `eigen_kitti`
            for KITTI; None: the whole image.
    """

    name: ClassVar[str] = "depth"
    about: ClassVar[str] = "depth maps: AbsRel, RMSE and delta, under a stated alignment"

    alignment: Alignment | None = None
    max_depth: float | None = attrs.field(default=None, validator=_above_0)
    crop: Crop | None = None

    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """See `Suite.open`."""
        dataset, task = FolderDataset(path), self._task(model)
        unit = dataset.info.units.get("depth")
        if unit != "metres":
            stated = "no depth" if unit is None else f"depth in {unit}"
            raise DataError(
                f"{path} has {stated}, and the suite {self.name} measures against depth in metres."
            )
        # The model's own question for its depth, which is the same for every image.
        turn = TaskTable(model.recipe)[task].own_turn(task, Sample(turns=()))
        data = FolderData(dataset, dataset.with_target("depth").tolist(), lambda turns: [turn])
        if not len(data):
            raise DataError(f"No sample of {path} has depth, and the suite {self.name} measures against it.")
        return data

    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """See `Suite.asking`."""
        task = self._task(model)
        (asked, *_) = TaskTable(model.recipe)[task].passes(task, task_data(model, data.units))
        measured = partial(
            aligned_errors, alignment=self._alignment(model), max_depth=self.max_depth, crop=self.crop
        )
        return AlignedMaps(asked, _stream(model), self._alignment(model), measured)

    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """See `mean_errors`; `alignment` is the alignment that was used."""
        kept = [one.scored[FIGURE] for one in answers]
        errors = mean_errors(None if one["missing"] else one for one in kept)
        return {"alignment": kept[0]["alignment"]} | errors

    def _task(self, model: PerceptionModel) -> str:
        """Return the task that asks only for a model's depth."""
        return TaskTable(model.recipe).of_stream(_stream(model))

    def _alignment(self, model: PerceptionModel) -> Alignment:
        stream = _stream(model)
        tokenizer = model.recipe.specs.streams[stream].tokenizer
        assert isinstance(tokenizer, DepthSpec)
        metric = tokenizer.convention.metric
        if self.alignment == "none" and not metric:
            raise InputError(
                f"The stream {stream!r} writes relative depth, which has no metres to be measured as they are: set "
                "alignment to least_squares or median."
            )
        return self.alignment or ("none" if metric else "least_squares")


class AlignedMaps(Pass):
    """Depth maps, each compared with the ground truth after an alignment.

    Args:
        asked: The pass that asks for depth.
        stream: The stream to ask for.
        alignment: See `Depth`.
        measured: Returns the errors of a map against the ground truth.
    """

    def __init__(
        self,
        asked: Pass,
        stream: str,
        alignment: Alignment,
        measured: Callable[[DepthMap, DepthMap], Mapping[str, float]],
    ) -> None:
        super().__init__(asked.task)
        self.decodes = (stream,)
        self._asked, self._alignment, self._measured = asked, alignment, measured

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """Return the settings of the pass that asks for depth."""
        return self._asked.settings(questions)

    def score(self, reply: Reply) -> Kept:
        """Return the errors of the map; `missing` if none was written.

        Raises:
            DataError: The ground truth cannot be used.
        """
        sample = reply.question.sample
        written, truth = reply.decoded[self.decodes[0]], sample.depth
        assert truth is not None, "Only pictures with depth are asked about."
        try:
            errors = {} if written is None else self._measured(written, truth)
        except InputError as error:
            raise DataError(f"{sample.source}: {error}") from error
        return {FIGURE: {"alignment": self._alignment, "missing": written is None, **errors}}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return nothing, because the suite computes figures from the kept answers."""
        return {}


def _stream(model: PerceptionModel) -> str:
    """Return the name of the depth stream that a model writes once per image.

    Raises:
        InputError: The model has none.
    """
    recipe = model.recipe
    for stream in recipe.streams:
        if stream.spec.per == "image" and isinstance(recipe.specs.streams[stream.name].tokenizer, DepthSpec):
            return stream.name
    written = ", ".join(model.streams) or "no stream"
    raise InputError(
        f"The suite {Depth.name} needs a model that writes depth maps, and this one writes {written}: evaluate one "
        "with a stream of depth."
    )
