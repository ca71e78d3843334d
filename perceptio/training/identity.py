"""What identifies a run: everything that determines its result, and nothing else."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs

from perceptio.recipe import Recipe, TrainConfig
from perceptio.registry import Registry
from perceptio.serialize import identity_of
from perceptio.training.optimizer import learning_rate_at

ELSEWHERE = ("data.folders", "train.precision")
"""Counted by what they hold or become: folders by content, precision as the device has it."""
BOOKKEEPING = (
    "name",
    "data.validation",
    "train.save_every",
    "train.save_pretrained_weights",
    "train.log_every",
    "train.workers",
    "train.validation",
)
"""Settings on which nothing depends that is trained."""
SCHEDULE = ("train.steps", "train.warmup_steps", "train.schedule", "train.decay")
"""Settings that count as far as they have been used: by the learning rates of the steps that are done."""


def run_identity(
    recipe: Recipe,
    data: Sequence[str],
    *,
    processes: int,
    bf16: bool,
    trains: Collection[str],
    defaults: bool = True,
) -> dict[str, Any]:
    """What a run's result depends on, by the names of settings, as plain JSON values.

    Args:
        recipe: The recipe.
        data: A hash of what each of its data folders holds.
        processes: How many processes train.
        bf16: Whether they compute in bfloat16.
        trains: The streams whose tokenizers the run trains: only of these the training settings count.
        defaults: Whether settings at their declared default are among it.
    """
    untrained = [one.name for one in recipe.streams if one.name not in trains]
    apart = (*ELSEWHERE, *BOOKKEEPING, *SCHEDULE, *(f"streams.{name}.training" for name in untrained))
    # Items of these lists go by their names, as in the settings of a recipe.
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
    settings["streams"] = streams  # Their order gives the token ids.
    return settings | {"precision": "bf16" if bf16 else "fp32", "processes": processes}


def used_schedule(train: TrainConfig, *, defaults: bool = True) -> dict[str, Any]:
    """The settings of `SCHEDULE`; without `defaults`, those that are other than their declared default."""
    names = [name.removeprefix("train.") for name in SCHEDULE]
    settings = identity_of(train, defaults=defaults)
    return {name: settings[name] for name in names if name in settings}


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], *, at_default: Collection[str] = ()
) -> list[str]:
    """What differs between two identities, each as the end of a sentence.

    Args:
        before: The first.
        now: The second.
        at_default: The settings of `now` that are at their declared default. One that `before` does not know, as it
            was written when there was no such setting, is no difference: a default means "as before".
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
    """Why steps that are done would have had other learning rates, as the end of a sentence; None: they would not.

    Args:
        before: `used_schedule` of the run so far.
        train: The settings it is to go on with.
        done: Its steps so far.
    """
    if train.steps < done:
        return f"train.steps is {train.steps}, and {done} steps are done"
    was = attrs.evolve(train, **before)
    if all(learning_rate_at(step, was) == learning_rate_at(step, train) for step in range(done)):
        return None
    changed = [
        f"train.{name} was {_shown(value)} and is {_shown(getattr(train, name))}"
        for name, value in before.items()
        if value != getattr(train, name)
    ]
    return (
        f"{', '.join(changed)}, so that the {done} steps that are done would have had other learning rates (a run "
        'can be made longer while train.schedule is "constant", or "stable_decay" and not yet going down)'
    )


def settings_by_path(document: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a document by their paths."""
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
