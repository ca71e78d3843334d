"""Save and load checkpoints. A checkpoint is a folder with a description as JSON and weights as safetensors.

    recipe.json        for a model: its recipe, and how its streams are written
    component.json     for a part, instead of recipe.json: its config
    model.safetensors  parameters and buffers; if they are large, shards and model.safetensors.index.json
    text_tokenizer/    for a model: the files of its text tokenizer

Components are stored by name and found through the registry, so a checkpoint loads in a process that never imported
the recipe's file. A checkpoint of adapters leaves out what parts read from the `weights` that they name; recipe.json
then holds hashes of these weights. Format 1, of earlier versions, is read with the names in `perceptio.earlier`.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from perceptio import earlier
from perceptio.errors import CheckpointError, RecipeError, quoted
from perceptio.hookspecs import PROJECT
from perceptio.interfaces import ComponentConfig, Kind, LossConfig, TaskConfig, TrainableTokenizer
from perceptio.model.assemble import assemble
from perceptio.model.checkpoints.pretrained import pretrained_tensors, pretrained_weights, with_weights
from perceptio.model.checkpoints.streams import check_streams, stream_facts
from perceptio.model.network import PerceptionNetwork
from perceptio.model.parts import build_part
from perceptio.ops.files import check_only, disk_errors, expanded, new_folder, whole
from perceptio.ops.foreign import parsing
from perceptio.ops.identity import hash_of_tensors
from perceptio.ops.json_files import read_json, write_json
from perceptio.ops.undrawn import without_drawing
from perceptio.ops.weights import (
    CHECKPOINT,
    check_tensors,
    load_tensors,
    read_headers,
    tensors_of,
    write_weights,
)
from perceptio.recipe import Recipe
from perceptio.registry import HOW_TO_LOAD, Registry
from perceptio.serialize import fingerprint, from_json, to_json
from perceptio.setting_types import COMPONENT as COMPONENT_KEY

FORMAT = 2
EARLIER = 1
"""An earlier format that can still be read."""
RECIPE = "recipe.json"
COMPONENT = "component.json"
TEXT_TOKENIZER = "text_tokenizer"
ADDED = (
    "README.md",
    "metrics.json",
    "answers.jsonl",
    "training.json",
    "validation.json",
    "made_from.json",
    "conversion_report.txt",
)
"""Files that callers of `save` may add to a checkpoint."""
OWN = (TEXT_TOKENIZER, "*.safetensors", "*.safetensors.index.json", *ADDED)
"""All names in a checkpoint besides its JSON description."""
_AGAIN = "copy or train it again"
SHOWN = 5
"""The number of tensors that a message names; the rest are counted."""


def save(
    part: nn.Module,
    folder: str | Path,
    *,
    config: ComponentConfig | None = None,
    add: Callable[[Path], None] | None = None,
    max_shard_size: int | str = "5GB",
    adapters_only: bool = False,
) -> None:
    """Write a checkpoint of a model, or of a part with its config; it replaces a checkpoint that the folder holds.

    Args:
        part: A `PerceptionModel`, or a part such as a depth tokenizer.
        folder: The folder to write. It is replaced in one rename, and unchanged if anything fails.
        config: The config from which a part was built. Not needed for a model, which has its recipe.
        add: A function that writes further files into the folder before the rename.
        max_shard_size: The maximum size of a weight file; larger weights are split into several files.
        adapters_only: Leave out the frozen tensors that parts read from the `weights` that they name; see
            `pretrained_tensors`.

    Raises:
        CheckpointError: The folder cannot be written or holds something other than a checkpoint, a part comes
            without its config, or there is nothing to leave out.
    """
    with disk_errors(folder, CheckpointError):
        check_only(folder, known_by=(RECIPE, COMPONENT), own=OWN)
    tensors = tensors_of(part)
    facts: dict[str, Any] = {}
    if isinstance(part, PerceptionNetwork):
        facts["streams"] = stream_facts(part.recipe)
        if adapters_only:
            base = pretrained_tensors(part)
            left_out = {name for held in base.values() for name in held}
            tensors = {name: value for name, value in tensors.items() if name not in left_out}
            facts["base"] = {name: hash_of_tensors(held) for name, held in base.items()}
    elif config is None:
        raise CheckpointError(
            f"To save a {type(part).__name__}, give the config it was built from: config=…."
        )
    with disk_errors(folder, CheckpointError), new_folder(folder) as new:
        if isinstance(part, PerceptionNetwork):
            _write_json(new / RECIPE, "recipe", part.recipe, facts)
            part.language.text_tokenizer.save(new / TEXT_TOKENIZER)
        else:
            _write_json(new / COMPONENT, "component", config)
        write_weights(tensors, new, max_shard_size=max_shard_size)
        if add is not None:
            add(new)


def load(
    folder: str | Path,
    network_class: type[PerceptionNetwork],
    *,
    registry: Registry | None = None,
    weights: Mapping[str, str] | None = None,
) -> Any:
    """Load a network of the given class, or a part, from a folder; see `perceptio.load`."""
    folder = _find(folder)
    value, facts = _read_json(folder, registry or Registry.discover())
    with parsing(CheckpointError, f"What {folder} describes cannot be built ({{reason}})."):
        if isinstance(value, Recipe):
            value = with_weights(value, weights or {})
            part: nn.Module = _read_model(folder, value, network_class, facts)
        else:
            with _no_more_than_weights(folder), torch.device("meta"):
                check_tensors(build_part(value), folder)
            part = without_drawing(lambda: build_part(value))
            _fill(part, folder)
    if isinstance(part, TrainableTokenizer):
        part.freeze()
    return part.eval()


def is_of_earlier_format(folder: Path) -> bool:
    """Return whether a folder holds a model in an earlier format.

    Raises:
        CheckpointError: Its `recipe.json` cannot be read.
    """
    path = folder / RECIPE
    document = read_json(path, error=CheckpointError, remedy=_AGAIN) if path.exists() else None
    return isinstance(document, Mapping) and document.get("format") == EARLIER


def _find(folder: str | Path) -> Path:
    """Return the checkpoint in the folder of a run, or the folder itself, also if its replacement was interrupted."""
    with parsing(CheckpointError, f"{folder} cannot be opened ({{reason}})."):
        run = expanded(folder)
        inner = whole(run / CHECKPOINT)
        return inner if inner.is_dir() else whole(run)


# Sizes in recipe.json are not trusted before they are compared with the weight files: the model is first built
# without values, and takes memory only after every name and shape was found in the files.


def _read_model(
    folder: Path, recipe: Recipe, network_class: type[PerceptionNetwork], facts: Mapping[str, Any]
) -> PerceptionNetwork:
    language = recipe.language.with_text_tokenizer(folder / TEXT_TOKENIZER)
    recipe = attrs.evolve(recipe, language=language)
    of_format_1 = facts["format"] == EARLIER
    rename = earlier.current_tensor if of_format_1 else None
    if "base" not in facts:
        with _no_more_than_weights(folder):
            outline = assemble(recipe, network_class, device="meta")
        check_tensors(outline, folder, rename)
        model = assemble(recipe, network_class, load_weights=False, parameters="open")
        _fill(model, folder, rename)
        return model
    base = {earlier.current_tensor(part) if of_format_1 else part: one for part, one in facts["base"].items()}
    outline = assemble(recipe, network_class, device="meta")
    check_tensors(outline, folder, rename, elsewhere=_names(pretrained_tensors(outline)))
    model = assemble(recipe, network_class, load_weights=base, parameters="open")
    held = pretrained_tensors(model)
    _fill(model, folder, rename, elsewhere=_names(held))
    for part, tensors in held.items():
        if of_format_1:  # The hash covers names, too.
            tensors = {earlier.tensor_of_format_1(name): value for name, value in tensors.items()}
        if hash_of_tensors(tensors) != base.get(part):
            raise CheckpointError(
                f"{folder} holds adapters for other {part} weights than those at {pretrained_weights(recipe)[part]}: "
                f"name the ones it was trained on with weights={{{part!r}: …}}."
            )
    return model


def _names(base: Mapping[str, Collection[str]]) -> set[str]:
    return {name for tensors in base.values() for name in tensors}


@contextmanager
def _no_more_than_weights(folder: Path) -> Iterator[None]:
    """Stop a build that creates far more parameters than a folder has tensors, such as one with 10^9 layers."""
    limit = 1000 + 4 * len(read_headers(folder))  # Some parameters are created twice or tied to others.
    builder, made = threading.get_ident(), 0

    def count(*_: Any) -> None:
        nonlocal made
        made += threading.get_ident() == builder
        if made > limit:
            raise CheckpointError(
                f"{folder} describes a model of more than {limit} parameters, and its weights are {limit // 4 - 250} "
                "tensors: its JSON and its weights are not of one model."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _fill(
    part: nn.Module,
    folder: Path,
    rename: Callable[[str], str | None] | None = None,
    elsewhere: Collection[str] = (),
) -> None:
    """Read a part's weights, as `load_tensors` does, and refuse values that are not finite."""
    broken = load_tensors(part, folder, rename, elsewhere=elsewhere)
    if broken:
        shown = ", ".join(broken[:SHOWN]) + (
            f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        )
        raise CheckpointError(
            f"{folder} holds values that are not finite numbers, in {shown}: take an earlier checkpoint, or train it "
            "again."
        )


