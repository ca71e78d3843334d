"""Sources: readers of published data sets, which `perceptio data import` converts to data folders.

A source knows only the published layout; `perceptio.data.sources.importing` writes the data folder. A source must

- yield the same sequence each time for the same files, because an import that was interrupted resumes by skipping the
  samples that it has already written;
- yield one sample per image, with all questions about it, so that each image is encoded once;
- hold only one sample in memory at a time, besides its index of the published files;
- give the path of an image, and never copy or encode it;
- yield `LeftOut`, with the reason, for entries from which nothing can be learned, such as an empty mask. Entries that
  the authors' own tools accept must not stop an import;
- raise a `DataError` that names the file and the id in it for anything broken, such as a missing image.
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
    """A question and its answer, as a data folder stores them.

    Attributes:
        task: The name of its task.
        question: The user's words.
        answer: The assistant's words.
        points: Marked points as (x, y) in [0, 1].
        objects: The numbers of the objects in the sample's masks that the answer is about.
        id: The name of the question in its data set, such as `"ref1023-sent5567"`, or "".
    """

    task: str
    question: str
    answer: str
    points: tuple[tuple[float, float], ...] = ()
    objects: tuple[int, ...] = ()
    id: str = ""


@attrs.frozen(kw_only=True)
class RunLengths:
    """The mask of one object as COCO RLE: alternating runs of zeros and ones in column-major order.

    Attributes:
        id: The number of the object, from 1.
        size: Height and width in pixels.
        counts: The lengths of the runs, or COCO's compressed string of them.
    """

    id: int
    size: tuple[int, int]
    counts: tuple[int, ...] | str


@attrs.frozen(kw_only=True)
class SourceInfo:
    """The units and folders of a source's samples.

    Attributes:
        roots: The folders of the files, by the root names in paths: `{"coco": "/data/coco/train2014"}`.
        depth_unit: The unit of depth; None if samples have no depth.
        depth_scale: The factor from a 16-bit depth value to the unit.
        maps: The maps that samples may have, by name.
    """

    roots: Mapping[str, str]
    depth_unit: Literal["metres", "disparity"] | None = None
    depth_scale: float | None = None
    maps: Mapping[str, MapInfo] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SourceSample:
    """An image with its annotations and questions. Paths have the form `ROOT:PATH`, as in a data folder.

    Attributes:
        id: A name that is unique in the source. It must identify the sample for scoring.
        image: The path of the image, such as `"coco:COCO_train2014_000000000009.jpg"`; None for text alone.
        depth: The path of the depth map. Or its values, to be written to the data folder, if the published files hold
            depth in another format.
        masks: The masks of its objects, which may overlap; or the path of a PNG of object numbers.
        maps: The paths of other maps, by name.
        turns: Questions and answers.
        ordered: Whether the turns are one conversation, in order. Otherwise each question may be asked alone.
        notes: Deviations from the published data. Use the same words for all samples with the same deviation; the
            import counts them by text: `"the id is that of an earlier item, and another was given"`.
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
    """An entry of a data set that is not part of any sample.

    Attributes:
        what: The kind and id of the entry: `"ref 1023"`.
        why: The reason. Use the same words for all entries with the same reason; the import counts them by text:
            `"its mask has no pixel"`.
    """

    what: str
    why: str


@attrs.frozen(kw_only=True)
class SourceConfig(ComponentConfig, ABC):
    """Config of a source. `perceptio data import --set KEY=VALUE` changes its settings.

    Attributes:
        folder: The folder of the published files.
    """

    folder: str

    @abstractmethod
    def info(self) -> SourceInfo:
        """Return the units and folders of the samples.

        Raises:
            DataError: The published files are missing.
        """

    @abstractmethod
    def samples(self) -> Iterable[SourceSample | LeftOut]:
        """Return the samples, with the entries that are left out among them, in the same order each time.

        If the result has a length, an import uses it as the approximate number of samples to show its progress.

        Raises:
            DataError: A published file is missing or broken.
        """
