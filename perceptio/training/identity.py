"""What identifies a run: everything that determines its result, and nothing else."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs

from perceptio.recipe import Recipe, TrainConfig
from perceptio.registry import Registry
from perceptio.serialize import identity_of
from perceptio.training.optimizer import learning_rate_at

ELSEWHERE = ("data.folders", "train.precision")
"""Settings that count indirectly: folders by content, precision as resolved for the device."""
BOOKKEEPING = (
    "name",
    "data.validation",
    "train.save_every",
    "train.save_pretrained_weights",
    "train.log_every",
    "train.workers",
    "train.validation",
)
"""Settings that do not affect what is trained."""
SCHEDULE = ("train.steps", "train.warmup_steps", "train.schedule", "train.decay")
"""Settings that count only as far as they were used: by the learning rates of the steps done so far."""


def run_identity(
    recipe: Recipe,
    data: Sequence[str],
    *,
    processes: int,
    bf16: bool,
    trains: Collection[str],
    defaults: bool = True,
) -> dict[str, Any]:
    """Return what a run's result depends on, by the names of settings, as plain JSON values.

    Args:
        recipe: The recipe.
        data: A hash of the content of each of the recipe's data folders.
        processes: Number of training processes.
        bf16: Whether they compute in bfloat16.
        trains: Streams whose tokenizers the run trains; training settings of other streams do not count.
        defaults: Whether to include settings at their declared default.
    """
    untrained = [one.name for one in recipe.streams if one.name not in trains]
    apart = (*ELSEWHERE, *BOOKKEEPING, *SCHEDULE, *(f"streams.{name}.training" for name in untrained))
    # Items of these lists are addressed by name, as in the settings of a recipe.
    terms = [Registry.discover().term_of(weighted.loss) for weighted in recipe.losses]
    streams = [stream.name for stream in recipe.streams]
    document = identity_of(recipe, defaults=defaults)
    document |= {
        "losses": dict(zip(terms, document.get("losses", ()), strict=True)),
        "streams": dict(zip(streams, document.get("streams", ()), strict=True)),
    }
    settings = {
        name: value
        for name, value in settings_by_path(document)
        if not any(name == one or name.startswith(f"{one}.") for one in apart)
    }
    for number, (folder, content) in enumerate(zip(recipe.data.folders, data, strict=True)):
        settings[f"data.folders.{number}.weight"] = folder.weight
        settings[f"data.folders.{number}.content"] = content
    settings["streams"] = streams  # Their order determines the token ids.
    return settings | {"precision": "bf16" if bf16 else "fp32", "processes": processes}


def used_schedule(train: TrainConfig, *, defaults: bool = True) -> dict[str, Any]:
    """Return the settings of `SCHEDULE`; without `defaults`, only those that differ from their declared default."""
    names = [name.removeprefix("train.") for name in SCHEDULE]
    settings = identity_of(train, defaults=defaults)
    return {name: settings[name] for name in names if name in settings}


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], *, at_default: Collection[str] = ()
) -> list[str]:
    """Return what differs between two identities, each phrased as the end of a sentence.

    Args:
        before: The first identity.
        now: The second identity.
        at_default: Settings of `now` at their declared default. If `before` lacks such a setting, because it was
            written before the setting existed, this is no difference: a default keeps the earlier behavior.
    """
    said = []
    for name in (*before, *(name for name in now if name not in before)):
        old, new = before.get(name), now.get(name)
        if old == new or (name not in before and name in at_default):
            continue
        if name.endswith(".content") and name in before and name in now:
            said.append(f"{name.removesuffix('.content')} holds other data")
        else:
            said.append(f"{name} was {_shown(old)} and is {_shown(new)}")
    return said


def schedule_difference(before: Mapping[str, Any], train: TrainConfig, done: int) -> str | None:
    """Return why the steps done so far would have had other learning rates, as the end of a sentence, or None.

    Args:
        before: `used_schedule` of the run so far.
        train: The settings to continue with.
        done: Number of steps done so far.
    """
    if train.steps < done:
        return f"train.steps is {train.steps}, below the number of steps done so far ({done})"
    was = attrs.evolve(train, **before)
    if all(learning_rate_at(step, was) == learning_rate_at(step, train) for step in range(done)):
        return None
    changed = [
        f"train.{name} was {_shown(value)} and is {_shown(getattr(train, name))}"
        for name, value in before.items()
        if value != getattr(train, name)
    ]
    return (
        f"{', '.join(changed)}, so that the steps done so far ({done}) would have had other learning rates (a run "
        'can be made longer while train.schedule is "constant", or "stable_decay" and not yet going down)'
    )


def settings_by_path(document: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a document with their dotted paths."""
    items: Any = ()
    if isinstance(document, Mapping):
        items = document.items()
    elif isinstance(document, list | tuple):
        items = enumerate(document)
    if not items:
        yield name, document if not isinstance(document, tuple) else list(document)
    for key, value in items:
        yield from settings_by_path(value, f"{name}.{key}".lstrip("."))


def _shown(value: Any) -> str:
    return "not there" if value is None else repr(value)