def _write_json(path: Path, key: str, held: Any, facts: Mapping[str, Any] | None = None) -> None:
    registry = Registry.discover()
    value = to_json(held, registry)
    document = {
        "format": FORMAT,
        "fingerprint": fingerprint(held, registry),
        "providers": _providers(value, registry),
        **(facts or {}),
        key: value,
    }
    write_json(path, document, error=CheckpointError)


def _providers(value: Any, registry: Registry) -> dict[str, str]:
    """Return the provider of each component that is not built in."""
    providers = {}
    for full in _components(value):
        kind, _, name = full.partition(":")
        provider = registry.provider(Kind(kind), name)
        if provider != PROJECT:
            providers[full] = provider
    return providers


def _components(value: Any) -> Iterator[str]:
    """Yield every component that a document names."""
    if isinstance(value, Mapping):
        if COMPONENT_KEY in value:
            yield value[COMPONENT_KEY]
        for held in value.values():
            yield from _components(held)
    elif isinstance(value, list):
        for held in value:
            yield from _components(held)


def _read_json(folder: Path, registry: Registry) -> tuple[Any, dict[str, Any]]:
    path = next((folder / name for name in (RECIPE, COMPONENT) if (folder / name).exists()), None)
    if path is None:
        raise CheckpointError(f"{folder} holds no checkpoint: neither {RECIPE} nor {COMPONENT} is in it.")
    document = read_json(path, error=CheckpointError, remedy=_AGAIN)
    with parsing(CheckpointError, f"{path} is not a checkpoint of this library: {{reason}}."):
        key = "recipe" if path.name == RECIPE else "component"
        for required in ("format", key):
            _require(document, required, path)
        if document["format"] not in (EARLIER, FORMAT):
            raise CheckpointError(
                f"{path} has format {quoted(document['format'])}; this version reads {EARLIER} and {FORMAT}."
            )
        for full, provider in document.get("providers", {}).items():
            kind, _, name = full.partition(":")
            if name not in registry.names(Kind(kind)) and registry.why_missing(name) is None:
                why = (
                    "whose version here has none such: install the one that it was trained with"
                    if registry.has_plugin(name)
                    else f"which is not installed here: {HOW_TO_LOAD}"
                )
                raise CheckpointError(
                    f"{path} needs the component {full[:80]!r} of the plugin {quoted(provider)}, {why}."
                )
        try:
            held = from_json(document[key], registry)
        except RecipeError as error:
            raise CheckpointError(f"{path} cannot be built here: {error}") from error
        if isinstance(held, Recipe) != (key == "recipe") or isinstance(held, LossConfig | TaskConfig):
            raise CheckpointError(f"{path} holds a {type(held).__name__}, which is no {key} with weights.")
        if isinstance(held, Recipe) and document["format"] == FORMAT:
            check_streams(held, _require(document, "streams", path), str(path))
        return held, document


def _require(document: Any, key: str, path: Path) -> Any:
    if not isinstance(document, dict) or key not in document:
        raise CheckpointError(f"{path} is not a checkpoint of this library: it has no {key!r}.")
    return document[key]
