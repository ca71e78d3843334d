"""Parameter groups by name, as the settings `train`, `muon` and `lr_scale` of a recipe select them."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from perceptio.errors import UnknownNameError, near_miss
from perceptio.model.network import PerceptionNetwork
from perceptio.recipe import TrainConfig
from perceptio.recipe_checks import PARTS


def check_groups(model: PerceptionNetwork, config: TrainConfig) -> None:
    """Check that all group names in the settings match a group of the model; `*` matches any run of characters.

    Raises:
        UnknownNameError: Lists all names that match no group, each with a similar name.
    """
    settings = (("train", config.train), ("muon", config.muon), ("lr_scale", config.lr_scale))
    groups = _trainable(model)
    unknown = [
        f"train.{setting} names the parameter group {name!r}, which no part has{near_miss(name, groups)}"
        for setting, names in settings
        for name in names
        if not _matching(groups, name) and not _of_nothing(model, name)
    ]
    if unknown:
        raise UnknownNameError(*unknown)


def select_trained(model: PerceptionNetwork, names: Iterable[str]) -> None:
    """Let exactly the parameters of the named groups train, except integer ones (quantized weights)."""
    groups = _trainable(model)
    model.requires_grad_(False)
    for name in names:
        for group in _matching(groups, name):
            for parameter in groups[group]:
                parameter.requires_grad_(parameter.is_floating_point())
    model.train(model.training)


def by_group(model: PerceptionNetwork, values: Mapping[str, float]) -> dict[int, float]:
    """Return the value of each parameter that belongs to a named group, by the parameter's `id()`.

    If a parameter belongs to several groups, the longest name wins: `{"language": 0.1, "language.lora": 1.0}` gives
    1.0 for LoRA and 0.1 for the rest, in any order.
    """
    groups = _trainable(model)
    found: dict[int, float] = {}
    for name in sorted(values, key=lambda name: (len(name), name)):
        for group in _matching(groups, name):
            found |= {id(parameter): values[name] for parameter in groups[group]}
    return found


def _of_nothing(model: PerceptionNetwork, name: str) -> bool:
    """Return whether a name selects all parts of a kind, such as `"streams.*"`, and the model has none to train."""
    part = name.removesuffix(".*")
    return part in PARTS and (not getattr(model, part, None) or "*" in name)


def _trainable(model: PerceptionNetwork) -> dict[str, list[nn.Parameter]]:
    """Return the groups of all parts except frozen tokenizers, such as those of codes, which are the targets."""
    frozen = [f"streams.{one.name}.tokenizer" for one in model.recipe.streams if not one.spec.trains]
    return {
        name: held
        for name, held in model.parameter_groups().items()
        if not any(name == one or name.startswith(f"{one}.") for one in frozen)
    }


def _matching(groups: Mapping[str, object], name: str) -> list[str]:
    return [group for group in groups if fnmatchcase(group, name)]
