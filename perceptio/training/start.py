"""Starting from the weights of another run: each stage of a training is a recipe that starts from the previous one.

Shapes: V ids, D hidden width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.interfaces import TokenSpan
from perceptio.model.checkpoints.pretrained import pretrained_tensors
from perceptio.model.network import PerceptionNetwork
from perceptio.model.parts import build_part
from perceptio.model.perception_model import PerceptionModel, load
from perceptio.ops.foreign import naming
from perceptio.ops.weights import tensors_of
from perceptio.recipe import Recipe, Stream
from perceptio.vocabulary import TokenPlan

SHOWN = 5
"""Number of names that are listed before the rest is counted."""


class Start:
    """The model of another run, which provides the tensors that both models have.

    Args:
        place: A run's folder or a checkpoint, from `Recipe.start_from`.

    Raises:
        CheckpointError: There is no checkpoint, or it holds no model.
    """

    def __init__(self, place: str) -> None:
        with naming("start_from"):
            held = load(place)
            if not isinstance(held, PerceptionModel):
                raise CheckpointError(
                    f"{place} holds a {type(held).__name__} and no model: name a run, or the checkpoint of one."
                )
        self.place, self.recipe, self.plan = place, held.recipe, held.plan
        self.tensors = {name: value.detach() for name, value in tensors_of(held).items()}

    def has_tokenizer(self, stream: Stream) -> bool:
        """Return whether a stream's tokenizer is taken over completely, so that it need not be trained."""
        with torch.device("meta"):
            wanted = tensors_of(build_part(stream.tokenizer))
        held = (self.tensors.get(f"streams.{stream.name}.tokenizer.{name}") for name in wanted)
        return all(
            one is not None and one.shape == own.shape for one, own in zip(held, wanted.values(), strict=True)
        )

    @torch.no_grad()
    def give(self, model: PerceptionNetwork) -> list[str]:
        """Copy every tensor of the same name and shape into a model, and vocabulary rows by the names of tokens.

        Args:
            model: The newly built model.

        Returns:
            Sentences that say what is taken, what is new, and what has another shape.

        Raises:
            CheckpointError: The two models have no tensor in common, or checkpoints would omit a tensor that is
                taken.
        """
        tables = {id(one) for one in model.parameter_groups().get("language.vocabulary", ())}
        elsewhere = _saved_elsewhere(model)
        taken, new, reshaped, changed = 0, [], [], []
        own = tensors_of(model)
        for name, value in own.items():
            held = self.tensors.get(name)
            if held is None:
                new.append(name)
            elif not self._fit(value, held, model.plan, id(value) in tables):
                reshaped.append(name)
            elif id(value) in tables:
                self._give_rows(value, held, model.plan)
                taken += 1
            else:
                if name in elsewhere and not torch.equal(value, held.to(value)):
                    changed.append(name)
                value.copy_(held)
                taken += 1
        if not taken:
            raise CheckpointError(
                f"start_from: {self.place} holds {self.recipe.name}, which has no tensor of the name and shape of "
                f"one of {model.recipe.name}: name a run of the same parts."
            )
        if changed:
            raise CheckpointError(
                f"start_from: {self.place} trained {_some(_parts(changed, model.recipe))}, which train.train freezes "
                "and train.save_pretrained_weights=false leaves out of checkpoints: set it to true."
            )
        tokens = [name for name, span in model.plan.names if self._span(name, span) is None]
        said = {
            "New tokens, which start as built": tokens,
            "New parts, which start as built": _parts(new, model.recipe),
            "Of another shape, so that they start as built": reshaped,
        }
        return [
            f"Starting from {self.place} ({self.recipe.name}): {taken} of {len(own)} tensors are taken.",
            *(f"{what}: {_some(names)}." for what, names in said.items() if names),
        ]

    def _fit(self, value: Tensor, held: Tensor, plan: TokenPlan, is_table: bool) -> bool:
        """Return whether a tensor can be taken; tables need the same width and first id, not length."""
        if not is_table:
            return value.shape == held.shape
        first, held_first = plan.size - len(value), self.plan.size - len(held)
        same_text = first == held_first and plan.base_vocab == self.plan.base_vocab
        return value.shape[1:] == held.shape[1:] and same_text and first in (0, plan.base_vocab)

    def _give_rows(self, rows_VD: Tensor, held_VD: Tensor, plan: TokenPlan) -> None:
        """Copy the rows of the text tokenizer's ids by their number, and those of other tokens by their names."""
        first = plan.size - len(rows_VD)
        rows_VD[: plan.base_vocab - first] = held_VD[: plan.base_vocab - first]
        for name, span in plan.names:
            held = self._span(name, span)
            if held is not None:
                start, held_start = span.start - first, held.start - first
                rows_VD[start : start + span.size] = held_VD[held_start : held_start + span.size]

    def _span(self, name: str, span: TokenSpan) -> TokenSpan | None:
        """Return the ids of this name in the other model; None if it has none, or a different number."""
        held = dict(self.plan.names).get(name)
        return held if held is not None and held.size == span.size else None


def _saved_elsewhere(model: PerceptionNetwork) -> set[str]:
    """Return the tensors that the run's checkpoints omit because pretrained weights hold them."""
    if model.recipe.train.save_pretrained_weights:
        return set()
    return {name for held in pretrained_tensors(model).values() for name in held}


def _parts(names: Iterable[str], recipe: Recipe) -> list[str]:
    """Return the parts that tensors belong to, each once."""
    parts = sorted(recipe.parts, key=len, reverse=True)
    found = (next((part for part in parts if name.startswith(f"{part}.")), name) for name in names)
    return list(dict.fromkeys(found))


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
