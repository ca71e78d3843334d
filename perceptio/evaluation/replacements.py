"""Replacements that controls use for what a model wrote: codes of blocks, or inputs at special tokens.

Shapes: B questions, L codes, n special tokens, D hidden width, N samples, V values of a question, [L] or [n, D].
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError, InputError, near_miss
from perceptio.interfaces import Sample, TokenBlock
from perceptio.model.inference.generated import Generated
from perceptio.model.perception_model import PerceptionModel

Control = Literal[
    "self", "oracle", "another", "random", "resampled", "first_repeated", "markers_only", "zero"
]
CONTROLS: tuple[Control, ...] = get_args(Control)
"""All controls; docs/metrics.md says what each replaces the model's output with."""

ENCODED_AT_ONCE = 48


def controls_named(names: str) -> tuple[Control, ...]:
    """Parse a list of controls such as `oracle,random`, or `all`; return them in the order of `CONTROLS`.

    Raises:
        InputError: A name is not a control.
    """
    asked = {name.strip() for name in names.split(",")}
    for name in sorted(asked - {"all", *CONTROLS}):
        raise InputError(f"There is no control {name!r}{near_miss(name, ('all', *CONTROLS))}")
    return tuple(name for name in CONTROLS if "all" in asked or name in asked)


class Replacements:
    """Makes the replacements for one stream of one task.

    Random draws are seeded, with a generator for each control, so they do not depend on which other controls are
    asked.

    Args:
        model: The model, in eval mode.
        stream: The stream, written once per image.
        dataset: The folder to evaluate.
        count: Number of its samples that are evaluated.
    """

    def __init__(self, model: PerceptionModel, stream: str, dataset: FolderDataset, count: int) -> None:
        self.model, self.dataset, self.count = model, dataset, count
        self.stream, self.tokens = model.stream(stream), model.plan.streams[stream]
        self._random, self._resampling = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
        self._data_codes_NL: Tensor | None = None
        self._latest: list[tuple[Sample, Tensor]] = []

    def of(
        self, names: Collection[Control], own: Mapping[int, Tensor], samples: Sequence[Sample]
    ) -> Iterator[tuple[Control, Mapping[int, Tensor]]]:
        """Yield, for each control that suits the stream, the replacements by the numbers of questions in a batch.

        Args:
            names: The requested controls.
            own: The model's own output, for the questions before which it wrote the stream.
            samples: The sample of every question; questions about one sample are adjacent.
        """
        in_codes = isinstance(self.tokens, TokenBlock)
        true = self._true_codes(own, samples) if in_codes and {"oracle", "another"} & set(names) else {}
        for name in names:
            values = self._codes(name, own, true, samples) if in_codes else self._inputs(name, own, samples)
            if values:
                yield name, values

    def _codes(
        self,
        name: Control,
        own: Mapping[int, Tensor],
        true: Mapping[int, Tensor],
        samples: Sequence[Sample],
    ) -> Mapping[int, Tensor]:
        """Return codes [L]."""
        block = self.tokens
        assert isinstance(block, TokenBlock)
        match name:
            case "self":
                return own
            case "oracle":
                return true
            case "another":
                return self._of_others(true, samples)
            case "random":
                sizes_L = torch.empty(block.length)
                for places, span in block.runs:
                    sizes_L[places] = span.size
                return {
                    row: (torch.rand(block.length, generator=self._random) * sizes_L).long() for row in own
                }
            case "resampled":
                data_NL = self._codes_of_data()
                if not len(data_NL):
                    return {}
                size, places_L = (block.length,), torch.arange(block.length)
                return {
                    row: data_NL[torch.randint(len(data_NL), size, generator=self._resampling), places_L]
                    for row in own
                }
            case "first_repeated" if block.length > len(block.codebooks):
                firsts = {span.start: places.start for places, span in reversed(block.runs)}
                return {
                    row: codes_L[[firsts[start] for start in block.starts]] for row, codes_L in own.items()
                }
            case "markers_only":
                return {row: codes_L[:0] for row, codes_L in own.items()}
        return {}

    def _inputs(
        self, name: Control, own: Mapping[int, Tensor], samples: Sequence[Sample]
    ) -> Mapping[int, Tensor]:
        """Return inputs [n, D] at special tokens."""
        assert not isinstance(self.tokens, TokenBlock)
        ids, fed_back = self.tokens.ids, self.stream.feedback is not None
        match name:
            case "self":
                return own
            case "another" if fed_back:
                return self._of_others(own, samples)
            case "random":
                return {row: _turned(inputs_nD, self._random) for row, inputs_nD in own.items()}
            case "first_repeated" if len(ids if fed_back else set(ids)) > 1:
                return {row: inputs_nD[:1].expand_as(inputs_nD) for row, inputs_nD in own.items()}
            case "zero":
                return {row: torch.zeros_like(inputs_nD) for row, inputs_nD in own.items()}
        return {}

    def _true_codes(self, rows: Collection[int], samples: Sequence[Sample]) -> dict[int, Tensor]:
        """Return the codes of the targets, for samples whose target can be encoded."""
        target, found = self.stream.spec.target, dict[int, Tensor]()
        for sample in {id(samples[row]): samples[row] for row in rows}.values():
            if sample.has_target(target):
                for codes_L in self._encoded([sample.target(target)]):
                    found[id(sample)] = codes_L
        return {row: found[id(samples[row])] for row in rows if id(samples[row]) in found}

    def _codes_of_data(self) -> Tensor:
        """Return the codes [N, L] of the targets of all samples whose target can be encoded; computed once."""
        if self._data_codes_NL is None:
            target = self.stream.spec.target
            known = [n for n in self.dataset.with_target(target).tolist() if n < self.count]
            self._data_codes_NL = torch.cat(
                [
                    self._encoded([self.dataset.target(n, target) for n in known[first:][:ENCODED_AT_ONCE]])
                    for first in range(0, len(known), ENCODED_AT_ONCE)
                ]
                or [self._encoded([])]
            )
        return self._data_codes_NL

    def _encoded(self, raw: Sequence[Any]) -> Tensor:
        """Return codes [N, L] on the CPU; none if the tokenizer does not support the data's unit."""
        assert isinstance(self.tokens, TokenBlock)
        nothing_0L = torch.zeros(0, self.tokens.length, dtype=torch.long)
        if not raw:
            return nothing_0L
        try:
            targets = self.stream.tokenizer.targets(raw)
        except DataError:
            return nothing_0L
        return self.stream.tokenizer.to_codes(targets).cpu()

    def _of_others(self, values: Mapping[int, Tensor], samples: Sequence[Sample]) -> dict[int, Tensor]:
        """Return for each question the value of the previous sample; for the very first, that of the batch's last."""
        firsts: dict[int, tuple[Sample, Tensor]] = {}
        for row, value in values.items():
            firsts.setdefault(id(samples[row]), (samples[row], value))
        earlier = [pair for pair in self._latest if id(pair[0]) not in firsts]
        known = [*earlier[-1:], *firsts.values()]
        self._latest = known[-2:]
        others = {id(sample): known[n - 1][1] for n, (sample, _) in enumerate(known)}
        return {row: others[id(samples[row])] for row in values} if len(known) > 1 else {}


def own_values(model: PerceptionModel, stream: str, written: Generated) -> Tensor | None:
    """Return a batch's values of a stream written once per image: codes [B, L] or inputs [B, n, D]; else None."""
    tokens, made = model.plan.streams[stream], written.streams[stream]
    if tokens.per == "object":
        return None
    if isinstance(tokens, TokenBlock):
        return made.codes_BOL[:, 0]
    if made.rows_BOmP is not None:
        return model.stream(stream).next_inputs(made.rows_BOmP[:, 0], model.recipe.language.spec.hidden_dim)
    ids_n = torch.tensor(tokens.ids, device=model.device)
    return model.language.embed(ids_n).expand(len(made.opened_BO), -1, -1)


def _turned(inputs_nD: Tensor, random: torch.Generator) -> Tensor:
    """Return vectors of the same lengths in uniformly random directions."""
    drawn_nD = torch.randn(inputs_nD.shape, generator=random).to(inputs_nD)
    return drawn_nD * (inputs_nD.norm(dim=-1, keepdim=True) / drawn_nD.norm(dim=-1, keepdim=True))
