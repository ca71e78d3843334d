"""Import pictures with depth maps from any folder, found by patterns of their paths or by the name of a layout.

`LAYOUTS` describes published data sets; any setting that you give overrides the layout's. A depth map stays in place
if a data folder can read it directly (16-bit gray PNG with 0 as unknown, float NPY with NaN). If other numbers or a
mask mark unknown depth, or far depth is cut off, the data folder gets a new map.
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
    """The layout of a published data set with depth; `DepthPairsSource` documents the attributes."""

    images: str
    depth: str
    mask: str | None = None
    scale: float
    unknown: tuple[float, ...] = (0.0,)
    unpaired: Unpaired = "refuse"


LAYOUTS: Mapping[str, Layout] = {
    # The frames extracted by BTS and others, in one folder per scene; millimetres.
    "nyu": Layout(images="{scene}rgb_{frame}.jpg", depth="{scene}sync_depth_{frame}.png", scale=0.001),
    # Raw drives and annotated depth: 1/256 metre, most pixels unknown; a drive's first and last frames have no depth.
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
    # Metres in NPY files; a mask in another file marks valid pixels.
    "diode": Layout(images="{key}.png", depth="{key}_depth.npy", mask="{key}_depth_mask.npy", scale=1.0),
    # Millimetres. The data set documents 65535 as unknown; 0 is unknown, too.
    "7-scenes": Layout(images="{key}.color.*", depth="{key}.depth.png", scale=0.001, unknown=(0.0, 65535.0)),
}


@attrs.frozen(kw_only=True)
class DepthPairsSource(SourceConfig):
    """Pictures with depth maps in files, and optionally questions about marked points.

    Attributes:
        folder: The folder that the pictures' paths are relative to.
        layout: One of `LAYOUTS`. It provides `images`, `depth`, `mask`, `scale`, `unknown` and `unpaired` if they are
            None.
        images: The pattern of the pictures' paths (`perceptio.data.sources.file_patterns`).
        depth: The pattern of the depth maps' paths.
        mask: The pattern of the masks' paths: NPY files or gray pictures that are 0 where depth is unknown.
        scale: Factor that converts a stored number to metres, or to disparity.
        unknown: Stored numbers that mean unknown depth; 0 by default. NaN is always unknown.
        unpaired: What to do with a picture without depth, or depth without a picture: `refuse` the import, or
            `leave_out` the file.
        unit: `metres`, or `disparity` (inverse depth of any scale).
        depth_folder: The folder that the paths of depth maps and masks are relative to; None: `folder`.
        farthest: Distance in metres beyond which depth is treated as unknown; None: no limit.
        questions: Number of questions about marked points per picture.
        rules: Which points may be asked about together.
        seed: Seed for drawing the points.
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
        """Refuse settings that leave the place or the meaning of depth open, or are out of range."""
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
        """Return the layout in effect: the settings, completed by the named layout where they are None."""
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
    """One sample per picture with depth, sorted by the pictures' paths."""

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
