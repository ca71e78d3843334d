"""Codebooks of a run: each is trained before it is used, and checked before anything learns from its codes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.errors import CheckpointError, DataError, RecipeError, TrainingError
from perceptio.interfaces import Codes, PerceptionTokenizer, TrainableTokenizer
from perceptio.model.checkpoints.checkpoint import COMPONENT, save
from perceptio.model.parts import build_part
from perceptio.ops.codebooks import code_counts, code_usage
from perceptio.ops.files import disk_errors, recover
from perceptio.ops.json_files import read_json, write_json
from perceptio.ops.processes import alone
from perceptio.ops.wording import number_of
from perceptio.recipe import DataFolder, Recipe, Stream
from perceptio.serialize import fingerprint
from perceptio.training.listener import Preparing
from perceptio.training.target_maps import TargetMaps, read_training_maps
from perceptio.training.tokenizer import TokenizerRecord, train_tokenizer

MADE_FROM = "made_from.json"
"""File in the folder of a tokenizer that a run trained: the data and settings it was trained with."""


def trainable(stream: Stream) -> bool:
    """Return whether a stream is written as codes of a tokenizer that can be trained."""
    if not isinstance(stream.spec.written, Codes):
        return False
    with torch.device("meta"):
        return isinstance(build_part(stream.tokenizer), TrainableTokenizer)


def to_be_trained(stream: Stream) -> bool:
    """Return whether `train` must train a stream's tokenizer first.

    This is so if the tokenizer is trainable, names no weights, and the stream does not set `training.untrained`.
    """
    named = getattr(stream.tokenizer, "weights", None)
    return named is None and not stream.training.untrained and trainable(stream)


def train_codebook(
    recipe: Recipe,
    stream: Stream,
    folder: Path,
    data: Sequence[str],
    *,
    device: torch.device,
    say: Callable[[str], None],
    preparing: Preparing,
) -> None:
    """Train the tokenizer of a stream on the recipe's own data, or keep the one that an earlier attempt trained.

    Args:
        recipe: The recipe whose data to train on.
        stream: A stream of the recipe that needs training, see `to_be_trained`.
        folder: Folder for the tokenizer.
        data: A hash of the content of each of the recipe's data folders.
        device: Device to train on.
        say: Called with sentences about what is done, and why.
        preparing: Called with the progress.

    Raises:
        RecipeError: The tokenizer cannot be trained here; the message names the alternatives.
        TrainingError: The trained tokenizer encodes all objects with one code.
    """
    if "weights" not in attrs.fields_dict(type(stream.tokenizer)):
        raise RecipeError(
            f"{recipe.name}'s tokenizer {_named(stream)} of the stream {stream.name!r} is untrained and has no "
            f"setting `weights`; to use its random values, say so with streams.{stream.name}.training.untrained=true."
        )
    made_from: dict[str, object] = {
        "config": fingerprint(stream.tokenizer),
        "settings": attrs.asdict(stream.training),
        "data": list(data),
    }
    recover(folder)
    if (folder / COMPONENT).exists() and read_json(folder / MADE_FROM) == made_from:
        say(f"The tokenizer of the stream {stream.name!r} is the one that was trained before, {folder}.")
        return
    say(
        f"{recipe.name} names no weights for the tokenizer {_named(stream)} of the stream {stream.name!r}: it is "
        f"trained first, for {number_of(stream.training.steps, 'step')}, and kept in {folder}."
    )
    with disk_errors(folder.parent, CheckpointError):
        folder.parent.mkdir(parents=True, exist_ok=True)
    trained = _train_on_data_of(recipe, stream, folder.parent, device=device, preparing=preparing)
    if stream.spec.per == "object" and trained.records[-1].codes_used == 1:
        raise _one_code(stream, len(trained.maps.training_NCHW))  # Codes of images are checked later.
    save(
        trained.tokenizer,
        folder,
        config=stream.tokenizer,
        add=lambda new: write_json(new / MADE_FROM, made_from),
    )


@attrs.frozen(kw_only=True, eq=False)
class TrainedTokenizer:
    """A trained tokenizer, the records of its training, and the maps it was trained on."""

    tokenizer: PerceptionTokenizer
    records: tuple[TokenizerRecord, ...]
    maps: TargetMaps


def train_on_folders(
    stream: Stream,
    folders: Sequence[DataFolder],
    *,
    device: torch.device,
    store: Path,
    reading: Callable[[int, int], None],
    on_record: Callable[[TokenizerRecord], None],
) -> TrainedTokenizer:
    """Build the tokenizer of a stream and train it on the targets of data folders.

    Args:
        stream: The stream, with the settings of its training.
        folders: The data.
        device: Device to train on.
        store: Folder on whose disk the maps are kept during training.
        reading: Called with the number of samples read from a folder, and the total.
        on_record: Called with the record of every tenth step, and of the last.

    Raises:
        DataError: See `read_training_maps`.
        TrainingError: The loss is no longer finite.
    """
    torch.manual_seed(stream.training.seed)
    tokenizer = build_part(stream.tokenizer)
    maps = read_training_maps(folders, tokenizer, store=store, progress=reading)
    records = train_tokenizer(
        tokenizer.to(device),
        maps.training_NCHW,
        stream.training,
        weights_N=maps.weights_N,
        on_record=on_record,
        record_every=10,
    )
    return TrainedTokenizer(tokenizer=tokenizer, records=records, maps=maps)


def _train_on_data_of(
    recipe: Recipe, stream: Stream, store: Path, *, device: torch.device, preparing: Preparing
) -> TrainedTokenizer:
    """Train the tokenizer of a stream on a recipe's own data.

    Raises:
        RecipeError: The data have no targets for the tokenizer, or cannot be read.
        TrainingError: The loss is no longer finite.
    """
    try:
        with alone():
            return train_on_folders(
                stream,
                recipe.data.folders,
                device=device,
                store=store,
                reading=lambda done, total: preparing(f"reading targets of {stream.name}", done, total),
                on_record=lambda record: preparing(
                    f"training the tokenizer of {stream.name}", record.step, record.steps
                ),
            )
    except DataError as error:
        where = f"streams.{stream.name}"
        raise RecipeError(
            f"{recipe.name} names no weights for the tokenizer {_named(stream)} of the stream {stream.name!r}, "
            f"and it cannot be trained on the run's own data. {str(error).rstrip('.')}. Name weights with "
            f"{where}.tokenizer.weights, or ask for random values with {where}.training.untrained=true."
        ) from error


def with_codebooks(recipe: Recipe, folders: Mapping[str, Path]) -> Recipe:
    """Return the recipe with the tokenizers that `train_codebook` wrote, given their folders by stream."""
    for name, folder in folders.items():
        weights: dict[str, Any] = {"weights": str(folder)}
        recipe = recipe.with_stream(name, tokenizer=attrs.evolve(recipe.stream(name).tokenizer, **weights))
    return recipe


def check_usage(stream: Stream, codes: Sequence[Tensor]) -> dict[str, float]:
    """Return how a stream's codes use its codebooks, as `STREAM_codes.used` and `STREAM_codes.perplexity`.

    Args:
        stream: A stream of codes that is written once per image.
        codes: Codes [n, L] of the images of each folder; a row of -1 for an image without the target.

    Raises:
        TrainingError: There are codes, and all targets have the same ones.
    """
    written = stream.spec.written
    assert isinstance(written, Codes)
    known = [codes_nL[codes_nL[:, 0] >= 0].long() for codes_nL in codes]
    targets = sum(len(codes_nL) for codes_nL in known)
    if not targets:
        return {}
    counts_K = sum((code_counts(codes_nL, written) for codes_nL in known), torch.tensor(0))
    usage = code_usage(counts_K)
    if usage["codes_used"] <= len(written.codebook_sizes):
        raise _one_code(stream, targets)
    return {f"{stream.name}_codes.{name.removeprefix('codes_')}": value for name, value in usage.items()}


def _one_code(stream: Stream, targets: int) -> TrainingError:
    where = f"streams.{stream.name}"
    remedy = (
        f"random values say nothing, so train it: leave {where}.training.untrained out"
        if stream.training.untrained
        else f"train it anew with `perceptio train-tokenizer --stream {stream.name}` (more {where}.training.steps, "
        f"another {where}.training.lr, other data), and name it with {where}.tokenizer.weights"
    )
    return TrainingError(
        f"The tokenizer of the stream {stream.name!r} says all {targets} training targets with one code, so that "
        f"there is nothing to learn from them: {remedy}."
    )


def _named(stream: Stream) -> str:
    return f"{stream.tokenizer.kind}:{stream.tokenizer.name}"
