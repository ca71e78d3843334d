"""A checkpoint is a folder: what it holds as JSON, its weights as safetensors. A folder gives back what it holds.

    recipe.json        a model: its recipe; or component.json, a part: its config
    model.safetensors  parameters and buffers
    text_tokenizer/    a model: the files of its text tokenizer

Components are named, and found through the registry, so that a checkpoint loads in a process that never imported
the recipe's file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from torch import nn

from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import ComponentConfig, TrainableDepthTokenizer
from perceptio.model.assemble import build_model
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.weights import WEIGHTS, read_weights, replacing, write_weights
from perceptio.recipe import Recipe
from perceptio.registry import Registry
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
) -> None:
    """Write a model, or a part with its config, in place of whatever the folder held.

    Args:
        part: A `PerceptionModel`, or a part such as a depth tokenizer.
        folder: Where; it is replaced in one rename, and untouched when anything fails.
        config: What the part was built from; a model knows its recipe.
        add: Writes further files into the folder before the rename.

    Raises:
        CheckpointError: The folder cannot be written, or a part comes without its config.
    """
    with replacing(Path(folder)) as new:
        if isinstance(part, PerceptionModel):
            _write_json(new / RECIPE, recipe=part.recipe)
            part.language.text_tokenizer.save(new / TEXT_TOKENIZER)
        elif config is not None:
            _write_json(new / COMPONENT, component=config)
        else:
            raise CheckpointError(
                f"To save a {type(part).__name__}, give the config it was built from: config=…."
            )
        write_weights(part, new / WEIGHTS)
        if add is not None:
            add(new)


def load(folder: str | Path, *, registry: Registry | None = None) -> Any:
    """What a folder holds: a `PerceptionModel`, or a part such as a depth tokenizer, in eval mode on the CPU.

    Args:
        folder: A checkpoint, or a run's folder with one in `checkpoint/`.
        registry: Where component names are looked up; None: built-ins and installed plugins.

    Raises:
        CheckpointError: There is no checkpoint, or it is truncated, foreign or of another format.
    """
    folder = Path(folder)
    if (folder / "checkpoint").is_dir():
        folder = folder / "checkpoint"
    value = _read_json(folder, registry or Registry.discover())
    if isinstance(value, Recipe):
        language = value.language.with_text_tokenizer(folder / TEXT_TOKENIZER)
        part: nn.Module = build_model(attrs.evolve(value, language=language), load_weights=False)
    else:
        part = value.build()
    read_weights(part, folder / WEIGHTS)
    if isinstance(part, TrainableDepthTokenizer):
        part.freeze()
    return part.eval()


def _write_json(path: Path, **value: Any) -> None:
    (name, held), *_ = value.items()
    document = {"format": FORMAT, "fingerprint": fingerprint(held), name: to_json(held)}
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _read_json(folder: Path, registry: Registry) -> Any:
    path = next((folder / name for name in (RECIPE, COMPONENT) if (folder / name).exists()), None)
    if path is None:
        raise CheckpointError(f"{folder} holds no checkpoint: neither {RECIPE} nor {COMPONENT} is in it.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {document['format']}; this version reads {FORMAT}.")
        return from_json(document["recipe" if path.name == RECIPE else "component"], registry)
    except CheckpointError:
        raise
    except RecipeError as error:
        raise CheckpointError(f"{path} cannot be built here: {error}") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this library ({error!r}).") from error
