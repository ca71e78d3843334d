"""Sources: data sets as their authors publish them, read as the samples of a data folder.

A source knows a published layout and nothing of how a folder is written: `perceptio data import` writes what it gives
(`perceptio.data.sources.importing`). It must

- give the same sequence each time that it is asked about the same files, because an import that was stopped goes on
  by passing over what is written already;
- give one sample a picture with everything that is asked about it, so that a picture is encoded once;
- hold one sample at a time, beside its index of the published files;
- say where a picture lies, and never copy or encode it;
- say what it leaves out and why, by `LeftOut`: what the published files hold and their authors' own tools accept, but
  nothing can be learned from, such as an empty mask, stops no import;
- raise a `DataError` that names the file, and the id in it, for what is broken, such as a picture that is missing.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

from perceptio.interfaces.component import ComponentConfig
from perceptio.interfaces.depth_maps import DepthMap
from perceptio.interfaces.maps import MapInfo


@attrs.frozen(kw_only=True)
class TurnRecord:
    """A turn as written; `objects` are numbers of objects in the sample's masks.

    `id` is what its data set calls the question, such as `"ref1023-sent5567"`, if it does.
    """

    task: str
    question: str
    answer: str
    points: tuple[tuple[float, float], ...] = ()
    objects: tuple[int, ...] = ()
    id: str = ""


@attrs.frozen(kw_only=True)
class RunLengths:
    """One object's mask as COCO RLE: runs of zeros and ones in turn, down the columns.

    Attributes:
        id: The number of the object, from 1.
        size: Height and width in pixels.
        counts: The runs, or COCO's compressed form of them.
    """

    id: int
    size: tuple[int, int]
    counts: tuple[int, ...] | str


@attrs.frozen(kw_only=True)
class SourceInfo:
    """What the numbers of a source's samples mean, and where their files lie.

    Attributes:
        roots: The folders that files lie in, by the names that paths begin with: `{"coco": "/data/coco/train2014"}`.
        depth_unit: The unit of depth; None where samples have none.
        depth_scale: What a 16-bit value of depth is multiplied with.
        maps: The maps that samples may have, by name.
    """

    roots: Mapping[str, str]
    depth_unit: Literal["metres", "disparity"] | None = None
    depth_scale: float | None = None
    maps: Mapping[str, MapInfo] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SourceSample:
    """A picture, what is known of it, and what is asked about it. A path is `ROOT:PATH`, as in a data folder.

    Attributes:
        id: Its name, which no other sample of the source has; all that scoring needs can be told from it.
        image: Its picture, such as `"coco:COCO_train2014_000000000009.jpg"`; None: text alone.
        depth: Its depth map; or the values of one that is to be written in the data folder, because no published file
            says them as a folder does.
        masks: Its objects, which may overlap; or the path of a PNG of their numbers.
        maps: Its other maps, by name.
        turns: Questions and answers.
        ordered: Whether the turns are one conversation, in order; otherwise they are questions of which any may be
            asked alone.
        notes: What it has otherwise than it was published, in words that all such have in common, by which they are
            counted: `"the id is that of an earlier item, and another was given"`.
    """

    id: str
    image: str | None
    depth: str | DepthMap | None = None
    masks: str | tuple[RunLengths, ...] | None = None
    maps: Mapping[str, str] = attrs.field(factory=dict)
    turns: tuple[TurnRecord, ...]
    ordered: bool = False
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LeftOut:
    """Something that a source holds and no sample has.

    Attributes:
        what: What it is, with its id: `"ref 1023"`.
        why: Why, in words that all such have in common, by which they are counted: `"its mask has no pixel"`.
    """

    what: str
    why: str


@attrs.frozen(kw_only=True)
class SourceConfig(ComponentConfig, ABC):
    """Config of a source; its settings are what `perceptio data import --set KEY=VALUE` sets.

    Attributes:
        folder: Where the published files lie.
    """

    folder: str

    @abstractmethod
    def info(self) -> SourceInfo:
        """What the numbers mean, and where the files lie.

        Raises:
            DataError: The published files are not there.
        """

    @abstractmethod
    def samples(self) -> Iterable[SourceSample | LeftOut]:
        """The samples, and between them what is left out; the same each time.

        Where it has a length, that is about how many samples there are, by which an import shows how far it is.

        Raises:
            DataError: A published file is missing or broken.
        """
