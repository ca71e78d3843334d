"""Masks within the text of a reply, so that a text harness can score the masks of any model.

A mask is COCO's compressed run-length encoding as JSON, between tags, anywhere in the reply:

    <mask>{"size": [480, 640], "counts": "Zhc0..."}</mask>

`size` is the image's [height, width]. `counts` never contains a `/`, so it cannot be mistaken for a tag. Whoever
scores a reply unites its masks.
"""

import json
import re

import numpy as np

from perceptio.ops.run_lengths import format_runs, mask_of, parse_runs, runs_of

_MASK = re.compile(r"<mask>(.*?)</mask>", re.DOTALL)


def written_mask(mask_HW: np.ndarray) -> str:
    """Return a boolean mask [H, W] as text."""
    counts = format_runs(runs_of(mask_HW))
    return f"<mask>{json.dumps({'size': list(mask_HW.shape), 'counts': counts})}</mask>"


def read_masks(reply: str, size: tuple[int, int]) -> list[np.ndarray | None]:
    """Return the boolean masks [H, W] of a reply in order; None for an invalid mask or one of another size."""
    return [_mask(text, size) for text in _MASK.findall(reply)]


def _mask(text: str, size: tuple[int, int]) -> np.ndarray | None:
    try:
        said = json.loads(text)
        if list(said["size"]) != list(size):
            return None
        runs_R = parse_runs(said["counts"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    # Checking only the sum would accept runs that are negative or overflow.
    pixels = size[0] * size[1]
    if (runs_R < 0).any() or (runs_R > pixels).any() or int(runs_R.sum()) != pixels:
        return None
    return mask_of(runs_R, size)
