"""Referring segmentation as a task of lmms-eval, scored by masks, for any model that can write them.

lmms-eval's own RefCOCO tasks score captions and boxes. `write_task` makes a folder for its `--include_path` from a
data folder; the task's file refers to the functions below. Replies contain masks in the format of
`perceptio.harness.mask_text`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError, InputError
from perceptio.evaluation.suites.refcoco import IMPORT
from perceptio.evaluation.suites.refcoco import TASK as REFERRING
from perceptio.harness.mask_text import read_masks
from perceptio.interfaces import Sample
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.mask_metrics import MaskMeter, united

FIGURES = ("ciou", "giou", "missing")
FORM = (
    ' Reply with its mask as <mask>{"size": [height, width], "counts": "..."}</mask>, '
    "where counts are in COCO's compressed run-length encoding."
)
"""Instruction after each question for models other than Perceptio's."""
SCORING = (
    "from perceptio.harness.refcoco_task import ciou, giou, missing, pictures, question, score, target\n"
)
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {lines}
test_split: test
output_type: generate_until
doc_to_visual: !function {name}_scoring.pictures
doc_to_text: !function {name}_scoring.question
doc_to_target: !function {name}_scoring.target
process_results: !function {name}_scoring.score
generation_kwargs:
  until: []
  max_new_tokens: 1024
  do_sample: false
model_specific_generation_kwargs:
  perceptio:
    masks: coco_rle
    max_new_tokens: 32
lmms_eval_specific_kwargs:
  default:
    post_prompt: {form}
  perceptio:
    post_prompt: ""
metric_list:
  - metric: ciou
    aggregation: !function {name}_scoring.ciou
    higher_is_better: true
  - metric: giou
    aggregation: !function {name}_scoring.giou
    higher_is_better: true
  - metric: missing
    aggregation: !function {name}_scoring.missing
    higher_is_better: false
metadata:
  version: 1.0
"""


def write_task(data: Path, out: Path, name: str) -> int:
    """Write a task of lmms-eval from the referring expressions of a data folder.

    It asks the same expressions as `perceptio eval --suite refcoco`: one that refers to nothing has an empty true
    mask.

    Args:
        data: The data folder; the task reads images and masks from it.
        out: Folder for `--include_path`; it may hold other tasks.
        name: Name of the task for `--tasks`.

    Returns:
        The number of questions.

    Raises:
        DataError: `data` is not a data folder or has no referring expression, or the task cannot be written.
        InputError: The name has other characters than letters, digits and `_`.
    """
    if not name.isidentifier():
        raise InputError(
            f"The task is to be called {name!r}: use letters, digits and _, and begin with a letter."
        )
    dataset, folder = FolderDataset(data), str(data.resolve())
    documents = [
        {"folder": folder, "sample": number, "turn": place, "id": record.id, "question": turn.question}
        for number, record in enumerate(dataset.records)
        for place, turn in enumerate(record.turns)
        if turn.task == REFERRING
    ]
    if not documents:
        raise DataError(f"{data} has no question of the task {REFERRING!r}: {IMPORT}.")
    lines = out.resolve() / f"{name}.jsonl"
    files = {
        lines: "".join(f"{json.dumps(document)}\n" for document in documents),
        out / f"{name}_scoring.py": SCORING,
        # Paths and prompts are written as JSON, which is also valid YAML.
        out / f"{name}.yaml": TASK.format(name=name, lines=json.dumps(str(lines)), form=json.dumps(FORM)),
    }
    with disk_errors(out, DataError):
        out.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with new_file(file) as new:
                new.write_text(text, encoding="utf-8")
    return len(documents)


def pictures(document: Mapping[str, Any]) -> list[Image.Image]:
    """Return the image of a question."""
    image_3HW = _picture(_sample(document))
    return [Image.fromarray((image_3HW * 255).round().byte().permute(1, 2, 0).numpy())]


def question(document: Mapping[str, Any], prompts: Mapping[str, str] | None = None) -> str:
    """Return the question, followed by the format of the reply for models other than Perceptio's."""
    return document["question"] + (prompts or {}).get("post_prompt", "")


def target(document: Mapping[str, Any]) -> str:
    """Return what lmms-eval shows as the answer: which turn's masks these are; the masks stay in the data folder."""
    return f"the mask of turn {document['turn']} of sample {document['id']}"


def score(document: Mapping[str, Any], replies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the overlap of the united masks of a reply with the ground truth, for each figure."""
    sample = _sample(document)
    _, height, width = _picture(sample).shape
    true_HW = united([np.zeros((height, width), dtype=bool), *sample.turns[document["turn"]].masks])
    assert true_HW is not None
    overlap = MaskMeter().update(united(read_masks(replies[0], (height, width))), true_HW)
    return dict.fromkeys(FIGURES, overlap)


def ciou(overlaps: Iterable[Mapping[str, Any]]) -> float:
    """Return the sum of intersections over the sum of unions."""
    return _figures(overlaps)["ciou"]


def giou(overlaps: Iterable[Mapping[str, Any]]) -> float:
    """Return the mean IoU over questions."""
    return _figures(overlaps)["giou"]


def missing(overlaps: Iterable[Mapping[str, Any]]) -> float:
    """Return the share of replies without a valid mask; each counts as an empty mask."""
    figures = _figures(overlaps)
    return figures["missing"] / figures["count"]


def _figures(overlaps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    meter = MaskMeter()
    for overlap in overlaps:
        meter.add(overlap)
    return meter.compute()


@lru_cache(maxsize=8)
def _folder(folder: str) -> FolderDataset:
    return FolderDataset(Path(folder))


@lru_cache(maxsize=2)
def _read(folder: str, number: int) -> Sample:
    """Return a sample, cached because questions about one image are adjacent."""
    return _folder(folder)[number]


def _sample(document: Mapping[str, Any]) -> Sample:
    return _read(document["folder"], document["sample"])


def _picture(sample: Sample) -> Tensor:
    if sample.image_3HW is None:
        raise DataError(f"{sample.source} has no picture, and referring expressions are about one.")
    return sample.image_3HW
