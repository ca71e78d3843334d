"""Questions about which of several marked points is closest: HardBLINK's, and new ones for any depth maps.

`folder` is one of two things. It may have HardBLINK's layout, as published by AURORA (`perceptio.data.hardblink`).
Its points are drawn on the images and their coordinates are not published, so its questions have the task
`drawn_points` and no `points`. Or it is a data folder with depth. Its images are used again, with their depth, and
`perceptio.data.point_questions` makes new questions. These have the task `relative_depth` and `points`, which are
drawn on the image only by a recipe with `points="drawn"`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs

from perceptio.data.folder import DatasetInfo, FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE, parse_info
from perceptio.data.folder.files import split_root
from perceptio.data.folder.places import check_unpacked
from perceptio.data.hardblink import hardblink_questions
from perceptio.data.point_questions import DEFAULT_RULES, PointRules
from perceptio.data.sources.marked_depth import MarkedDepth
from perceptio.data.sources.pictures import check_fits, extent_of
from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import Kind, LeftOut, SourceConfig, SourceInfo, SourceSample, TurnRecord
from perceptio.ops.files import expanded

ROOT = "marked"
_OF_QUESTIONS = ("per_image", "rules", "seed")


@attrs.frozen(kw_only=True)
class MarkedPointsSource(SourceConfig):
    """HardBLINK, or new questions about the depth of a data folder.

    Attributes:
        folder: `Data/evals/hardblink` of AURORA's repository, or a data folder with depth.
        points: For HardBLINK, the sets to read, by their numbers of points.
        per_image: For a data folder, the number of questions per image.
        rules: For a data folder, rules for the points of a question.
        seed: Seed for drawing the points.
    """

    name: ClassVar[str] = "marked-points"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    points: tuple[int, ...] = (3, 4, 5)
    per_image: int = 1
    rules: PointRules = DEFAULT_RULES
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        """Refuse to ask for nothing."""
        if not self.points:
            raise RecipeError("points is empty; it must name a number of points.")
        if self.per_image < 1:
            raise RecipeError(f"per_image is {self.per_image}; it must be at least 1.")

    def info(self) -> SourceInfo:
        """See `SourceConfig.info`."""
        folder = self._folder()
        if not self._makes_questions():
            return SourceInfo(roots={ROOT: str(folder)})
        info = parse_info(folder)
        if info.depth_unit is None:
            raise DataError(
                f"{folder} has no depth, of which questions could be made: add it with depth-targets."
            )
        roots = {_root_of(name): str(folder / place) for name, place in info.roots.items()}
        return SourceInfo(
            roots={ROOT: str(folder)} | roots, depth_unit=info.depth_unit, depth_scale=info.depth_scale
        )

    def samples(self) -> Iterator[SourceSample | LeftOut]:
        """See `SourceConfig.samples`."""
        return self._made() if self._makes_questions() else self._published()

    def _folder(self) -> Path:
        return Path(os.path.realpath(expanded(self.folder)))

    def _makes_questions(self) -> bool:
        """Return whether the folder is a data folder; refuse settings that do not apply to it."""
        check_unpacked(self.folder, "new questions name")
        if not self._folder().is_dir():
            raise DataError(f"There is no folder {self.folder}: check the path.")
        made = (self._folder() / INFO_FILE).is_file()
        for name in ("points",) if made else _OF_QUESTIONS:
            if getattr(self, name) != getattr(attrs.fields(type(self)), name).default:
                kind = "a data folder" if made else "no data folder"
                raise DataError(f"{self.folder} is {kind}, for which {name} says nothing: leave it out.")
        return made

    def _published(self) -> Iterator[SourceSample | LeftOut]:
        folder = self._folder()
        questions = list(hardblink_questions(folder))
        found = {question.points for question in questions}
        if lacking := sorted(set(self.points) - found):
            raise DataError(
                f"{folder} has no set of {', '.join(map(str, lacking))} points, and has {_listed(found)}: "
                f"say so with --set 'points={sorted(found)}'."
            )
        for question in questions:
            if question.points not in self.points:
                continue
            turn = TurnRecord(task="drawn_points", question=question.question, answer=question.answer)
            extent_of(question.picture)
            picture = question.picture.relative_to(folder).as_posix()
            yield SourceSample(id=f"{question.set}-{question.id}", image=f"{ROOT}:{picture}", turns=(turn,))

    def _made(self) -> Iterator[SourceSample | LeftOut]:
        dataset = FolderDataset(self._folder())
        marked = MarkedDepth(per_image=self.per_image, rules=self.rules, seed=self.seed)
        for number, record in enumerate(dataset.records):
            depth = dataset.depth(number)
            if record.image is None or record.depth is None or depth is None:
                yield LeftOut(what=record.id, why="it has no depth")
                continue
            turns: list[TurnRecord] = []
            for asked in marked.turns(depth, record.id, number):
                if isinstance(asked, LeftOut):
                    yield asked
                else:
                    turns.append(asked)
            if turns:
                size = (depth.values_HW.shape[0], depth.values_HW.shape[1])
                check_fits(Path(dataset.files.where(record.image)), size, f"the depth of {record.id} is")
                image, own = (_renamed(path, dataset.info) for path in (record.image, record.depth))
                yield SourceSample(id=record.id, image=image, depth=own, turns=tuple(turns))


def _renamed(path: str, info: DatasetInfo) -> str:
    """Return a path of the data folder as samples of this source use it."""
    root, inside = split_root(path, info.roots)
    return f"{ROOT if root is None else _root_of(root)}:{inside}"


def _root_of(name: str) -> str:
    return f"{ROOT}-{name}"


def _listed(found: set[int]) -> str:
    return ", ".join(map(str, sorted(found))) or "none"
