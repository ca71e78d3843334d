"""Masks in COCO's run-length encoding: alternating runs of zeros and ones, zeros first, column by column.

Runs are stored as a list, or as COCO's compressed string: six bits per character from `0` on, of which five are
digits, lowest first, and one says that more follow. From the fourth run on, the difference to the run before the
last is stored. Strings are not trusted: nothing of a size that they state is allocated here.

Shapes: R runs, H W pixels.
"""

import numpy as np

_FIRST = ord("0")
_MORE, _DIGITS, _SIGN = 0x20, 0x1F, 0x10
_LONGEST = 7
"""Characters of a run of 32 bits, the largest that COCO's own writer produces."""


def parse_runs(text: str) -> np.ndarray:
    """Return the runs [R] of a compressed string, int64.

    Raises:
        ValueError: It is not such a string; the message is the end of a sentence such as "its counts …".
    """
    try:
        characters = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        characters = np.array([-1])
    if ((characters < 0) | (characters > (_MORE | _DIGITS))).any():
        raise ValueError("hold a character that is none of COCO's compressed runs")
    last = characters & _MORE == 0
    if not len(characters):
        return np.zeros(0, dtype=np.int64)
    if not last[-1]:
        raise ValueError("end within a run: they are cut short")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise ValueError(f"have a run of more than {_LONGEST} characters")
    places = np.arange(len(characters)) - np.repeat(starts, lengths)
    values = np.add.reduceat((characters & _DIGITS) << 5 * places, starts)
    values -= np.where(characters[ends] & _SIGN, np.int64(1) << 5 * lengths, 0)
    # Sum up ones from the first on and zeros from the second: COCO's writer stores the first three as they are.
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values


def format_runs(runs_R: np.ndarray) -> str:
    """Return runs [R] as a compressed string."""
    values = [int(run) for run in runs_R]
    text = []
    for place, run in enumerate(values):
        left = run - values[place - 2] if place > 2 else run
        while True:
            digits, left = left & _DIGITS, left >> 5
            whole = left == (-1 if digits & _SIGN else 0)
            text.append(chr(_FIRST + (digits if whole else digits | _MORE)))
            if whole:
                break
    return "".join(text)


def runs_of(mask_HW: np.ndarray) -> np.ndarray:
    """Return the runs [R] of a boolean mask."""
    down = np.asarray(mask_HW, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(down[1:] != down[:-1]) + 1
    first = [0] if len(down) and down[0] else []
    return np.diff(np.concatenate([[0], first, changes, [len(down)]])).astype(np.int64)


def mask_of(runs_R: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the boolean mask [H, W] of runs; the caller must have checked that they cover exactly this size."""
    height, width = size
    ones = np.arange(len(runs_R)) % 2 == 1
    return np.repeat(ones, runs_R).reshape(width, height).T
