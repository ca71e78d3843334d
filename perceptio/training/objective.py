"""The training objective: the one place that divides loss terms by their counts, weights them and adds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import InterfaceError, RecipeError, quoted
from perceptio.interfaces import Batch, Loss, LossValue, PerceptionOutput
from perceptio.recipe import Recipe
from perceptio.registry import Registry

Sums = dict[str, tuple[Tensor, int]]
"""Terms and metrics by name: the sum over items, and the number of items."""


@attrs.frozen(kw_only=True, eq=False)
class Terms:
    """The objective of one batch: the total to differentiate, and each term and metric, detached, as (sum, count)."""

    total: Tensor
    sums: Mapping[str, tuple[Tensor, int]]


class Objective(nn.Module):
    """The losses of a recipe with their weights.

    `Registry.term_of` names the terms: `segmentation_dice`, or `acme/segmentation_dice` if a plugin provides the
    loss.

    Args:
        recipe: The recipe whose losses to build.

    Raises:
        RecipeError: Two losses have the same name.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        registry = Registry.discover()
        names = [registry.term_of(weighted.loss) for weighted in recipe.losses]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise RecipeError(
                f"Two losses are called {min(twice)}; leave one out, give it another stream, or register it by a "
                "plugin."
            )
        specs = recipe.specs
        self.terms = nn.ModuleDict(
            {name: weighted.loss.build(specs) for name, weighted in zip(names, recipe.losses, strict=True)}
        )
        self.weights = {name: weighted.weight for name, weighted in zip(names, recipe.losses, strict=True)}

    @property
    def required_outputs(self) -> frozenset[str]:
        """The fields of the model's output that the losses read."""
        return frozenset(field for _, loss in self._losses() for field in loss.required_outputs)

    def counts(self, batches: Sequence[Batch]) -> dict[str, int]:
        """Return the count of every term over several batches, without a forward pass.

        Raises:
            InterfaceError: A loss returns a count that is not a non-negative integer.
        """
        return {name: sum(_count(name, loss, batch) for batch in batches) for name, loss in self._losses()}

    def forward(self, output: PerceptionOutput, batch: Batch, counts: Mapping[str, float]) -> Terms:
        """Return the weighted sum of all terms that have items, each divided by its count over ranks and micro-steps.

        Args:
            output: The model's output.
            batch: The batch with the targets.
            counts: The count by which each term is divided.

        Raises:
            InterfaceError: A loss returns a value of the wrong type or shape.
        """
        total = torch.zeros((), device=batch.ids_T.device)
        sums: Sums = {}
        for name, loss in self._losses():
            if loss.count(batch) == 0:
                continue
            value = _checked(name, loss(output, batch))
            total = total + self.weights[name] * value.total / counts[name]
            sums[name] = (value.total.detach(), value.count)
            for metric, metric_sum in value.metrics.items():
                sums[f"{name}.{metric}"] = (metric_sum, value.count)
        return Terms(total=total, sums=sums)

    def _losses(self) -> list[tuple[str, Loss]]:
        return [(name, loss) for name, loss in self.terms.items() if isinstance(loss, Loss)]


def _count(name: str, loss: Loss, batch: Batch) -> int:
    count = loss.count(batch)
    if type(count) is int and count >= 0:
        return count
    raise InterfaceError(
        f"The loss {name} counts {quoted(count)} items; a count is a whole number, 0 or more."
    )


def _checked(name: str, value: Any) -> LossValue:
    """Check the types and shapes of what a loss returned, which needs no synchronization with the device."""
    if not isinstance(value, LossValue):
        raise InterfaceError(
            f"The loss {name} returned a {type(value).__name__}; it must return a LossValue."
        )
    if not isinstance(value.metrics, Mapping):
        raise InterfaceError(f"The loss {name} returned the metrics {quoted(value.metrics)}; give a mapping.")
    for what, scalar in {"total": value.total, **value.metrics}.items():
        if not isinstance(scalar, Tensor) or scalar.ndim:
            found = f"of shape {list(scalar.shape)}" if isinstance(scalar, Tensor) else quoted(scalar)
            raise InterfaceError(f"The loss {name} returned the {what} {found}; it must be a scalar tensor.")
    return value


def add_sums(sums: Sums, more: Mapping[str, tuple[Tensor, int]]) -> None:
    """Add sums and counts to `sums`, in place."""
    for name, (total, count) in more.items():
        before = sums.get(name)
        sums[name] = (total, count) if before is None else (before[0] + total, before[1] + count)
