"""Which tensors of a model come from pretrained weights that its recipe names, and which are its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor, nn

from perceptio.errors import CheckpointError, near_miss
from perceptio.interfaces import Codes, named_weights
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.weights import tensors_of
from perceptio.recipe import Recipe

ADDED = ("lora", "vocabulary")
"""Parameter groups that pretrained weights never contain, frozen or not."""


def pretrained_weights(recipe: Recipe) -> dict[str, str]:
    """Return the weights that the parts of a recipe, and the parts that these hold, name, by part."""
    return named_weights(recipe.parts)


def with_weights(recipe: Recipe, weights: Mapping[str, str]) -> Recipe:
    """Return the recipe with other paths of pretrained weights.

    Raises:
        CheckpointError: A named part has no pretrained weights.
    """
    for part, place in weights.items():
        if part not in pretrained_weights(recipe):
            raise CheckpointError(
                f"weights names the part {part!r}, which has no pretrained weights"
                f"{near_miss(part, pretrained_weights(recipe))}"
            )
        whole = next(name for name in recipe.parts if part == name or part.startswith(f"{name}."))
        path = part[len(whole) + 1 :].split(".") if part != whole else []
        recipe = _with_part(recipe, whole, _reading(recipe.parts[whole], path, str(place)))
    return recipe


def left_out_weights(recipe: Recipe) -> dict[str, str]:
    """Return the pretrained weights that checkpoints of adapters leave out.

    Tokenizers of codes are never left out, because codes are meaningless without their tokenizer.
    """
    held = {
        f"streams.{stream.name}.tokenizer"
        for stream in recipe.streams
        if isinstance(stream.spec.written, Codes)
    }
    return {
        part: weights
        for part, weights in pretrained_weights(recipe).items()
        if not any(part == one or part.startswith(f"{one}.") for one in held)
    }


def _reading(config: Any, path: Sequence[str], weights: str) -> Any:
    """Return the config with another setting `weights`, in it or in a config that it holds at the end of a path."""
    if not path:
        return attrs.evolve(config, weights=weights)
    return attrs.evolve(config, **{path[0]: _reading(getattr(config, path[0]), path[1:], weights)})


def _with_part(recipe: Recipe, part: str, config: Any) -> Recipe:
    """Return the recipe with another config of a part."""
    kind, _, rest = part.partition(".")
    name, _, inner = rest.partition(".")
    if kind == "streams":
        return recipe.with_stream(name, **{inner: config})
    changes: dict[str, Any] = {kind: {**recipe.heads, name: config} if name else config}
    return attrs.evolve(recipe, **changes)


def pretrained_tensors(model: PerceptionNetwork) -> dict[str, dict[str, Tensor]]:
    """Return the tensors that come from pretrained weights and do not train, by part and by name in the model.

    Buffers of a part that trains, and all tensors of a tokenizer of codes, count as the model's own.

    Raises:
        CheckpointError: There are no such tensors.
    """
    groups = model.parameter_groups()
    own = {id(p) for name, ps in groups.items() if name.split(".")[-1] in ADDED for p in ps}
    base = {}
    for part in left_out_weights(model.recipe):
        module = model.get_submodule(part)
        trains = any(parameter.requires_grad for parameter in module.parameters())
        base[part] = {
            f"{part}.{name}": value
            for name, value in tensors_of(module).items()
            if id(value) not in own
            and not (value.requires_grad if isinstance(value, nn.Parameter) else trains)
        }
    base = {part: tensors for part, tensors in base.items() if tensors}
    if not base:
        raise CheckpointError(
            f"{model.recipe.name} holds nothing frozen from pretrained weights that could be left out: "
            "save it without adapters_only."
        )
    return base
