"""COCO as published: objects with names, from polygons or panoptic PNGs, and captions.

The source reads `annotations/instances_SPLIT.json`, `captions_SPLIT.json`, `panoptic_SPLIT.json` with a folder of
PNGs `panoptic_SPLIT` beside it, and images in `SPLIT`. Referring questions are made from the names of categories and
from places (`places`); a caption answers a question that asks for one. Objects have the ids of their annotations or
segments.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import ClassVar, Literal

import attrs

from perceptio.data.folder.json_rules import is_whole
from perceptio.data.sources.coco_files import COCOFile, Picture
from perceptio.data.sources.coco_masks import area_and_box
from perceptio.data.sources.coco_objects import FoundObject, instances_of, panoptic_folder, segments_of
from perceptio.data.sources.phrasing import Phrasing, referring_turn
from perceptio.data.sources.pictures import Missing, Pictures, UnusablePictureError, folder_of_pictures
from perceptio.data.sources.places import NamedObject, expressions
from perceptio.errors import DataError, RecipeError, quoted
from perceptio.interfaces import Kind, LeftOut, RunLengths, SourceConfig, SourceInfo, SourceSample, TurnRecord
from perceptio.ops.files import expanded
from perceptio.ops.wording import number_of

ROOT = "coco"
ASK_CAPTION = "Describe this image in one sentence."


@attrs.frozen(kw_only=True)
class COCOSource(SourceConfig):
    """Objects and captions of COCO: referring questions from names and places, and questions for a caption.

    Attributes:
        folder: Folder with `annotations` and the images.
        split: The split, as in the names of the published files.
        objects: The objects whose masks are asked for: `instances`, `panoptic` (things and stuff), or `none`.
        expressions: Maximum number of referring questions per image, drawn from all that are unambiguous.
        smallest: Minimum share of the image's pixels for an object to be mentioned.
        captions: Maximum number of captions per image, drawn from its own; 0: none, and the file is not read.
        images: The folder of images; None: one of the usual places in `folder`.
        objects_file: The JSON of the objects, within `folder`; None: by its published name.
        captions_file: The JSON of the captions, likewise.
        missing: What to do if an image is missing or its size differs from its annotations: `refuse` the import, or
            `leave_out` everything about it.
        phrasing: Phrasing of referring questions: `canonical`, as in evaluation, or `varied`, for training.
        seed: Seed of all draws.
    """

    name: ClassVar[str] = "coco"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    split: str = "train2017"
    objects: Literal["instances", "panoptic", "none"] = "instances"
    expressions: int = 5
    smallest: float = 0.005
    captions: int = 1
    images: str | None = None
    objects_file: str | None = None
    captions_file: str | None = None
    missing: Missing = "refuse"
    phrasing: Phrasing = "canonical"
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        """Reject settings that request nothing, or negative numbers."""
        if min(self.expressions, self.captions) < 0:
            raise RecipeError(
                f"expressions is {self.expressions} and captions is {self.captions}; they must not be below 0."
            )
        if not 0 <= self.smallest < 1:
            raise RecipeError(f"smallest is {self.smallest}; it must be a share of the picture, from 0 to 1.")
        if self.objects == "none" and not self.captions:
            raise RecipeError(
                "objects is 'none' and captions is 0, so that nothing is asked: set one of them."
            )

    def info(self) -> SourceInfo:
        """See `SourceConfig.info`."""
        return SourceInfo(roots={ROOT: str(self._pictures())})

    def samples(self) -> Iterable[SourceSample | LeftOut]:
        """See `SourceConfig.samples`."""
        return _Samples(self)

    def _pictures(self) -> Path:
        return folder_of_pictures(self.folder, self.images, (self.split, f"images/{self.split}", "images"))

    def _file(self, kind: str, given: str | None) -> Path:
        """Return the path of a JSON file, in `annotations` or elsewhere."""
        folder, name = expanded(self.folder), f"{kind}_{self.split}.json"
        places = [given] if given is not None else [f"annotations/{name}", f"{kind}/{name}", name]
        tried = [folder / place for place in places]
        found = next((place for place in tried if place.is_file()), None)
        if found is None:
            setting, none = (
                ("captions_file", "captions=0") if kind == "captions" else ("objects_file", "objects=none")
            )
            raise DataError(
                f"There is no {tried[0]}: check the folder and split={self.split}, name the file with --set "
                f"{setting}=FILE, or do without it with --set {none}."
            )
        return found


class _Samples(Iterable[SourceSample | LeftOut]):
    """A sample for each image about which something can be asked, in the order of the file."""

    def __init__(self, config: COCOSource) -> None:
        self._config = config
        self._objects = self._captions = None
        if config.objects != "none":
            self._objects = COCOFile(config._file(config.objects, config.objects_file), by="image_id")
        if config.captions:
            self._captions = COCOFile(config._file("captions", config.captions_file), by="image_id")
        if config.objects == "panoptic" and self._objects is not None:
            pngs = panoptic_folder(self._objects)
            if not pngs.is_dir():
                raise DataError(
                    f"There is no folder {pngs} with the PNGs of {self._objects.path}: unpack {pngs.name}.zip there, "
                    "which is published with it."
                )
        self._listed = [file for file in (self._objects, self._captions) if file is not None]
        self._pictures = Pictures(ROOT, config._pictures())
        if self._objects is not None and self._captions is not None:
            _check_same_pictures(self._objects, self._captions)

    def __len__(self) -> int:
        return len(self._listed[0].pictures)

    def __iter__(self) -> Iterator[SourceSample | LeftOut]:
        sized_by = None if self._objects is None else self._objects.path
        for picture in self._listed[0].pictures.values():
            named_by = f"picture {picture.id} of {self._listed[0].path}"
            try:
                notes = self._pictures.check(picture, named_by, sized_by)
            except UnusablePictureError as unusable:
                if self._config.missing == "refuse":
                    raise
                yield LeftOut(what=f"picture {picture.id}", why=unusable.why)
            else:
                yield from self._sample(picture, notes)
        yield from self._captions_alone()

    def _captions_alone(self) -> Iterator[LeftOut]:
        """Yield the captions of images that the file of objects does not list."""
        if self._objects is None or self._captions is None:
            return
        for number in self._captions.pictures:
            if number not in self._objects.pictures and (count := self._captions.count(number)):
                yield LeftOut(
                    what=f"{number_of(count, 'caption')} of picture {number}",
                    why="the file of objects does not list their picture",
                )

    def _sample(self, picture: Picture, notes: tuple[str, ...]) -> Iterator[SourceSample | LeftOut]:
        config, random = self._config, Random(f"{self._config.seed} {picture.id}")
        found = list(self._found(picture))
        for one in found:
            what = f"annotation {one.id} of picture {picture.id}"
            yield from (LeftOut(what=what, why=why) for why in one.mask.left_out)
        asked = list(expressions([_named(one, picture) for one in found], config.smallest))
        turns = [
            referring_turn(words, named.id, random, config.phrasing)
            for words, named in random.sample(asked, min(config.expressions, len(asked)))
        ]
        spoken_of = {number for turn in turns for number in turn.objects}
        masks = tuple(
            RunLengths(id=one.id, size=picture.size, counts=one.mask.counts)
            for one in found
            if one.mask.counts is not None and one.id in spoken_of
        )
        captions = list(self._written_captions(picture))
        yield from (one for one in captions if isinstance(one, LeftOut))
        said = [one for one in captions if isinstance(one, TurnRecord)]
        turns += random.sample(said, min(config.captions, len(said)))
        if not turns:
            yield LeftOut(what=f"picture {picture.id}", why="nothing can be asked about it")
            return
        yield SourceSample(
            id=f"{config.split}-{picture.id}",
            image=self._pictures.path(picture.file_name),
            masks=masks or None,
            turns=tuple(turns),
            notes=notes if masks else (),
        )

    def _found(self, picture: Picture) -> Iterator[FoundObject]:
        if self._objects is None:
            return iter(())
        if self._config.objects == "instances":
            return instances_of(self._objects, picture)
        return segments_of(self._objects, panoptic_folder(self._objects), picture)

    def _written_captions(self, picture: Picture) -> Iterator[TurnRecord | LeftOut]:
        """Yield every caption of an image as a turn."""
        if self._captions is None:
            return
        for one in self._captions.annotations(picture.id):
            number, caption = one.get("id"), one.get("caption")
            if not is_whole(number) or not isinstance(caption, str):
                raise DataError(
                    f"{self._captions.path}: caption {quoted(number)} of picture {picture.id} is {quoted(caption)}, "
                    "and not a text with a whole number as its id: download it again."
                )
            if words := " ".join(caption.split()):
                yield TurnRecord(task="caption", question=ASK_CAPTION, answer=words, id=f"caption{number}")
            else:
                yield LeftOut(
                    what=f"caption {number} of picture {picture.id}", why="the caption has no words"
                )


def _check_same_pictures(objects: COCOFile, captions: COCOFile) -> None:
    """Refuse two files with different images under the same id."""
    for number, told in captions.pictures.items():
        asked = objects.pictures.get(number, told)
        if asked != told:
            raise DataError(
                f"Picture {number} is {_described(asked)} in {objects.path} and {_described(told)} in "
                f"{captions.path}: the two do not belong together."
            )


def _described(picture: Picture) -> str:
    return f"{quoted(picture.file_name)} of {picture.width}x{picture.height} pixels"


def _named(one: FoundObject, picture: Picture) -> NamedObject:
    """Return an object in the form from which expressions are made; one without a mask has no visible part."""
    share = center_x = 0.0
    if one.mask.counts is not None:
        area, (x, _, width, _) = area_and_box(one.mask.counts, picture.size)
        share, center_x = area / (picture.height * picture.width), (x + width / 2) / picture.width
    return NamedObject(id=one.id, category=one.category, share=share, center_x=center_x, crowd=one.crowd)
