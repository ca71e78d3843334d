"""The location of pretrained weights: a local path, or a repository on the Hugging Face hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from perceptio.errors import CheckpointError
from perceptio.ops.foreign import parsing

HUB_ID = re.compile(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)


def find(weights: str) -> Path | None:
    """Return the folder or file that `weights` names if it is on this machine, else None; never use the network.

    Raises:
        CheckpointError: `weights` can be neither a path nor a hub id.
    """
    if (path := _on_disk(weights)) is not None:
        return path
    if not HUB_ID.fullmatch(weights):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with parsing(CheckpointError, f"{weights} cannot be looked for in the hub's cache ({{reason}})."):
        try:
            return Path(snapshot_download(weights, local_files_only=True))
        except LocalEntryNotFoundError:
            return None


def resolve(weights: str, patterns: Sequence[str]) -> Path:
    """Return the folder or file that `weights` names, downloading it if necessary.

    Args:
        weights: A local folder or file, or otherwise a hub id, `owner/name`, whose files are downloaded once and
            cached.
        patterns: The files of a hub repository that are needed, such as `("*.safetensors", "*.json")`.

    Raises:
        CheckpointError: There is no such path, or the hub cannot be reached or has no such repository.
    """
    if (path := _on_disk(weights)) is not None:
        return path
    if not HUB_ID.fullmatch(weights):
        raise CheckpointError(
            f"There are no weights at {weights[:200]}, and it is no hub id such as owner/name."
        )
    from huggingface_hub import snapshot_download

    with parsing(
        CheckpointError,
        f"{weights} is no folder here, and could not be fetched from the Hugging Face hub ({{reason}}). Without a "
        "network, copy the repository's files into a local folder and name that folder instead.",
    ):
        return Path(snapshot_download(weights, allow_patterns=list(patterns)))


def _on_disk(weights: str) -> Path | None:
    with parsing(CheckpointError, f"{weights[:200]} cannot be a path ({{reason}}): check its spelling."):
        path = Path(weights).expanduser()
        return path if path.exists() else None
