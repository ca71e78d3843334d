"""RefCOCO, RefCOCO+ and RefCOCOg as published by their authors: referring expressions for objects in COCO.

`refs(unc).p`, `refs(umd).p` or `refs(google).p` holds the expressions, and `instances.json` beside it the objects
and the images, in the layout of github.com/lichengunc/refer. A sample is an image with every expression of the split
about it. Objects have the ids of their annotations, and turns the ids of their refs and sentences, so that answers
can be matched to what was published. All three sets use the same path for an image.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

import attrs

from perceptio.data.folder.json_rules import is_whole
from perceptio.data.sources.coco_files import COCOFile, Picture
from perceptio.data.sources.coco_masks import object_mask
from perceptio.data.sources.phrasing import Phrasing, referring_turn
from perceptio.data.sources.pictures import Missing, Pictures, UnusablePictureError, folder_of_pictures
from perceptio.data.sources.plain_pickle import read_plain_pickle
from perceptio.errors import DataError, near_miss, quoted
from perceptio.interfaces import Kind, LeftOut, RunLengths, SourceConfig, SourceInfo, SourceSample, TurnRecord
from perceptio.ops.files import expanded
from perceptio.ops.wording import number_of

ROOT = "coco"
IMAGES = ("images/mscoco/images/train2014", "images/train2014", "train2014", "images")
"""Locations of the images in FOLDER: in the layout of the authors' own reader, and in other common ones."""
USUAL_SPLITS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""The split's author that published results use for each set."""
_REF_FIELDS = {
    "ref_id": int,
    "ann_id": int,
    "image_id": int,
    "category_id": int,
    "split": str,
    "sentences": list,
}
_SENTENCE_FIELDS = {"sent_id": int, "sent": str}

Ref = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class RefCOCOSource(SourceConfig):
    """Referring expressions of RefCOCO, RefCOCO+ and RefCOCOg, one split at a time.

    Attributes:
        folder: Folder that contains `refcoco`, `refcoco+` and `refcocog`; or one of these.
        dataset: Which of the three sets.
        split: `train`, `val`, `testA`, `testB`, or `test`, which is both tests if there are two.
        split_by: The author of the split: `unc`, `umd` or `google`; None: as in published results, `umd` for
            RefCOCOg and `unc` for the others.
        images: The folder of COCO's images `train2014`; None: one of the usual places in `folder`.
        missing: What to do if an image is missing or its size differs from its annotations: `refuse` the import, or
            `leave_out` everything about it.
        phrasing: Phrasing of the questions: `canonical`, as in evaluation, or `varied`, for training.
        seed: Seed of all draws.
    """

    name: ClassVar[str] = "refcoco"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    dataset: Literal["refcoco", "refcoco+", "refcocog"] = "refcoco"
    split: str = "train"
    split_by: Literal["unc", "umd", "google"] | None = None
    images: str | None = None
    missing: Missing = "refuse"
    phrasing: Phrasing = "canonical"
    seed: int = 0

    def info(self) -> SourceInfo:
        """See `SourceConfig.info`."""
        return SourceInfo(roots={ROOT: str(self._pictures())})

    def samples(self) -> Iterable[SourceSample | LeftOut]:
        """See `SourceConfig.samples`."""
        by = self.split_by or USUAL_SPLITS[self.dataset]
        folder = _folder_of_refs(expanded(self.folder), self.dataset)
        refs = _refs_of_split(_refs_file(folder, by), self.split)
        return _Samples(self, by, folder, refs)

    def _pictures(self) -> Path:
        return folder_of_pictures(self.folder, self.images, IMAGES)


