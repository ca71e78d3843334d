"""The codes of a data set's images from a frozen tokenizer: computed once and kept on disk in two files.

    NAME.npy    codes [n, L] of the n samples that have the target, uint8 if the codebooks allow it, else wider
    NAME.json   which tokenizer and targets they belong to, and the samples' ids in the order of the rows

A data folder keeps them as `codes/STREAM`. A command that makes targets may write them there, and a packed folder
includes them. A run's folder keeps them as `codes/STREAM/training-0` for its first data folder, and so on.

Training uses the codes of the data folder if their fingerprints match its tokenizer and the folder's targets.
Otherwise it reports what they belong to, and computes its own into the run's folder.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.identity import hash_of_targets
from perceptio.errors import DataError, quoted
from perceptio.interfaces import PerceptionTokenizer
from perceptio.interfaces.perception_checks import codes_problem
from perceptio.ops.array_files import mapped_array
from perceptio.ops.eval_mode import in_eval_mode
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.json_files import read_json, write_json

BATCH_SIZE = 64

Progress = Callable[[int, int], None]
"""Called with the number of images done, and the total."""


def codes_in(folder: Path, stream: str) -> Path:
    """Return where a data folder keeps the codes of a stream: the path of the two files without suffix."""
    return folder / "codes" / stream


@torch.inference_mode()
def encode_targets(
    tokenizer: PerceptionTokenizer, dataset: FolderDataset, progress: Progress | None = None
) -> Tensor:
    """Return codes [n, L] of the n images of a folder, int16 or wider; a row of -1 for an image without the target.

    Args:
        tokenizer: The frozen tokenizer of a stream of codes that is written once per image.
        dataset: The folder.
        progress: Called with the number of images done, and the total.

    Raises:
        DataError: A target cannot be read or used; the message names its file.
    """
    target = tokenizer.spec.stream.target
    codes_nL = _no_codes(len(dataset), tokenizer)
    tokenizer = in_eval_mode(tokenizer)
    having = dataset.with_target(target).tolist()
    for first in range(0, len(having), BATCH_SIZE):
        numbers = having[first : first + BATCH_SIZE]
        raw = [dataset.target(number, target) for number in numbers]
        codes_nL[numbers] = _encoded(tokenizer, dataset, numbers, raw).cpu().to(codes_nL.dtype)
        if progress is not None:
            progress(first + len(numbers), len(having))
    return codes_nL.clone()


def write_codes(
    dataset: FolderDataset, tokenizer: PerceptionTokenizer, path: Path, progress: Progress | None = None
) -> int:
    """Write the codes of a data folder's images.

    Args:
        dataset: The data folder.
        tokenizer: See `encode_targets`.
        path: The path of the two files without suffix; see `codes_in`.
        progress: See `encode_targets`.

    Returns:
        The number n of images that have codes.

    Raises:
        DataError: A target cannot be used, or the folder cannot be written.
    """
    codes_nL = encode_targets(tokenizer, dataset, progress)
    rows = (codes_nL[:, 0] >= 0).nonzero().flatten().tolist()
    largest = max(tokenizer.spec.stream.written.codebook_sizes) - 1
    stored_nL = codes_nL[rows].numpy().astype(np.min_scalar_type(largest))
    with disk_errors(path.parent, DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Codes without an index are ignored, so the two files never come from different passes.
        _index_file(path).unlink(missing_ok=True)
        with new_file(_codes_file(path)) as new:
            np.save(new, stored_nL)
        write_json(_index_file(path), _index(dataset, tokenizer))
    return len(rows)


def read_codes(
    path: Path,
    dataset: FolderDataset,
    tokenizer: PerceptionTokenizer,
    say: Callable[[str], None] = lambda _: None,
) -> Tensor | None:
    """Read written codes, in the form that `encode_targets` returns.

    Args:
        path: The path of the two files without suffix, as for `write_codes`.
        dataset: The data folder.
        tokenizer: See `encode_targets`.
        say: Called with a sentence that says what existing codes belong to, if they do not match.

    Returns:
        The codes; None if there are none, or if they belong to another tokenizer or to other targets.

    Raises:
        DataError: They cannot be read.
    """
    index, file = _index_file(path), _codes_file(path)
    if not index.is_file():
        return None
    if difference := _difference(read_json(index), dataset, tokenizer):
        say(f"{dataset.name}: codes that are there are not used: {file} holds codes {difference}.")
        return None
    try:
        stored_nL = mapped_array(file)
    except DataError as error:
        raise DataError(f"{error} Or remove it, and {index.name} beside it.") from error
    spec = tokenizer.spec.stream
    rows = dataset.with_target(spec.target).tolist()
    size = (len(rows), spec.written.length)
    problem: str | None = f"are {stored_nL.dtype} {list(stored_nL.shape)}"
    if stored_nL.shape == size and stored_nL.dtype.kind == "u":
        problem = codes_problem(torch.from_numpy(stored_nL.astype(np.int64)), spec.written)
    if problem:
        raise DataError(
            f"{file} holds codes that {problem}, and {index.name} speaks of {list(size)}: remove both."
        )
    codes_nL = _no_codes(len(dataset), tokenizer)
    codes_nL[rows] = torch.from_numpy(stored_nL.astype(np.int32)).to(codes_nL.dtype)
    return codes_nL


def tokenizer_fingerprint(tokenizer: PerceptionTokenizer) -> str:
    """Return 16 hexadecimal digits that identify a tokenizer's type, spec and weights, wherever they came from."""
    digest = hashlib.sha256(f"{type(tokenizer).__name__} {tokenizer.spec}".encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _codes_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.npy")


def _index_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _encoded(
    tokenizer: PerceptionTokenizer, dataset: FolderDataset, numbers: Sequence[int], raw: Sequence[Any]
) -> Tensor:
    try:
        return tokenizer.to_codes(tokenizer.targets(raw))
    except DataError:
        for number, one in zip(numbers, raw, strict=True):  # Find which of them fails.
            try:
                tokenizer.to_codes(tokenizer.targets([one]))
            except DataError as error:
                file = dataset.records[number].target_file(tokenizer.spec.stream.target)
                raise DataError(f"{dataset.files.where(str(file))}: {error}") from error
        raise


def _difference(found: Any, dataset: FolderDataset, tokenizer: PerceptionTokenizer) -> str | None:
    """Return how the codes of an index differ from those of a folder by a tokenizer; None if they are the same."""
    found = found if isinstance(found, dict) else {}
    own = tokenizer_fingerprint(tokenizer)
    if found.get("tokenizer") != own:  # Checked first, so that targets need not be read.
        return f"of the tokenizer {quoted(found.get('tokenizer'))}, and the recipe's is {own!r}"
    if found != _index(dataset, tokenizer):
        return f"of other targets {tokenizer.spec.stream.target!r} than the folder has now"
    return None


def _index(dataset: FolderDataset, tokenizer: PerceptionTokenizer) -> dict[str, Any]:
    """Return the index of codes: what they belong to, and what they mean."""
    spec = tokenizer.spec.stream
    return {
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "codebook_sizes": list(spec.written.codebook_sizes),
        "length": spec.written.length,
        "target": spec.target,
        "targets": hash_of_targets(dataset, spec.target),
        "ids": [dataset.records[number].id for number in dataset.with_target(spec.target).tolist()],
    }


def _no_codes(count: int, tokenizer: PerceptionTokenizer) -> Tensor:
    """Return a row of -1 for each of `count` images."""
    written = tokenizer.spec.stream.written
    dtype = torch.int16 if max(written.codebook_sizes) <= 2**15 else torch.int32
    return torch.full((count, written.length), -1, dtype=dtype)
