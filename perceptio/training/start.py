"""Starting from the weights of another run: stages of a training are recipes that start from the one before.

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
"""So many names are said before the rest is counted."""


class Start:
    """The model of another run, from which a run takes what both have.

    Args:
        place: A run's folder, or a checkpoint, as `Recipe.start_from` names it.

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
        """Whether the tokenizer of a stream is taken as a whole, so that it need not be trained."""
        with torch.device("meta"):
            wanted = tensors_of(build_part(stream.tokenizer))
        held = (self.tensors.get(f"streams.{stream.name}.tokenizer.{name}") for name in wanted)
        return all(
            one is not None and one.shape == own.shape for one, own in zip(held, wanted.values(), strict=True)
        )

    @torch.no_grad()
    def give(self, model: PerceptionNetwork) -> list[str]:
        """Give a model every tensor of the same name and shape, and rows of the vocabulary by the names of tokens.

        Args:
            model: The model, as it was built.

        Returns:
            What is taken, what is new, and what is of another shape, a sentence each.

        Raises:
            CheckpointError: The two have nothing in common, or what is taken would be left out of checkpoints.
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
        """Whether a tensor can be taken; of a table of rows its width and its first id must be the same."""
        if not is_table:
            return value.shape == held.shape
        first, held_first = plan.size - len(value), self.plan.size - len(held)
        same_text = first == held_first and plan.base_vocab == self.plan.base_vocab
        return value.shape[1:] == held.shape[1:] and same_text and first in (0, plan.base_vocab)

    def _give_rows(self, rows_VD: Tensor, held_VD: Tensor, plan: TokenPlan) -> None:
        """Rows of the text tokenizer's ids by their number, and of the others by their names."""
        first = plan.size - len(rows_VD)
        rows_VD[: plan.base_vocab - first] = held_VD[: plan.base_vocab - first]
        for name, span in plan.names:
            held = self._span(name, span)
            if held is not None:
                start, held_start = span.start - first, held.start - first
                rows_VD[start : start + span.size] = held_VD[held_start : held_start + span.size]

    def _span(self, name: str, span: TokenSpan) -> TokenSpan | None:
        """The ids of tokens of this name there; None where there are none, or another number of them."""
        held = dict(self.plan.names).get(name)
        return held if held is not None and held.size == span.size else None


def _saved_elsewhere(model: PerceptionNetwork) -> set[str]:
    """The tensors that checkpoints of the run leave out, because pretrained weights hold them."""
    if model.recipe.train.save_pretrained_weights:
        return set()
    return {name for held in pretrained_tensors(model).values() for name in held}


def _parts(names: Iterable[str], recipe: Recipe) -> list[str]:
    """The parts that tensors are of, each once."""
    parts = sorted(recipe.parts, key=len, reverse=True)
    found = (next((part for part in parts if name.startswith(f"{part}.")), name) for name in names)
    return list(dict.fromkeys(found))


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
