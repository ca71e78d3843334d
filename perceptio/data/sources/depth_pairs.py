"""Pictures with depth of their own, from any folder: found by patterns of their paths, or by the name of a layout.

`LAYOUTS` are published ones; each setting that is given replaces what a layout says. A depth map stays where it is if
a data folder can read it so (16-bit gray PNG with 0 as unknown, float NPY with NaN). Where other numbers say that
depth is unknown, or a mask does, or far depth is cut off, the folder gets a map of its own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import attrs
import numpy as np

from perceptio.data.point_questions import DEFAULT_RULES, PointRules
from perceptio.data.sources.depth_files import DepthFile, DepthFormat
from perceptio.data.sources.file_patterns import Paired, Pattern, Unpaired, paired
from perceptio.data.sources.marked_depth import MarkedDepth
from perceptio.data.sources.pictures import check_fits
from perceptio.errors import RecipeError
from perceptio.interfaces import Kind, LeftOut, SourceConfig, SourceInfo, SourceSample, TurnRecord
from perceptio.interfaces.depth_maps import check_values
from perceptio.ops.files import expanded

ROOT, DEPTH_ROOT = "pictures", "depth"
REWRITTEN = "the depth is not as a data folder has it, and was written anew"


@attrs.frozen(kw_only=True)
class Layout:
    """How a data set with depth is published: patterns of paths, and what the stored numbers mean."""

    images: str
    depth: str
    mask: str | None = None
    scale: float
    unknown: tuple[float, ...] = (0.0,)
    unpaired: Unpaired = "refuse"


LAYOUTS: Mapping[str, Layout] = {
    # The frames that BTS and others extracted, in a folder for each scene: millimetres.
    "nyu": Layout(images="{scene}rgb_{frame}.jpg", depth="{scene}sync_depth_{frame}.png", scale=0.001),
    # Raw drives beside the annotated depth: 1/256 metre, most pixels unknown, no depth of a drive's first and last.
    "kitti": Layout(
        images="*/{drive}/image_{camera}/data/{frame}.png",
        depth="*/{drive}/proj_depth/groundtruth/image_{camera}/{frame}.png",
        scale=1 / 256,
        unpaired="leave_out",
    ),
    # The benchmark's own selection, `depth_selection/val_selection_cropped`.
    "kitti-selection": Layout(
        images="image/{drive}_sync_image_{frame}.png",
        depth="groundtruth_depth/{drive}_sync_groundtruth_depth_{frame}.png",
        scale=1 / 256,
    ),
    # Metres in NPY, valid where a mask beside says so.
    "diode": Layout(images="{key}.png", depth="{key}_depth.npy", mask="{key}_depth_mask.npy", scale=1.0),
    # Millimetres; beside 65535, which the data set says is unknown, 0 is.
    "7-scenes": Layout(images="{key}.color.*", depth="{key}.depth.png", scale=0.001, unknown=(0.0, 65535.0)),
}


@attrs.frozen(kw_only=True)
class DepthPairsSource(SourceConfig):
    """Pictures that lie beside their depth, with questions about marked points if they are asked for.

    Attributes:
        folder: Where the paths of pictures begin.
        layout: One of `LAYOUTS`, which says the following seven where they are None.
        images: The pattern of the pictures' paths (`perceptio.data.sources.file_patterns`).
        depth: That of the depth maps' paths.
        mask: That of NPY files or gray pictures which are 0 where depth is unknown.
        scale: What a stored number is multiplied with to be metres, or disparity.
        unknown: Stored numbers that say that depth is unknown; by default 0. NaN always does.
        unpaired: What becomes of a picture without depth, or depth without a picture: `refuse` the import, or
            `leave_out` what is alone.
        unit: `metres`, or `disparity`: inverse depth of any scale.
        depth_folder: Where the paths of depth maps and masks begin; None: `folder`.
        farthest: Metres beyond which depth is unknown.
        questions: How many questions about marked points a picture gets.
        rules: Which points are asked about together.
        seed: Of the points that are drawn.
    """

    name: ClassVar[str] = "depth-pairs"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    layout: Literal["nyu", "kitti", "kitti-selection", "diode", "7-scenes"] | None = None
    images: str | None = None
    depth: str | None = None
    mask: str | None = None
    scale: float | None = None
    unknown: tuple[float, ...] | None = None
    unpaired: Unpaired | None = None
    unit: Literal["metres", "disparity"] = "metres"
    depth_folder: str | None = None
    farthest: float | None = None
    questions: int = 0
    rules: PointRules = DEFAULT_RULES
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        """Refuse settings that do not say where depth is and what it means."""
        lacking = [name for name in ("images", "depth", "scale") if getattr(self, name) is None]
        if self.layout is None and lacking:
            raise RecipeError(
                f"{' and '.join(lacking)} must be set where no layout is: one of {', '.join(LAYOUTS)}."
            )
        if self.scale is not None and not self.scale > 0:
            raise RecipeError(f"scale is {self.scale}; it must be above 0.")
        if self.farthest is not None and not (self.farthest > 0 and self.unit == "metres"):
            raise RecipeError(f"farthest is {self.farthest}; it must be above 0, of depth in metres.")
        if any(code != code for code in self.unknown or ()):
            raise RecipeError("unknown has NaN, which is unknown in any case: leave it out.")
        if self.questions < 0:
            raise RecipeError(f"questions is {self.questions}; it must not be below 0.")

    def info(self) -> SourceInfo:
        """See `SourceConfig.info`."""
        roots = {ROOT: str(expanded(self.folder).resolve()), DEPTH_ROOT: str(self._depth_folder().resolve())}
        return SourceInfo(roots=roots, depth_unit=self.unit, depth_scale=self._layout().scale)

    def samples(self) -> "_Samples":
        """See `SourceConfig.samples`."""
        return _Samples(self, self._found())

    def _layout(self) -> Layout:
        """What holds: the settings, and where they are None the layout."""
        named = LAYOUTS.get(self.layout or "")
        own = {field.name: getattr(self, field.name) for field in attrs.fields(Layout)}
        given = {name: value for name, value in own.items() if value is not None}
        return Layout(**given) if named is None else attrs.evolve(named, **given)

    def _depth_folder(self) -> Path:
        return expanded(self.folder if self.depth_folder is None else self.depth_folder)

    def _found(self) -> Paired:
        layout, folder = self._layout(), expanded(self.folder)
        patterns = {
            "images": Pattern(folder=folder, text=layout.images),
            "depth": Pattern(folder=self._depth_folder(), text=layout.depth),
        }
        if layout.mask is not None:
            patterns["mask"] = Pattern(folder=self._depth_folder(), text=layout.mask)
        return paired(patterns, layout.unpaired)


class _Samples:
    """A sample for each picture with depth, in the order of the pictures' paths."""

    def __init__(self, config: DepthPairsSource, found: Paired) -> None:
        layout = config._layout()
        self._found = found
        self._folder, self._depth_folder = expanded(config.folder), config._depth_folder()
        self._format = DepthFormat(
            unit=config.unit, scale=layout.scale, unknown=layout.unknown, farthest=config.farthest
        )
        self._marked = MarkedDepth(per_image=config.questions, rules=config.rules, seed=config.seed)

    def __len__(self) -> int:
        return len(self._found.files)

    def __iter__(self) -> Iterator[SourceSample | LeftOut]:
        for what, path in self._found.alone:
            yield LeftOut(what=path, why=f"nothing belongs to this file of {what}")
        for number, files in enumerate(self._found.files):
            id = files["images"].rpartition(".")[0]
            opened = DepthFile.open(self._depth_folder / files["depth"])
            picture = self._folder / files["images"]
            notes = check_fits(picture, opened.size, f"its depth {opened.path} is")
            mask = self._depth_folder / files["mask"] if "mask" in files else None
            stays = mask is None and opened.can_stay(self._format)
            depth = opened.read(self._format, mask)
            if np.isnan(depth.values_HW).all():
                yield LeftOut(what=id, why="its depth has no known pixel")
                continue
            check_values(depth, str(opened.path))
            turns: list[TurnRecord] = []
            for asked in self._marked.turns(depth, id, number):
                if isinstance(asked, LeftOut):
                    yield asked
                else:
                    turns.append(asked)
            yield SourceSample(
                id=id,
                image=f"{ROOT}:{files['images']}",
                depth=f"{DEPTH_ROOT}:{files['depth']}" if stays else depth,
                turns=tuple(turns),
                notes=notes if stays else (*notes, REWRITTEN),
            )
