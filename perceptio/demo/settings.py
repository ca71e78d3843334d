"""What can be asked of the demo."""

from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import InputError
from perceptio.experiments.process import usable_cores

PERCEPTIO = "perceptio"
CONTROLS = ("readout_without_block", "lookup_from_vision")
"""What Perceptio is compared with in every demo; `perceptio.demo.plan.RECIPES` names their recipes."""
DIRECT = "direct"
"""A control more: it answers at once, and needs longer than the demo's steps to learn that."""
STREAMS = "streams"
"""An arm with every kind of stream, `perceptio_streams`. It is shown apart: other losses and data train it."""
HELD_OUT_SCENES = 250
"""Scenes of the validation set and of the test set, each."""


def _at_least_one(instance: Any, attribute: "attrs.Attribute[Any]", value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"{attribute.name} is {value}: the demo needs at least 1.")


@attrs.frozen(kw_only=True)
class DemoSettings:
    """One demo.

    Attributes:
        out: The folder that everything is written to.
        seed: Of scenes, initial weights and the order of training alike.
        scenes: Training scenes; validation and test have as many, at most `HELD_OUT_SCENES` each.
        steps: Optimizer steps of every training, depth tokenizers included; None: as the recipes say.
        cores: Jobs that run side by side, each on one core.
        direct: Whether the control that answers at once is trained, too.
        streams: Whether a model with every kind of stream is trained, too.
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
        """The arms that are trained, Perceptio first."""
        return (PERCEPTIO, *CONTROLS, *[DIRECT] * self.direct, *[STREAMS] * self.streams)

    @property
    def held_out(self) -> int:
        """Validation scenes, and as many test scenes."""
        return min(self.scenes, HELD_OUT_SCENES)
