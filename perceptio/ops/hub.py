"""Where the files of pretrained weights are: a place on this machine, or a repository of the Hugging Face hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from perceptio.errors import CheckpointError
from perceptio.ops.foreign import parsing

HUB_ID = re.compile(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)


def find(weights: str) -> Path | None:
    """The folder or file that `weights` names, where it is on this machine; the hub is not asked.

    Raises:
        CheckpointError: `weights` cannot be a path or a hub id.
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
    """The folder or file that `weights` names.

    Args:
        weights: A local folder or file, or else a hub id, `owner/name`, whose files are downloaded once and kept.
        patterns: Which files of a hub repository are needed, such as `("*.safetensors", "*.json")`.

    Raises:
        CheckpointError: There is no such place, or the hub cannot be asked or has no such repository.
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
