"""Depth codes of a data set's images, by a frozen tokenizer: computed once and kept on disk.

    depth_codes.npy    codes [n, L] of the n samples with depth, uint8 where the codebook allows it, else wider
    depth_codes.json   of which tokenizer and which depth maps they are, and the samples' ids in the order of the rows

They lie in the data folder, where `perceptio depth-targets` writes them, or in the folder of a run.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.identity import hash_of_depth
from perceptio.errors import DataError
from perceptio.interfaces import DepthTokenizer, device_of
from perceptio.ops.array_files import mapped_array
from perceptio.interfaces.depth_maps import from_map, resize_depth
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.json_files import read_json, write_json

BATCH_SIZE = 64
CODES_FILE, INDEX_FILE = "depth_codes.npy", "depth_codes.json"


@torch.inference_mode()
def encode_depth(
    tokenizer: DepthTokenizer, dataset: FolderDataset, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Codes [n, L] of the n images of a folder, int16 or wider; a row of -1 where an image has no depth.

    Args:
        tokenizer: The frozen tokenizer.
        dataset: The folder.
        progress: Called with how many images are done, and of how many.
    """
    spec = tokenizer.spec
    device = device_of(tokenizer)
    codes_nL = _without_depth(len(dataset), tokenizer)
    tokenizer.eval()
    for first in range(0, len(dataset), BATCH_SIZE):
        numbers, maps = [], []
        for number in range(first, min(first + BATCH_SIZE, len(dataset))):
            depth = dataset.depth(number)
            if depth is not None:
                numbers.append(number)
                maps.append(resize_depth(from_map(depth, spec.convention), spec.image_size)[0])
        if numbers:
            codes_nL[numbers] = tokenizer.encode(torch.stack(maps).to(device)).cpu().to(codes_nL.dtype)
        if progress is not None:
            progress(min(first + BATCH_SIZE, len(dataset)), len(dataset))
    return codes_nL.clone()


def write_codes(
    folder: Path,
    tokenizer: DepthTokenizer,
    progress: Callable[[int, int], None] | None = None,
    *,
    into: Path | None = None,
) -> int:
    """Write the codes of a data folder's depth maps.

    Args:
        folder: The data folder.
        tokenizer: The frozen tokenizer.
        progress: Called with how many images are done, and of how many.
        into: The folder that the two files are written in; None: the data folder itself.

    Returns:
        How many maps have codes, n.

    Raises:
        DataError: A map cannot be used, or the folder cannot be written.
    """
    dataset, into = FolderDataset(folder), folder if into is None else into
    codes_nL = encode_depth(tokenizer, dataset, progress)
    rows = (codes_nL[:, 0] >= 0).nonzero().flatten().tolist()
    stored_nL = codes_nL[rows].numpy().astype(np.min_scalar_type(tokenizer.spec.codebook_size - 1))
    with disk_errors(into, DataError):
        # Without an index codes are not read, so that the two files are never of different passes.
        (into / INDEX_FILE).unlink(missing_ok=True)
        with new_file(into / CODES_FILE) as new:
            np.save(new, stored_nL)
        write_json(into / INDEX_FILE, _index(dataset, tokenizer))
    return len(rows)


def read_codes(folder: Path, dataset: FolderDataset, tokenizer: DepthTokenizer) -> Tensor | None:
    """The codes that a folder holds, as `encode_depth` returns them.

    Returns:
        None where there are none, or others: of another tokenizer, or of other depth maps.

    Raises:
        DataError: They cannot be read.
    """
    if not (folder / INDEX_FILE).is_file() or read_json(folder / INDEX_FILE) != _index(dataset, tokenizer):
        return None
    path = folder / CODES_FILE
    try:
        stored_nL = mapped_array(path)
    except DataError as error:
        raise DataError(f"{error} Or remove it, and {INDEX_FILE} beside it.") from error
    rows = [number for number, record in enumerate(dataset.records) if record.depth is not None]
    size, spec = (len(rows), tokenizer.spec.num_codes), tokenizer.spec
    broken = stored_nL.shape != size or stored_nL.dtype.kind != "u" or (stored_nL >= spec.codebook_size).any()
    if broken:
        raise DataError(
            f"{path} holds {stored_nL.dtype} {list(stored_nL.shape)}, and {INDEX_FILE} speaks of codes below "
            f"{spec.codebook_size} of size {list(size)}: remove both."
        )
    codes_nL = _without_depth(len(dataset), tokenizer)
    codes_nL[rows] = torch.from_numpy(stored_nL.astype(np.int32)).to(codes_nL.dtype)
    return codes_nL


def tokenizer_fingerprint(tokenizer: DepthTokenizer) -> str:
    """Sixteen hexadecimal digits of what a tokenizer is and holds, wherever it was read from."""
    digest = hashlib.sha256(f"{type(tokenizer).__name__} {tokenizer.spec}".encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _index(dataset: FolderDataset, tokenizer: DepthTokenizer) -> dict[str, Any]:
    """What codes are of, and what they mean."""
    return {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "codebook_size": tokenizer.spec.codebook_size,
        "grid": list(tokenizer.spec.grid),
        "depth": hash_of_depth(dataset),
        "ids": [record.id for record in dataset.records if record.depth is not None],
    }


def _without_depth(count: int, tokenizer: DepthTokenizer) -> Tensor:
    """Rows of -1 for so many images."""
    dtype = torch.int16 if tokenizer.spec.codebook_size <= 2**15 else torch.int32
    return torch.full((count, tokenizer.spec.num_codes), -1, dtype=dtype)
