"""Images with the class of every pixel, in the form of ADE20K's scene parsing data (ADEChallengeData2016).

The source reads `images/SPLIT`, `annotations/SPLIT` with a gray PNG of class numbers for each image (0 means no
class), and a list of names. The full ADE20K, whose PNGs encode classes as colors, has another form. Other data sets
of this form are read by patterns, such as Cityscapes' `*_gtFine_labelIds.png`.

A class with enough pixels is asked for once, by the first of its names: `the wall`. The answer is one mask of all its
pixels, whether they show one object, several or none, as in LISA: the data contain classes of pixels, not objects.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import ClassVar

import attrs
import numpy as np

from perceptio.data.sources.class_names import class_names
from perceptio.data.sources.file_patterns import Paired, Pattern, Unpaired, paired
from perceptio.data.sources.phrasing import Phrasing, referring_turn
from perceptio.data.sources.pictures import check_fits
from perceptio.errors import DataError, InputError, RecipeError
from perceptio.interfaces import Kind, LeftOut, SourceConfig, SourceInfo, SourceSample
from perceptio.ops.files import expanded
from perceptio.ops.image_files import open_image

ROOT = "ade20k"
_GRAY_MODES = ("L", "P", "I;16")


@attrs.frozen(kw_only=True)
class ADE20KSource(SourceConfig):
    """Referring questions for all pixels of a class, by its name.

    Attributes:
        folder: Folder with the images, the class numbers and the list of names.
        split: The folder within `images` and `annotations`: `training` or `validation`.
        images: Pattern of the images' paths (`perceptio.data.sources.file_patterns`); None: ADE20K's.
        annotations: Pattern of the PNGs of class numbers; None: ADE20K's.
        names: The list of names (`perceptio.data.sources.class_names`), in `folder` or elsewhere.
        ignored: Numbers that mean no class, besides 0.
        smallest: Minimum share of the image's pixels for a class to be asked for.
        expression: The referring expression, which contains the name.
        phrasing: Phrasing of the questions: `canonical`, as in evaluation, or `varied`, for training.
        unpaired: What to do with an image without class numbers, or the reverse: `refuse` the import, or `leave_out`
            the file.
        seed: Seed of the phrasing.
    """

    name: ClassVar[str] = "ade20k"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    split: str = "training"
    images: str | None = None
    annotations: str | None = None
    names: str = "objectInfo150.txt"
    ignored: tuple[int, ...] = ()
    smallest: float = 0.005
    expression: str = "the {name}"
    phrasing: Phrasing = "canonical"
    unpaired: Unpaired = "refuse"
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        """Reject settings that conflict with each other."""
        if (self.images is None) != (self.annotations is None):
            raise RecipeError("images and annotations must both be set, or neither.")
        if not 0 <= self.smallest < 1:
            raise RecipeError(f"smallest is {self.smallest}; it must be a share of the picture, from 0 to 1.")
        if "{name}" not in self.expression:
            raise RecipeError(f"expression is {self.expression!r}; it must have {{name}} in it.")

    def info(self) -> SourceInfo:
        """See `SourceConfig.info`."""
        return SourceInfo(roots={ROOT: str(expanded(self.folder).resolve())})

    def samples(self) -> "_Samples":
        """See `SourceConfig.samples`."""
        return _Samples(self, class_names(expanded(self.folder) / self.names), self._found())

    def _found(self) -> Paired:
        folder = expanded(self.folder)
        images, annotations = self.images, self.annotations
        if images is None or annotations is None:
            self._check_split(folder)
            images, annotations = f"images/{self.split}/{{key}}.jpg", f"annotations/{self.split}/{{key}}.png"
        patterns = {
            "images": Pattern(folder=folder, text=images),
            "annotations": Pattern(folder=folder, text=annotations),
        }
        return paired(patterns, self.unpaired)

    def _check_split(self, folder: Path) -> None:
        for kind in ("images", "annotations"):
            if (folder / kind / self.split).is_dir():
                continue
            there = sorted(one.name for one in (folder / kind).glob("*") if one.is_dir())
            raise DataError(
                f"There is no folder {folder / kind / self.split}; {kind} has {', '.join(there) or 'none'}: set "
                "split to one of these, or images and annotations to the patterns of yours."
            )


class _Samples:
    """A sample for each image with a class to ask for, in the order of the paths."""

    def __init__(self, config: ADE20KSource, names: dict[int, str], found: Paired) -> None:
        self._config, self._names, self._found = config, names, found
        self._folder = expanded(config.folder)
        self._ignored = {0, *config.ignored}

    def __len__(self) -> int:
        return len(self._found.files)

    def __iter__(self) -> Iterator[SourceSample | LeftOut]:
        config = self._config
        for what, path in self._found.alone:
            yield LeftOut(what=path, why=f"nothing belongs to this file of {what}")
        for files in self._found.files:
            id = files["images"].rpartition(".")[0]
            random = Random(f"{config.seed} {id}")
            picture, annotation = (self._folder / files[kind] for kind in ("images", "annotations"))
            size, pixels = self._pixels(annotation)
            notes = check_fits(picture, size, f"its class numbers {annotation} are")
            total, turns = sum(pixels.values()), []
            named = {
                number: self._name(number, files["annotations"])
                for number in sorted(pixels.keys() - self._ignored)
            }
            names = Counter(named.values())
            for number, name in named.items():
                if pixels[number] < config.smallest * total:
                    yield LeftOut(what=f"{name} in {id}", why="the class shows too little")
                    continue
                if names[name] > 1:
                    yield LeftOut(what=f"{name} in {id}", why="two classes of the picture have this name")
                    continue
                expression = config.expression.replace("{name}", name)
                turns.append(referring_turn(expression, number, random, config.phrasing))
            if turns:
                image, masks = f"{ROOT}:{files['images']}", f"{ROOT}:{files['annotations']}"
                yield SourceSample(id=id, image=image, masks=masks, turns=tuple(turns), notes=notes)
            else:
                yield LeftOut(what=id, why="no class shows enough")

    def _pixels(self, annotation: Path) -> tuple[tuple[int, int], dict[int, int]]:
        """Return height and width of a PNG of class numbers, and the number of pixels of each class."""
        try:
            with open_image(annotation, save_as="8-bit gray PNG", min_side=1) as stored:
                if stored.format != "PNG" or stored.mode not in _GRAY_MODES:
                    raise DataError(
                        f"{annotation} is {stored.format} of mode {stored.mode}, and class numbers are a gray PNG: "
                        "the full ADE20K says them in colors, which is another form."
                    )
                counts = np.bincount(np.asarray(stored).ravel())
        except InputError as error:
            raise DataError(str(error)) from error
        found = {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
        return (stored.height, stored.width), found

    def _name(self, number: int, annotation: str) -> str:
        if number not in self._names:
            raise DataError(
                f"{self._folder / annotation} has class {number}, of which {self._config.names} says no name: name "
                f"its list with --set names=FILE, or pass over the number with --set ignored=[{number}]."
            )
        return self._names[number]
