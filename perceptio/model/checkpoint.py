"""A checkpoint is a folder: what it holds as JSON, its weights as safetensors. A folder gives back what it holds.

    recipe.json        a model: its recipe; or component.json, a part: its config
    model.safetensors  parameters and buffers; where they are large, shards and model.safetensors.index.json
    text_tokenizer/    a model: the files of its text tokenizer

Components are named, and found through the registry, so that a checkpoint loads in a process that never imported
the recipe's file. A checkpoint of adapters alone leaves out what parts read from the `weights` they name; recipe.json
then says what these weights must be.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import nn

from perceptio.errors import CheckpointError, RecipeError
from perceptio.hookspecs import PROJECT
from perceptio.interfaces import ComponentConfig, Kind, TrainableDepthTokenizer
from perceptio.model.assemble import build_model
from perceptio.model.base import base_tensors, pretrained, with_weights
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.identity import hash_of_tensors
from perceptio.ops.weights import load_tensors, replacing, tensors_of, write_weights
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.serialize import COMPONENT as COMPONENT_KEY
from perceptio.serialize import fingerprint, from_json, to_json

FORMAT = 1
RECIPE = "recipe.json"
COMPONENT = "component.json"
TEXT_TOKENIZER = "text_tokenizer"


def save(
    part: nn.Module,
    folder: str | Path,
    *,
    config: ComponentConfig | None = None,
    add: Callable[[Path], None] | None = None,
    max_shard_size: int | str = "5GB",
    adapters_only: bool = False,
) -> None:
    """Write a model, or a part with its config, in place of whatever the folder held.

    Args:
        part: A `PerceptionModel`, or a part such as a depth tokenizer.
        folder: Where; it is replaced in one rename, and untouched when anything fails.
        config: What the part was built from; a model knows its recipe.
        add: Writes further files into the folder before the rename.
        max_shard_size: Above which weights are written into several files.
        adapters_only: Leave out what parts read from the `weights` they name and do not train; see `base_tensors`.

    Raises:
        CheckpointError: The folder cannot be written, a part comes without its config, or there is nothing to leave
            out.
    """
    with replacing(Path(folder)) as new:
        tensors = tensors_of(part)
        if isinstance(part, PerceptionModel):
            facts: dict[str, Any] = {}
            if adapters_only:
                base = base_tensors(part)
                left_out = {name for held in base.values() for name in held}
                tensors = {name: value for name, value in tensors.items() if name not in left_out}
                facts["base"] = {name: hash_of_tensors(held) for name, held in base.items()}
            _write_json(new / RECIPE, "recipe", part.recipe, facts)
            part.language.text_tokenizer.save(new / TEXT_TOKENIZER)
        elif config is not None:
            _write_json(new / COMPONENT, "component", config)
        else:
            raise CheckpointError(
                f"To save a {type(part).__name__}, give the config it was built from: config=…."
            )
        write_weights(tensors, new, max_shard_size=max_shard_size)
        if add is not None:
            add(new)


def load(
    folder: str | Path, *, registry: Registry | None = None, weights: Mapping[str, str] | None = None
) -> Any:
    """What a folder holds: a `PerceptionModel`, or a part such as a depth tokenizer, in eval mode on the CPU.

    Args:
        folder: A checkpoint, or a run's folder with one in `checkpoint/`.
        registry: Where component names are looked up; None: built-ins and installed plugins.
        weights: Where pretrained weights lie on this machine, by the part of the recipe that names them, such as
            `{"language": "/models/internvl"}`; a checkpoint of adapters reads them.

    Raises:
        CheckpointError: There is no checkpoint; or it is truncated, foreign, of another format, or needs a plugin
            that is not installed; or the pretrained weights are not those its adapters were trained on.
    """
    folder = Path(folder)
    if (folder / "checkpoint").is_dir():
        folder = folder / "checkpoint"
    value, facts = _read_json(folder, registry or Registry.discover())
    if isinstance(value, Recipe):
        part: nn.Module = _read_model(folder, with_weights(value, weights or {}), facts.get("base"))
    else:
        part = value.build()
        load_tensors(part, folder)
    if isinstance(part, TrainableDepthTokenizer):
        part.freeze()
    return part.eval()


def _read_model(folder: Path, recipe: Recipe, base: Mapping[str, str] | None) -> PerceptionModel:
    language = recipe.language.with_text_tokenizer(folder / TEXT_TOKENIZER)
    recipe = attrs.evolve(recipe, language=language)
    if base is None:
        model = build_model(recipe, load_weights=False)
        load_tensors(model, folder)
        return model
    model = build_model(recipe, load_weights=base)
    held = base_tensors(model)
    load_tensors(model, folder, elsewhere={name for tensors in held.values() for name in tensors})
    for part, tensors in held.items():
        if hash_of_tensors(tensors) != base.get(part):
            raise CheckpointError(
                f"{folder} holds adapters for other {part} weights than those at {pretrained(recipe)[part]}: name "
                f"the ones it was trained on with weights={{{part!r}: …}}."
            )
    return model


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
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _providers(value: Any, registry: Registry) -> dict[str, str]:
    """Who offers each component that is not built in."""
    providers = {}
    for full in _components(value):
        kind, _, name = full.partition(":")
        provider = registry.provider(Kind(kind), name)
        if provider != PROJECT:
            providers[full] = provider
    return providers


def _components(value: Any) -> Iterator[str]:
    """Every component that a document names."""
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
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {document['format']}; this version reads {FORMAT}.")
        for full, provider in document.get("providers", {}).items():
            kind, _, name = full.partition(":")
            plugin = name.partition("/")[0]
            if name not in registry.names(Kind(kind)) and plugin not in registry.broken:
                raise CheckpointError(
                    f"{path} needs the component {full} of the plugin {provider}, which is not installed here: "
                    "install it, or name its file with perceptio --plugin FILE."
                )
        return from_json(document["recipe" if path.name == RECIPE else "component"], registry), document
    except CheckpointError:
        raise
    except RecipeError as error:
        raise CheckpointError(f"{path} cannot be built here: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        wrong = f"it has no {error}" if isinstance(error, KeyError) else f"{error}"
        raise CheckpointError(f"{path} is not a checkpoint of this library: {wrong}.") from error
