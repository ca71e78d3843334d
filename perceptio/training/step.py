"""One optimizer step: the gradients of a few batches, and the update of the parameters."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from perceptio.interfaces import Batch
from perceptio.model.network import PerceptionNetwork
from perceptio.model.point_values import with_own_levels
from perceptio.ops.precision import computes_bfloat16
from perceptio.ops.ranks import Ranks
from perceptio.recipe import Recipe, TrainConfig
from perceptio.training.objective import Objective, Sums, Terms, add_sums
from perceptio.training.optimizer import Optimizers


class Step:
    """Computes an optimizer step in one of the processes of a run.

    Args:
        recipe: The recipe whose settings apply.
        model: The model to train, on its device.
        wrapped: The model as prepared by accelerate, which averages gradients over processes.
        objective: The objective to minimize.
        optimizers: The optimizers of the parameters.
        ranks: The processes of the run.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: PerceptionNetwork,
        wrapped: nn.Module,
        objective: Objective,
        optimizers: Optimizers,
        ranks: Ranks,
    ) -> None:
        self.recipe, self.model, self.wrapped = recipe, model, wrapped
        self.objective, self.optimizers, self.ranks = objective, optimizers, ranks
        self.device = ranks.accelerator.device
        self.bf16 = trains_in_bfloat16(recipe.train, self.device)

    def __call__(
        self, micro: Sequence[Batch], counts: Mapping[str, float], draws: Sequence[int], sums: Sums
    ) -> None:
        """Compute gradients and update the parameters.

        Args:
            micro: The batches, on the CPU.
            counts: The count by which each term is divided.
            draws: The number of each batch within the whole run. It seeds everything random in the step, so results
                do not depend on how batches are distributed over processes.
            sums: Collects every term and metric of the step, in place.
        """
        train, losses = self.recipe.train, []
        for number, (batch, draw) in enumerate(zip(micro, draws, strict=True)):
            torch.manual_seed(train.seed * 1_000_003 + draw)
            last = number == len(micro) - 1
            with nullcontext() if last else self.ranks.accelerator.no_sync(self.wrapped):
                losses.append(self._backward(batch, counts, sums))
        norm = self.ranks.accelerator.clip_grad_norm_(self.model.parameters(), train.max_grad_norm)
        whole_step = {"loss": (torch.stack(losses).sum(), 1), "gradient_norm": (norm.detach(), 1)}
        if self.recipe.data.too_long == "skip":
            left_out = torch.tensor(float(sum(batch.too_long for batch in micro)), device=self.device)
            whole_step["too_long"] = (left_out, len(micro) * train.micro_batch_size)
        add_sums(sums, whole_step)
        self.optimizers.step()

    def _backward(self, batch: Batch, counts: Mapping[str, float], sums: Sums) -> Tensor:
        """Add the gradients of one batch; return its share of the objective."""
        batch = self.model.with_targets(batch.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            batch = with_own_levels(self.model, batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.wrapped(batch, self.objective.required_outputs)
        terms = self.objective(output, batch, counts)  # Outside autocast, in float32.
        self.ranks.accelerator.backward(self._with_every_parameter(terms))
        add_sums(sums, terms.sums)
        return terms.total.detach()

    def _with_every_parameter(self, terms: Terms) -> Tensor:
        """Return the total; with several processes, keep every trained parameter in the graph, even if unused."""
        if self.ranks.count == 1:
            return terms.total
        return terms.total + 0.0 * sum(p.sum() for p in self.model.parameters() if p.requires_grad)


def trains_in_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Return whether the model computes in bfloat16 on a device."""
    return config.precision == "bf16" or (config.precision == "auto" and computes_bfloat16(device))
