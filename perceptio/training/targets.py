"""Depth codes of a data set's images, by a frozen tokenizer: computed once, before training, or written to disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.interfaces import DepthTokenizer, device_of
from perceptio.ops.depth_maps import from_map, resize_depth
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.json_files import write_json

BATCH_SIZE = 64
CODES_FILE, INDEX_FILE = "depth_codes.npy", "depth_codes.json"


@torch.inference_mode()
def encode_depth(
    tokenizer: DepthTokenizer, dataset: FolderDataset, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Codes [n, L] of the n images of a folder; a row of -1 where an image has no depth.

    Args:
        tokenizer: The frozen tokenizer.
        dataset: The folder.
        progress: Called with how many images are done, and of how many.
    """
    spec = tokenizer.spec
    device = device_of(tokenizer)
    codes_nL = torch.full((len(dataset), spec.num_codes), -1)
    tokenizer.eval()
    for first in range(0, len(dataset), BATCH_SIZE):
        numbers, maps = [], []
        for number in range(first, min(first + BATCH_SIZE, len(dataset))):
            depth = dataset.depth(number)
            if depth is not None:
                numbers.append(number)
                maps.append(resize_depth(from_map(depth, spec.convention), spec.image_size)[0])
        if numbers:
            codes_nL[numbers] = tokenizer.encode(torch.stack(maps).to(device)).cpu()
        if progress is not None:
            progress(min(first + BATCH_SIZE, len(dataset)), len(dataset))
    return codes_nL.clone()


def write_codes(
    folder: Path, tokenizer: DepthTokenizer, progress: Callable[[int, int], None] | None = None
) -> int:
    """Write the codes of a data folder's depth maps into it: `depth_codes.npy`, and what they mean beside it.

    The array is [n, L], uint8 where the codebook allows it, else uint16; `depth_codes.json` lists the samples' ids in
    the order of its rows, without those that have no depth.

    Returns:
        How many maps have codes, n.

    Raises:
        DataError: A map cannot be used, or the folder cannot be written.
    """
    dataset = FolderDataset(folder)
    codes_nL = encode_depth(tokenizer, dataset, progress)
    spec = tokenizer.spec
    rows = (codes_nL[:, 0] >= 0).nonzero().flatten().tolist()
    index = {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "codebook_size": spec.codebook_size,
        "grid": list(spec.grid),
        "ids": [dataset.records[row].id for row in rows],
    }
    with disk_errors(folder, DataError):
        # Without an index codes are not read, so that the two files are never of different passes.
        (folder / INDEX_FILE).unlink(missing_ok=True)
        with new_file(folder / CODES_FILE) as new:
            np.save(new, codes_nL[rows].numpy().astype(np.min_scalar_type(spec.codebook_size - 1)))
        write_json(folder / INDEX_FILE, index)
    return len(rows)


def tokenizer_fingerprint(tokenizer: DepthTokenizer) -> str:
    """Sixteen hexadecimal digits of what a tokenizer is and holds, wherever it was read from."""
    digest = hashlib.sha256(f"{type(tokenizer).__name__} {tokenizer.spec}".encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
