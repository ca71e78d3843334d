"""Share a model: a checkpoint with a model card, in a folder or on the Hugging Face hub."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import attrs

from perceptio.errors import CheckpointError, quoted
from perceptio.interfaces import MergeableAdapters
from perceptio.model.assemble import Network
from perceptio.model.checkpoints.card import write_card
from perceptio.model.checkpoints.checkpoint import load, save
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.files import expanded, new_file
from perceptio.ops.hub import resolve
from perceptio.ops.json_files import read_json, without_nan, write_json
from perceptio.registry import Registry

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
RESULTS = "metrics.json"
FILES = ("*.json", "*.safetensors", "text_tokenizer/*")


def save_pretrained(
    model: PerceptionNetwork,
    folder: str | Path,
    *,
    max_shard_size: int | str = "5GB",
    merge_adapters: bool = False,
    adapters_only: bool = False,
    results: Mapping[str, Any] | Path | str | None = None,
    license: str | None = None,
) -> None:
    """See `PerceptionModel.save_pretrained`."""
    if merge_adapters and adapters_only:
        raise CheckpointError(
            "merge_adapters makes adapters part of the base, which adapters_only leaves out."
        )
    if results is not None and not isinstance(results, Mapping):
        if not isinstance(results, str | Path):
            raise CheckpointError(
                f"results are {quoted(results)}; give figures by data set, or a metrics.json."
            )
        results = _read_results(Path(results))
    if merge_adapters:
        merge(model)

    card = write_card(model, results=results, license=license, adapters_only=adapters_only)

    def add(new: Path) -> None:
        with new_file(new / CARD) as file:
            file.write_text(card, encoding="utf-8")
        if results is not None:
            write_json(new / RESULTS, without_nan(results), error=CheckpointError)

    save(model, folder, add=add, max_shard_size=max_shard_size, adapters_only=adapters_only)


def from_pretrained(
    name: str | Path,
    network_class: type[Network],
    *,
    registry: Registry | None = None,
    weights: Mapping[str, str] | None = None,
) -> Network:
    """See `PerceptionModel.from_pretrained`."""
    folder = resolve(str(name), FILES)
    model = load(folder, network_class, registry=registry, weights=weights)
    if not isinstance(model, network_class):
        raise CheckpointError(
            f"{name} holds a {type(model).__name__} and no whole model; see perceptio.load."
        )
    return model


def push_to_hub(
    model: PerceptionNetwork,
    repo_id: str,
    *,
    api: "HfApi | None" = None,
    token: str | None = None,
    private: bool | None = None,
    **saving: Any,
) -> str:
    """See `PerceptionModel.push_to_hub`."""
    from huggingface_hub import HfApi

    with TemporaryDirectory() as folder:
        save_pretrained(model, Path(folder) / "checkpoint", **saving)
        return upload(Path(folder) / "checkpoint", repo_id, api=api or HfApi(token=token), private=private)


def upload(folder: Path, repo_id: str, *, api: "HfApi", private: bool | None = None) -> str:
    """Upload a folder to a hub repository, which is created if needed; weights of earlier uploads are deleted.

    Returns:
        The URL of the commit.

    Raises:
        CheckpointError: The hub cannot be reached, or the user may not write there.
    """
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message="Upload a Perceptio model",
            # An earlier upload may have had more shards.
            delete_patterns=["*.safetensors", "*.safetensors.index.json"],
        )
    except Exception as error:
        raise CheckpointError(
            f"{repo_id} could not be uploaded ({str(error).strip() or type(error).__name__}): log in with `hf auth "
            "login` as somebody who may write there, or save_pretrained into a folder."
        ) from error
    return str(commit.commit_url)


def merge(model: PerceptionNetwork) -> None:
    """Merge a model's adapters into the weights that they adapt, in place, and remove them from its recipe.

    Raises:
        CheckpointError: The language backbone has no adapters, or cannot merge them.
    """
    config = model.recipe.language
    plain = config.without_adapters()
    if plain == config or not isinstance(model.language, MergeableAdapters):
        raise CheckpointError(
            f"language:{config.name} has no adapters that could be merged: save without merge_adapters."
        )
    model.language.merge()
    groups = model.parameter_groups().keys()
    train = model.recipe.train
    lost = {
        name for name in (*train.train, *train.muon) if name.startswith("language.") and name not in groups
    }
    train = attrs.evolve(
        train,
        train=tuple(name for name in train.train if name not in lost),
        muon={name: rate for name, rate in train.muon.items() if name not in lost},
    )
    model.recipe = attrs.evolve(model.recipe, language=plain, train=train)


def _read_results(path: Path) -> Mapping[str, Any]:
    remedy = "name the metrics.json that `perceptio eval` wrote"
    found = read_json(expanded(path), error=CheckpointError, remedy=remedy)
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds no results: {remedy}.")
    return found
