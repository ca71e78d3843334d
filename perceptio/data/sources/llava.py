"""LLaVA's conversations as published: one JSON list; that of LLaVA-1.5's mixture has 665,298 items in 1 GB.

An item is `{"id": "000000033471", "image": "coco/train2017/000000033471.jpg", "conversations": [{"from": "human",
"value": "What is it? <image>"}, {"from": "gpt", "value": "A bus."}]}`; without `image` it is text only. A sample's
image comes first in every conversation, so `<image>` is removed from the first question, wherever it is. Other lists
of this form are supported, and JSON lines.

A conversation is kept, in order, up to the first invalid turn. An answer before any question is skipped, as by
LLaVA's own loader. `<image>` anywhere else is invalid: that loader learns it as text if an item has no image, and
puts the image into an answer that contains it. All other text is ordinary words: no `[SEG]` or `<|im_end|>` becomes
a special token.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.data.folder.files import ROOT_NAME
from perceptio.data.sources.pictures import MISSING, Missing, folder_of_pictures
from perceptio.errors import DataError, quoted
from perceptio.interfaces import Kind, LeftOut, SourceConfig, SourceInfo, SourceSample, TurnRecord
from perceptio.ops.files import expanded
from perceptio.ops.json_items import read_items
from perceptio.ops.paths import why_not_inside
from perceptio.ops.wording import number_of

ROOT = "images"
IMAGE_TOKEN = "<image>"
HUMAN, MODEL = "human", "gpt"
RENAMED = "the id is missing or that of an earlier item, and another was given"


@attrs.frozen(kw_only=True)
class LLaVASource(SourceConfig):
    """Conversations in LLaVA's JSON, with at most one image, in their order.

    Attributes:
        folder: Folder with the JSON, and with the images unless `images` is set.
        conversations: The JSON file, in `folder` or elsewhere.
        images: The folder that paths of images start from; for LLaVA-1.5's mixture it contains `coco`, `gqa`,
            `ocr_vqa`, `textvqa` and `vg`; None: `folder`.
        missing: What to do if an image is missing: `refuse` the import, or `leave_out` everything about it.
        task: The name of the turns' task; any name is valid, and an unregistered task is answered in words.
    """

    name: ClassVar[str] = "llava"
    kind: ClassVar[Kind] = Kind.SOURCE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    conversations: str = "llava_v1_5_mix665k.json"
    images: str | None = None
    missing: Missing = "refuse"
    task: str = "conversation"

    def info(self) -> SourceInfo:
        """See `SourceConfig.info`."""
        pictures = self._pictures()
        linked = {_root_of(name): str(place) for name, place in _linked_folders(pictures).items()}
        return SourceInfo(roots={ROOT: str(pictures)} | linked)

    def samples(self) -> Iterator[SourceSample | LeftOut]:
        """See `SourceConfig.samples`."""
        file, pictures = expanded(self.folder) / self.conversations, self._pictures()
        ids, linked = _DistinctIds(), _linked_folders(pictures)
        lacking, first_lacking = 0, ""
        for number, read in enumerate(read_items(file), start=1):
            where = f"{file} item {number:,}"
            item = _Item(read, where)
            name = ids.distinct(item.id or f"item-{number}")
            path = item.image
            if isinstance(path, LeftOut):
                yield attrs.evolve(path, what=name)
                continue
            if path is not None and not (pictures / path).is_file():
                if self.missing == "leave_out":
                    yield LeftOut(what=name, why=MISSING)
                else:
                    lacking += 1
                    first_lacking = first_lacking or f"{pictures / path} ({where}, {quoted(name)})"
                continue
            if lacking:  # Only how many more there are is still of interest.
                continue
            turns, odd = _turns(item.conversations, self.task, has_image=path is not None)
            yield from (attrs.evolve(one, what=f"{one.what} of {name}") for one in odd)
            if turns:
                image = None if path is None else _named(path, linked)
                notes = () if name == item.id else (RENAMED,)
                yield SourceSample(id=name, image=image, turns=turns, ordered=True, notes=notes)
        if lacking:
            raise DataError(
                f"{number_of(lacking, 'picture')} missing, first {first_lacking}: download them, give the folder "
                "with --set images=FOLDER, or import what is there with --set missing=leave_out."
            )

    def _pictures(self) -> Path:
        return folder_of_pictures(self.folder, self.images, (".",))


def _linked_folders(pictures: Path) -> dict[str, Path]:
    """Return the folders in the folder of images that are links to other locations, as `coco` often is.

    Paths of a data folder never follow a link out of a root, so each of these is a root of its own.
    """
    real = {
        one.name: one.resolve() for one in sorted(pictures.iterdir()) if one.is_symlink() and one.is_dir()
    }
    return {name: place for name, place in real.items() if re.fullmatch(ROOT_NAME, _root_of(name))}


def _root_of(name: str) -> str:
    return f"{ROOT}-{name}"


def _named(path: str, linked: Mapping[str, Path]) -> str:
    """Return the path of an image as samples use it."""
    first, _, inside = path.partition("/")
    return f"{_root_of(first)}:{inside}" if first in linked and inside else f"{ROOT}:{path}"


class _DistinctIds:
    """Makes repeated ids distinct, of which the mixture has thousands: the second `x` becomes `x-2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._repeated = Counter[str]()

    def distinct(self, id: str) -> str:
        name = id
        while name in self._taken:
            self._repeated[id] += 1
            name = f"{id}-{self._repeated[id] + 1}"
        self._taken.add(name)
        return name


class _Item:
    """An item of the list, whose form is checked on access."""

    def __init__(self, item: Any, where: str) -> None:
        if not isinstance(item, dict) or not isinstance(item.get("conversations"), list):
            raise DataError(f'{where} is {quoted(item)}, and not an object with "conversations", a list.')
        self._item, self._where = item, where
        self.conversations: Sequence[Any] = item["conversations"]

    @property
    def id(self) -> str:
        found = self._item.get("id")
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""

    @property
    def image(self) -> str | LeftOut | None:
        """Its path in the folder of images; None for text only."""
        image = self._item.get("image")
        if self._item.get("video") is not None:
            return LeftOut(what="", why="it has a video")
        if isinstance(image, list):
            if len(image) != 1:
                return LeftOut(what="", why="it has several pictures in a list")
            image = image[0]
        if image is not None and (why := why_not_inside(image)):
            raise DataError(f"{self._where} has the picture {quoted(image)}, which {why}.")
        return image


def _turns(
    spoken: Sequence[Any], task: str, *, has_image: bool
) -> tuple[tuple[TurnRecord, ...], list[LeftOut]]:
    """Return the turns of a conversation up to the first invalid one, and what is left out."""
    left_out: list[LeftOut] = []
    start = 0
    while start < len(spoken) and _speaker(spoken[start]) == MODEL:
        start += 1
    if start:
        left_out.append(LeftOut(what="the beginning", why="an answer stands before any question"))
    turns: list[TurnRecord] = []
    for place in range(start, max(len(spoken), start + 1), 2):
        asked, answered = [*spoken[place : place + 2], None, None][:2]
        why = _problem(asked, answered) or _misplaced_image(
            asked["value"], answered["value"], has_image=has_image, is_first=not turns
        )
        if why is None:
            question, answer = asked["value"], answered["value"]
            if has_image and not turns:
                question = question.replace(IMAGE_TOKEN, "").strip()
            why = None if question else "a question has no words"
        if why is not None:
            what = f"all from turn {place + 1}" if turns else "all"
            left_out.append(LeftOut(what=what, why=why))
            break
        turns.append(TurnRecord(task=task, question=question, answer=answer))
    return tuple(turns), left_out


def _misplaced_image(question: str, answer: str, *, has_image: bool, is_first: bool) -> str | None:
    """Return why `<image>`, which stands for the image in the first question, is invalid in a turn; else None."""
    if IMAGE_TOKEN in answer:
        return "<image> stands in an answer"
    if IMAGE_TOKEN in question and not has_image:
        return "<image> stands in a question about no picture"
    if IMAGE_TOKEN in question and not is_first:
        return "<image> stands after the first question"
    return "it has several <image>" if question.count(IMAGE_TOKEN) > 1 else None


def _speaker(said: Any) -> str | None:
    return said.get("from") if isinstance(said, Mapping) else None


def _problem(asked: Any, answered: Any) -> str | None:
    """Return why a question and an answer are not a valid turn."""
    speakers = _speaker(asked), _speaker(answered)
    if answered is None:
        return "a question has no answer" if asked is not None else "it has no turn"
    if speakers == (HUMAN, HUMAN):
        return "two questions follow each other"
    if speakers == (MODEL, MODEL):
        return "two answers follow each other"
    if speakers != (HUMAN, MODEL):
        return "a speaker is neither human nor gpt, or they do not alternate"
    for name, said in (("a question", asked), ("an answer", answered)):
        value = said.get("value")
        if not isinstance(value, str) or not value.strip():
            return f"{name} has no words"
        if not _is_text(value):
            return f"{name} has half a surrogate pair, which is no character"
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