class _Samples(Iterable[SourceSample | LeftOut]):
    """A sample for each image, in the order in which the refs name them."""

    def __init__(self, config: RefCOCOSource, by: str, folder: Path, refs: list[Ref]) -> None:
        self._config, self._prefix = config, f"{config.dataset}-{by}-{config.split}"
        self._refs_file = folder / f"refs({by}).p"
        self._refs: dict[int, list[Ref]] = {}
        for ref in refs:
            self._refs.setdefault(ref["image_id"], []).append(ref)
        self._instances = COCOFile(folder / "instances.json", by="id", wanted={ref["ann_id"] for ref in refs})
        self._pictures = Pictures(ROOT, config._pictures())

    def __len__(self) -> int:
        return len(self._refs)

    def __iter__(self) -> Iterator[SourceSample | LeftOut]:
        for image_id, refs in self._refs.items():
            named_by = f"ref {refs[0]['ref_id']} of {self._refs_file}"
            picture = self._instances.picture(image_id, named_by)
            try:
                notes = self._pictures.check(picture, named_by, self._instances.path)
            except UnusablePictureError as unusable:
                if self._config.missing == "refuse":
                    raise
                yield LeftOut(
                    what=f"picture {image_id} with its {number_of(len(refs), 'ref')}", why=unusable.why
                )
            else:
                yield from self._sample(picture, refs, notes)

    def _sample(
        self, picture: Picture, refs: list[Ref], notes: tuple[str, ...]
    ) -> Iterator[SourceSample | LeftOut]:
        masks: dict[int, RunLengths] = {}
        turns: list[TurnRecord] = []
        for ref in refs:
            counts, left_out = self._mask(ref, picture)
            yield from left_out
            if counts is None:
                continue
            number = ref["ann_id"]
            if not ref["sentences"]:
                yield LeftOut(what=f"ref {ref['ref_id']}", why="it has no expression")
            for sentence in ref["sentences"]:
                name = f"ref{ref['ref_id']}-sent{sentence['sent_id']}"
                # Within a question it is no sentence of its own: Sa2VA takes the full stop off, too.
                words = " ".join(sentence["sent"].split()).removesuffix(".")
                if words:
                    masks[number] = RunLengths(id=number, size=picture.size, counts=counts)
                    random = Random(f"{self._config.seed} {name}")
                    turns.append(referring_turn(words, number, random, self._config.phrasing, name))
                else:
                    yield LeftOut(what=name, why="the expression has no words")
        if turns:
            yield SourceSample(
                id=f"{self._prefix}-{picture.id}",
                image=self._pictures.path(picture.file_name),
                masks=tuple(masks.values()),
                turns=tuple(turns),
                notes=notes,
            )

    def _mask(self, ref: Ref, picture: Picture) -> tuple[str | None, list[LeftOut]]:
        """Return the mask of a ref's object, and what of it is left out."""
        named_by, number = f"ref {ref['ref_id']} of {self._refs_file}", ref["ann_id"]
        found = next(self._instances.annotations(number), None)
        if found is None:
            raise DataError(
                f"{self._instances.path} has no annotation {number}, which {named_by} names: the two do not belong "
                "together."
            )
        if found.get("image_id") != picture.id:
            raise DataError(
                f"{self._instances.path}: annotation {number} is of the picture {quoted(found.get('image_id'))}, and "
                f"{named_by} names the picture {picture.id}: the two do not belong together."
            )
        self._instances.category(ref["category_id"], named_by)
        mask = object_mask(found.get("segmentation"), picture.size)
        what = f"annotation {number}"
        if mask.counts is None:
            what = f"ref {ref['ref_id']} with its {number_of(len(ref['sentences']), 'expression')}"
        return mask.counts, [LeftOut(what=what, why=why) for why in mask.left_out]


def _folder_of_refs(folder: Path, dataset: str) -> Path:
    """Return the folder with the refs of a set: the one with its name, or `folder` itself.

    Raises:
        DataError: The folder has the name of another set, or neither the set's folder nor refs of its own.
    """
    if (folder / dataset).is_dir():
        return folder / dataset
    if folder.name in USUAL_SPLITS and folder.name != dataset:
        raise DataError(
            f"{folder} holds {folder.name}, and dataset is {dataset}: name the folder above it, or the other set."
        )
    if next(folder.glob("refs(*).p"), None) is None:
        raise DataError(
            f"There is no folder {folder / dataset}, and {folder} has no file refs(….p itself: FOLDER holds the "
            "published refcoco, refcoco+ or refcocog."
        )
    return folder


def _refs_file(folder: Path, by: str) -> Path:
    """Return the file of refs.

    Raises:
        DataError: It does not exist; the message names those that do.
    """
    file = folder / f"refs({by}).p"
    if not file.is_file():
        there = sorted(one.name[len("refs(") : -len(").p")] for one in folder.glob("refs(*).p"))
        also = f"; there is split_by={', '.join(there)}" if there else ""
        raise DataError(
            f"There is no {file}{also}: FOLDER holds the published refcoco, refcoco+ or refcocog."
        )
    return file


def _refs_of_split(file: Path, split: str) -> list[Ref]:
    """Return the refs of a split, selected as by the authors' own reader.

    Raises:
        DataError: A ref does not have the published form, a ref or one of its sentences is repeated, or there is no
            such split.
    """
    refs = read_plain_pickle(file)
    if not isinstance(refs, list):
        raise DataError(f"{file} holds a {type(refs).__name__}, and the published ones a list of refs.")
    seen: set[int] = set()
    for place, ref in enumerate(refs):
        _check(ref, _REF_FIELDS, f"{file}: ref number {place + 1}")
        for sentence in ref["sentences"]:
            _check(sentence, _SENTENCE_FIELDS, f"{file}: a sentence of ref {ref['ref_id']}")
        sentences = Counter(sentence["sent_id"] for sentence in ref["sentences"])
        if twice := [number for number, count in sentences.items() if count > 1]:
            raise DataError(
                f"{file}: ref {ref['ref_id']} has the sentence {twice[0]} twice: download it again."
            )
        if ref["ref_id"] in seen:
            raise DataError(f"{file} has the ref {ref['ref_id']} twice: download it again.")
        seen.add(ref["ref_id"])
    chosen = [ref for ref in refs if _is_of(ref["split"], split)]
    if not chosen:
        known = {ref["split"] for ref in refs}
        known |= {"test"} if any("test" in one for one in known) else set()
        raise DataError(f"{file} has no split {quoted(split)}{near_miss(split, known)}")
    return chosen


def _is_of(stated: str, split: str) -> bool:
    """Return whether a ref's stated split belongs to a split: `testAB` is in both tests, and `test` includes all."""
    if split == "test":
        return "test" in stated
    return split[-1] in stated if split in ("testA", "testB", "testC") else stated == split


def _check(value: Any, fields: Mapping[str, type], what: str) -> None:
    for key, wanted in fields.items():
        held = value.get(key) if isinstance(value, dict) else None
        if not (is_whole(held) if wanted is int else isinstance(held, wanted)):
            raise DataError(
                f"{what} has {key} {quoted(held)}, and the published ones have {wanted.__name__}."
            )
