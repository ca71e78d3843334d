"""What an arm said and perceived for the first test scenes, which are not selected by hand.

Shapes: H W pixels of an image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from perceptio.data.folder import FolderDataset
from perceptio.data.tasks import TaskTable
from perceptio.interfaces import Codes, DepthMap, DepthTokenizer, GenerationSettings, Sample, Turn
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.files import new_file
from perceptio.ops.json_files import read_json, write_json
from perceptio.ops.letters import parse_letter

MASKS, DEPTH = "segmentation", "depth"
"""The streams of the paper, which every report shows."""
RECORDS = "gallery.json"
ARRAYS = "gallery.npz"
REPLIES, HELD = ("marked", "referring"), ("decoded", "true_codes")
"""The fields of an item that are stored as records, and as arrays."""


@attrs.frozen(kw_only=True)
class Reply:
    """A question about a scene and an arm's reply; `readout_m` are the values written for its points, in metres."""

    question: str
    points: tuple[tuple[float, float], ...] = ()
    expected: str = ""
    answered: str = ""
    text: str = ""
    readout_m: tuple[float, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class GalleryItem:
    """One scene of a gallery.

    Attributes:
        sample: Its number among the test scenes.
        marked: The question about marked points; None if the scene has none.
        referring: The referring question; None if the scene has none.
        decoded: The decoded streams as arrays, with depth in metres. A stream per image has one array; a stream per
            object has one for each object of the answer to the referring question, in order of mention. Streams that
            were not written are omitted.
        true_codes: The same decoded from the true codes, for each stream of maps: the best that can be written.
    """

    sample: int
    marked: Reply | None
    referring: Reply | None
    decoded: Mapping[str, tuple[np.ndarray, ...]] = attrs.field(factory=dict)
    true_codes: Mapping[str, tuple[np.ndarray, ...]] = attrs.field(factory=dict)

    @property
    def depth_HW(self) -> np.ndarray | None:
        """The written depth in metres; None if the arm writes none."""
        return self.decoded[DEPTH][0] if DEPTH in self.decoded else None

    @property
    def mask_HW(self) -> np.ndarray | None:
        """The union of the masks of the referring question; None if the arm draws none or wrote no `[SEG]`."""
        return np.logical_or.reduce(self.decoded[MASKS]) if MASKS in self.decoded else None


def pick_turns(sample: Sample, number: int) -> tuple[Turn | None, Turn | None]:
    """Return a scene's questions to show: one with 3, 4 or 5 marked points in turn, and the first referring one."""
    marked = [turn for turn in sample.turns if turn.task == "relative_depth"]
    referring = [turn for turn in sample.turns if turn.task == "referring"]
    return marked[number % len(marked)] if marked else None, referring[0] if referring else None


def record_gallery(model: PerceptionModel, dataset: FolderDataset, count: int, folder: Path) -> None:
    """Ask a model about the first scenes of a data set, and write the results.

    Streams are requested as in the evaluation: depth with the marked question if the arm perceives before it answers,
    objects with the referring question, and each other stream by its own question.
    """
    tasks = TaskTable(model.recipe)
    write_gallery(folder, [_shown(model, tasks, number, dataset[number]) for number in range(count)])


def write_gallery(folder: Path, shown: Sequence[GalleryItem]) -> None:
    """Write a gallery for `read_gallery`."""
    records: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for one in shown:
        record: dict[str, Any] = {"sample": one.sample}
        for name in REPLIES:
            reply = getattr(one, name)
            record[name] = None if reply is None else attrs.asdict(reply)
        for name in HELD:
            held = getattr(one, name)
            record[name] = {stream: len(values) for stream, values in held.items()}
            arrays |= {
                _key(name, one.sample, stream, number): values[number]
                for stream, values in held.items()
                for number in range(len(values))
            }
        records.append(record)
    write_json(folder / RECORDS, records)
    with new_file(folder / ARRAYS) as new:
        np.savez_compressed(new, allow_pickle=False, **arrays)


def read_gallery(folder: Path) -> tuple[GalleryItem, ...]:
    """Read what `write_gallery` wrote."""
    with np.load(folder / ARRAYS) as file:
        arrays = dict(file)
    return tuple(_item(record, arrays) for record in read_json(folder / RECORDS))


def _shown(model: PerceptionModel, tasks: TaskTable, number: int, sample: Sample) -> GalleryItem:
    streams = model.recipe.streams
    maps = tuple(stream.name for stream in streams if stream.spec.per == "image")
    objects = tuple(stream.name for stream in streams if stream.spec.per == "object")
    marked, referring = pick_turns(sample, number)
    decoded: dict[str, Any] = {}
    replies: dict[str, Reply] = {}
    if marked is not None:
        before = maps if model.recipe.data.perceive == "before" else ()
        replies["marked"], perceived = _ask_marked(model, sample, marked, before)
        decoded |= {DEPTH: perceived[DEPTH]} if DEPTH in before else {}
    if referring is not None and objects:
        settings = GenerationSettings(streams=objects, max_new_tokens=8)
        given = model.ask(sample.image_3HW, referring.question, settings=settings)
        replies["referring"] = Reply(question=referring.question, text=given.text)
        decoded |= {name: given[name] for name in objects}
    decoded |= {
        name: _ask_for(model, tasks, sample, name)
        for name in maps
        if name not in decoded and sample.has_target(model.recipe.stream(name).spec.target)
    }
    true_codes = {name: _from_true_codes(model, sample, name) for name in maps}
    return GalleryItem(
        sample=number,
        marked=replies.get("marked"),
        referring=replies.get("referring"),
        decoded=_arrays(decoded),
        true_codes=_arrays(true_codes),
    )


def _ask_marked(
    model: PerceptionModel, sample: Sample, turn: Turn, before: tuple[str, ...]
) -> tuple[Reply, Mapping[str, Any]]:
    settings = GenerationSettings(streams=before, force=before, max_new_tokens=8)
    given = model.ask(sample.image_3HW, turn.question, points=turn.points, settings=settings)
    reply = Reply(
        question=turn.question,
        points=turn.points,
        expected=parse_letter(turn.answer),
        answered=parse_letter(given.text),
        text=given.text,
        readout_m=_metres(model, given.readout),
    )
    return reply, given.decoded


def _ask_for(model: PerceptionModel, tasks: TaskTable, sample: Sample, stream: str) -> Any:
    """Return a stream that is written once per image, requested by its own question."""
    name = tasks.of_stream(stream)
    turn = tasks[name].own_turn(name, sample)
    settings = GenerationSettings(streams=(stream,), force=(stream,), readout=False, max_new_tokens=1)
    return model.ask(sample.image_3HW, turn.question, settings=settings)[stream]


@torch.inference_mode()
def _from_true_codes(model: PerceptionModel, sample: Sample, stream: str) -> Any:
    """Decode the codes of the ground truth; return None if the stream has no codes, or the sample no ground truth."""
    spec, tokenizer = model.recipe.stream(stream).spec, model.stream(stream).tokenizer
    assert sample.image_3HW is not None
    if not isinstance(spec.written, Codes) or not sample.has_target(spec.target):
        return None
    codes_1L = tokenizer.to_codes(tokenizer.targets([sample.target(spec.target)]))
    size = (int(sample.image_3HW.shape[-2]), int(sample.image_3HW.shape[-1]))
    return tokenizer.shown(tokenizer.from_codes(codes_1L), [size])[0]


def _arrays(decoded: Mapping[str, Any]) -> dict[str, tuple[np.ndarray, ...]]:
    """Return the content of `Answer.decoded` as arrays; the demo's depth is in metres."""
    arrays = {}
    for name, value in decoded.items():
        held = [one for one in (value if isinstance(value, tuple) else (value,)) if one is not None]
        if held:
            arrays[name] = tuple(
                np.asarray(one.values_HW if isinstance(one, DepthMap) else one) for one in held
            )
    return arrays


def _item(record: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> GalleryItem:
    sample = record["sample"]
    replies: dict[str, Any] = {name: _reply(record[name]) for name in REPLIES}
    held: dict[str, Any] = {
        name: {
            stream: tuple(arrays[_key(name, sample, stream, number)] for number in range(count))
            for stream, count in record[name].items()
        }
        for name in HELD
    }
    return GalleryItem(sample=sample, **replies, **held)


def _key(held: str, sample: int, stream: str, number: int) -> str:
    return f"{held}.{sample}.{stream}.{number}"


@torch.inference_mode()
def _metres(model: PerceptionModel, readout: Sequence[int]) -> tuple[float, ...]:
    """Return values written for points in metres: the middle of a level, or the mean depth of a map of one code."""
    tokenizer = model.stream(DEPTH).tokenizer if readout else None
    if not isinstance(tokenizer, DepthTokenizer) or not tokenizer.spec.convention.metric:
        return ()
    spec, levels = tokenizer.spec, model.plan.levels
    said = torch.tensor(readout, device=model.device)
    if levels is not None:
        return tuple(spec.convention.to_metres(1 - (said + 0.5) / levels.size).tolist())
    codes_NL = said[:, None].expand(-1, spec.num_codes)
    return tuple(spec.convention.to_metres(tokenizer.decode(codes_NL).flatten(1).mean(1)).tolist())


def _reply(record: dict[str, Any] | None) -> Reply | None:
    if record is None:
        return None
    points = tuple((x, y) for x, y in record["points"])
    return Reply(**{**record, "points": points, "readout_m": tuple(record["readout_m"])})
