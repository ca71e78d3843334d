"""Masks in a reply of text, so that a harness of texts can score the masks of any model.

A mask is COCO's compressed run-length encoding in JSON, between tags, anywhere in the reply:

    <mask>{"size": [480, 640], "counts": "Zhc0..."}</mask>

`size` is [height, width], that of the picture. `counts` never holds a `/`, so that no tag is mistaken. Several
masks of a reply are united by whoever scores it.
"""

import json
import re

import numpy as np

from perceptio.ops.run_lengths import format_runs, mask_of, parse_runs, runs_of

_MASK = re.compile(r"<mask>(.*?)</mask>", re.DOTALL)


def written_mask(mask_HW: np.ndarray) -> str:
    """A boolean mask [H, W] as text."""
    counts = format_runs(runs_of(mask_HW))
    return f"<mask>{json.dumps({'size': list(mask_HW.shape), 'counts': counts})}</mask>"


def read_masks(reply: str, size: tuple[int, int]) -> list[np.ndarray | None]:
    """The boolean masks [H, W] of a reply, in order; None for one that is not of the form or of another size."""
    return [_mask(text, size) for text in _MASK.findall(reply)]


def _mask(text: str, size: tuple[int, int]) -> np.ndarray | None:
    try:
        said = json.loads(text)
        if list(said["size"]) != list(size):
            return None
        runs_R = parse_runs(said["counts"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    # A sum alone could be met by runs that are negative, or that overflow.
    pixels = size[0] * size[1]
    if (runs_R < 0).any() or (runs_R > pixels).any() or int(runs_R.sum()) != pixels:
        return None
    return mask_of(runs_R, size)
