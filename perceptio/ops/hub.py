"""Where the files of pretrained weights are: a place on this machine, or a repository of the Hugging Face hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from perceptio.errors import CheckpointError

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def resolve(weights: str, patterns: Sequence[str]) -> Path:
    """The folder or file that `weights` names.

    Args:
        weights: A local folder or file, or else a hub id, `owner/name`, whose files are downloaded once and kept.
        patterns: Which files of a hub repository are needed, such as `("*.safetensors", "*.json")`.

    Raises:
        CheckpointError: There is no such place, or the hub cannot be asked or has no such repository.
    """
    path = Path(weights).expanduser()
    if path.exists():
        return path
    if not HUB_ID.fullmatch(weights):
        raise CheckpointError(f"There are no weights at {weights}, and it is no hub id such as owner/name.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(weights, allow_patterns=list(patterns)))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{weights} is no folder here, and could not be fetched from the Hugging Face hub ({reason}). Without a "
            "network, copy the repository's files into a local folder and name that folder instead."
        ) from error
