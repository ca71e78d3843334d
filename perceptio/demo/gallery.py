"""What an arm said and drew about the first test scenes: the first, so that nobody chose them.

Shapes: n scenes, H W pixels of a picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from perceptio.data.folder import FolderDataset
from perceptio.interfaces import DepthTokenizer, GenerationSettings, Sample, Turn
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.files import new_file
from perceptio.ops.json_files import read_json, write_json
from perceptio.ops.letters import parse_letter

MASKS, DEPTH = "segmentation", "depth"
"""The streams that are shown."""
RECORDS = "gallery.json"
ARRAYS = "gallery.npz"


@attrs.frozen(kw_only=True)
class Reply:
    """A question about a scene and what an arm replied; `readout_m` are the metres it read out for each point."""

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
        marked: The question about marked points, or None where the scene has none.
        referring: The referring question, or None where the scene has none.
        depth_HW: The written depth block as metres, None where the arm writes none.
        mask_HW: The predicted mask of the referring question, None where the arm draws none or emitted no `[SEG]`.
    """

    sample: int
    marked: Reply | None
    referring: Reply | None
    depth_HW: np.ndarray | None
    mask_HW: np.ndarray | None


def pick_turns(sample: Sample, number: int) -> tuple[Turn | None, Turn | None]:
    """The questions shown of a scene: a marked one, of 3, 4 and 5 points in turn, and the first referring one."""
    marked = [turn for turn in sample.turns if turn.task == "relative_depth"]
    referring = [turn for turn in sample.turns if turn.task == "referring"]
    return marked[number % len(marked)] if marked else None, referring[0] if referring else None


def record_gallery(model: PerceptionModel, dataset: FolderDataset, count: int, folder: Path) -> None:
    """Ask a model about the first scenes of a data set, and write what came of it."""
    perceives = model.recipe.data.perceive == "before" and DEPTH in model.streams
    first = (DEPTH,) if perceives else ()
    perceive_first = GenerationSettings(streams=first, force=first, max_new_tokens=8)
    segment = GenerationSettings(streams=(MASKS,), max_new_tokens=8)
    shown = []
    for number in range(count):
        sample = dataset[number]
        marked, referring = pick_turns(sample, number)
        reply, depth_HW = _ask_marked(model, sample, marked, perceive_first) if marked else (None, None)
        answer: Reply | None = None
        mask_HW: np.ndarray | None = None
        if referring is not None and MASKS in model.streams:
            given = model.ask(sample.image_3HW, referring.question, settings=segment)
            answer = Reply(question=referring.question, text=given.text)
            mask_HW = np.logical_or.reduce(given[MASKS]) if given[MASKS] else None
        shown.append(
            GalleryItem(sample=number, marked=reply, referring=answer, depth_HW=depth_HW, mask_HW=mask_HW)
        )
    write_gallery(folder, shown)


def write_gallery(folder: Path, shown: Sequence[GalleryItem]) -> None:
    """Write what `read_gallery` reads."""
    records: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for one in shown:
        replies = {name: getattr(one, name) for name in ("marked", "referring")}
        records.append(
            {
                "sample": one.sample,
                **{name: None if r is None else attrs.asdict(r) for name, r in replies.items()},
            }
        )
        arrays |= {
            f"{name}_{one.sample}": array
            for name, array in (("depth", one.depth_HW), ("mask", one.mask_HW))
            if array is not None
        }
    write_json(folder / RECORDS, records)
    with new_file(folder / ARRAYS) as new:
        np.savez_compressed(new, allow_pickle=False, **arrays)


def read_gallery(folder: Path) -> tuple[GalleryItem, ...]:
    """What `write_gallery` wrote."""
    records = read_json(folder / RECORDS)
    with np.load(folder / ARRAYS) as arrays:
        held = dict(arrays)
    return tuple(
        GalleryItem(
            sample=record["sample"],
            marked=_reply(record["marked"]),
            referring=_reply(record["referring"]),
            depth_HW=held.get(f"depth_{record['sample']}"),
            mask_HW=held.get(f"mask_{record['sample']}"),
        )
        for record in records
    )


def _ask_marked(
    model: PerceptionModel, sample: Sample, turn: Turn, settings: GenerationSettings
) -> tuple[Reply, np.ndarray | None]:
    given = model.ask(sample.image_3HW, turn.question, points=turn.points, settings=settings)
    reply = Reply(
        question=turn.question,
        points=turn.points,
        expected=parse_letter(turn.answer),
        answered=parse_letter(given.text),
        text=given.text,
        readout_m=_metres(model, given.readout),
    )
    depth = given.decoded.get(DEPTH)
    return reply, depth.values_HW if depth is not None and depth.unit == "metres" else None


@torch.inference_mode()
def _metres(model: PerceptionModel, codes: Sequence[int]) -> tuple[float, ...]:
    """What codes mean on their own: the mean depth of a map of nothing but one of them."""
    tokenizer = model.stream(DEPTH).tokenizer if codes else None
    if not isinstance(tokenizer, DepthTokenizer) or not tokenizer.spec.convention.metric:
        return ()
    spec = tokenizer.spec
    codes_NL = torch.tensor(codes, device=model.device)[:, None].expand(-1, spec.num_codes)
    return tuple(spec.convention.to_metres(tokenizer.decode(codes_NL).flatten(1).mean(1)).tolist())


def _reply(record: dict[str, Any] | None) -> Reply | None:
    if record is None:
        return None
    points = tuple((x, y) for x, y in record["points"])
    return Reply(**{**record, "points": points, "readout_m": tuple(record["readout_m"])})
