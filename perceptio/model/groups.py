"""Parameter groups by name: which parameters `train`, `muon` and `lr_scale` of a recipe mean."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from perceptio.errors import UnknownNameError, near_miss
from perceptio.model.network import PerceptionNetwork
from perceptio.recipe import TrainConfig
from perceptio.recipe_checks import PARTS


def check_groups(model: PerceptionNetwork, config: TrainConfig) -> None:
    """Refuse names of groups that a model has not; `*` matches any run of characters.

    Raises:
        UnknownNameError: All names that match no group, each with its near miss.
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
    """Let exactly the parameters of the named groups train; whole numbers (quantized weights) have no gradient."""
    groups = _trainable(model)
    model.requires_grad_(False)
    for name in names:
        for group in _matching(groups, name):
            for parameter in groups[group]:
                parameter.requires_grad_(parameter.is_floating_point())
    model.train(model.training)


def by_group(model: PerceptionNetwork, values: Mapping[str, float]) -> dict[int, float]:
    """The value of every parameter by its id, where a group it is in has one; of several the longest name's holds.

    So `{"language": 0.1, "language.lora": 1.0}` means 1.0 for LoRA and 0.1 for the rest, in whatever order.
    """
    groups = _trainable(model)
    found: dict[int, float] = {}
    for name in sorted(values, key=lambda name: (len(name), name)):
        for group in _matching(groups, name):
            found |= {id(parameter): values[name] for parameter in groups[group]}
    return found


def _of_nothing(model: PerceptionNetwork, name: str) -> bool:
    """Whether a name stands for all of a kind of part, such as `"streams.*"`, and the model has none to train."""
    part = name.removesuffix(".*")
    return part in PARTS and (not getattr(model, part, None) or "*" in name)


def _trainable(model: PerceptionNetwork) -> dict[str, list[nn.Parameter]]:
    """The groups of all parts but frozen tokenizers, as those of codes, which are targets and must not move."""
    frozen = [f"streams.{one.name}.tokenizer" for one in model.recipe.streams if not one.spec.trains]
    return {
        name: held
        for name, held in model.parameter_groups().items()
        if not any(name == one or name.startswith(f"{one}.") for one in frozen)
    }


def _matching(groups: Mapping[str, object], name: str) -> list[str]:
    return [group for group in groups if fnmatchcase(group, name)]
