"""The options of the demo."""

from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import InputError
from perceptio.experiments.process import usable_cores

PERCEPTIO = "perceptio"
CONTROLS = ("readout_without_block", "lookup_from_vision")
"""The controls of every demo; `perceptio.demo.plan.RECIPES` names their recipes."""
DIRECT = "direct"
"""An additional control: it answers directly, and needs more than the demo's steps to learn that."""
STREAMS = "streams"
"""An arm with every kind of stream, `perceptio_streams`. It is shown separately: its losses and data differ."""
HELD_OUT_SCENES = 250
"""Number of scenes in the validation set, and in the test set."""


def _at_least_one(instance: Any, attribute: "attrs.Attribute[Any]", value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"{attribute.name} is {value}: the demo needs at least 1.")


@attrs.frozen(kw_only=True)
class DemoSettings:
    """One demo.

    Attributes:
        out: Folder for everything that the demo writes.
        seed: Seed for scenes, initial weights and the order of training.
        scenes: Number of training scenes; validation and test have as many each, at most `HELD_OUT_SCENES`.
        steps: Optimizer steps of every training, including depth tokenizers; None: as in the recipes.
        cores: Number of jobs that run in parallel, each on one core.
        direct: Whether to train the control that answers directly, too.
        streams: Whether to train a model with every kind of stream, too.
    """

    out: Path = attrs.field(default=Path("runs/demo"), converter=Path)
    seed: int = attrs.field(default=0)
    scenes: int = attrs.field(default=8000, validator=_at_least_one)
    steps: int | None = attrs.field(default=None, validator=_at_least_one)
    cores: int = attrs.field(factory=usable_cores, validator=_at_least_one)
    direct: bool = False
    streams: bool = False

    @seed.validator
    def _not_negative(self, attribute: "attrs.Attribute[int]", value: int) -> None:
        if value < 0:
            raise InputError(f"seed is {value}: it must not be below 0.")

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms to train, Perceptio first."""
        return (PERCEPTIO, *CONTROLS, *[DIRECT] * self.direct, *[STREAMS] * self.streams)

    @property
    def held_out(self) -> int:
        """Number of validation scenes, and of test scenes."""
        return min(self.scenes, HELD_OUT_SCENES)
