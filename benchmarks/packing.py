"""A training step on packed conversations against the same step on padded ones: same samples, same loss.

The decoder of the demo is trained alone (embedding, forward, loss on supervised rows, backward, clipping, AdamW):
vision features and masks cost the same either way, so their rows hold id 0. Two controls: `filled`, every
conversation filled up to the longest and run as the packed ones are, which is padding at its cheapest; and
`masked_batch`, one row per conversation under a mask, which is how padded batches are commonly run.

Shapes: A position axes, T positions, B conversations, L positions of the longest, R supervised rows.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import attrs
import torch
from support import Bench, Variant, relative_difference, run_benchmark
from torch import Tensor
from torch.nn import functional as F
from workload import LONG_LENGTHS, demo_conversations, demo_recipe, lengths_of

from perceptio.data.collate import Collate
from perceptio.interfaces import Batch, LanguageBackbone, SequenceLayout, text_positions
from perceptio.model.perception_model import build_model
from perceptio.vocabulary import TokenPlan

ROUNDS = 7
ALLOWED = {"cpu": 1e-4, "cuda": 5e-2}
"""Float32 on a CPU, bfloat16 autocast on a GPU."""


@attrs.frozen(kw_only=True, eq=False)
class Supervised:
    """Sequences in one row, and the tokens that their rows `rows_R` are to predict."""

    ids_T: Tensor
    positions_AT: Tensor
    looks_AT: Tensor
    lengths: tuple[int, ...]
    rows_R: Tensor
    targets_R: Tensor

    @classmethod
    def of_batch(cls, batch: Batch, plan: TokenPlan) -> "Supervised":
        """A packed batch, every prediction supervised by plain cross-entropy."""
        block, written = plan.readout_block, batch.streams["depth"]
        codes_NL = written.codes_NL + block.codebooks[0].start
        marker_N1 = torch.ones_like(codes_NL[:, :1])
        block_targets = torch.cat([block.opening * marker_N1, codes_NL, block.closing * marker_N1], 1)
        return cls(
            ids_T=batch.ids_T,
            positions_AT=batch.positions_AT,
            looks_AT=batch.query_positions_AT,
            lengths=batch.lengths,
            rows_R=torch.cat([batch.text_rows_R, written.rows_NX.flatten()]),
            targets_R=torch.cat([batch.text_targets_R, block_targets.flatten()]),
        )

    @classmethod
    def random(cls, lengths: tuple[int, ...], vocab_size: int) -> "Supervised":
        """Random text, of which every row but the last predicts the next token."""
        ids_T = torch.randint(vocab_size, (sum(lengths),))
        positions_AT = torch.cat([text_positions(0, length, 3) for length in lengths], 1)
        rows_R = torch.arange(len(ids_T) - 1)
        return cls(
            ids_T=ids_T,
            positions_AT=positions_AT,
            looks_AT=positions_AT,
            lengths=lengths,
            rows_R=rows_R,
            targets_R=ids_T[rows_R + 1],
        )

    def filled(self) -> "Supervised":
        """The same with every sequence filled up to the longest; filling is supervised nowhere."""
        longest = max(self.lengths)
        place_T = torch.cat([torch.arange(n) + i * longest for i, n in enumerate(self.lengths)])
        total = longest * len(self.lengths)

        def spread(x: Tensor) -> Tensor:
            return x.new_zeros(*x.shape[:-1], total).index_copy(-1, place_T, x)

        return attrs.evolve(
            self,
            ids_T=spread(self.ids_T),
            positions_AT=spread(self.positions_AT),
            looks_AT=spread(self.looks_AT),
            lengths=(longest,) * len(self.lengths),
            rows_R=place_T[self.rows_R],
        )

    def to(self, device: torch.device) -> "Supervised":
        """The same on a device."""
        tensors = {k: v.to(device) for k, v in attrs.asdict(self, recurse=False).items() if k != "lengths"}
        return attrs.evolve(self, **tensors)


class Step:
    """A training step of a decoder of its own on fixed sequences.

    Args:
        decoder: Copied.
        sequences: In one row.
        as_rows: Run them as one row each, under a mask; they must be of equal length.
    """

    def __init__(self, decoder: LanguageBackbone, sequences: Supervised, as_rows: bool = False) -> None:
        self.decoder, self.sequences, self.as_rows = deepcopy(decoder), sequences, as_rows
        self.optimizer = torch.optim.AdamW(self.decoder.parameters(), lr=1e-4)

    def loss(self) -> Tensor:
        """Mean cross-entropy of the supervised rows; the layout is made anew, as for every new batch."""
        data, shape = self.sequences, (1, -1)
        layout = SequenceLayout.packed(data.positions_AT, data.lengths, data.looks_AT)
        if self.as_rows:
            shape = (len(data.lengths), data.lengths[0])
            layout = SequenceLayout.cached(
                data.positions_AT.unflatten(1, shape),
                torch.zeros(shape[0], dtype=torch.long, device=data.ids_T.device),
                shape[1],
                data.looks_AT.unflatten(1, shape),
            )
        with torch.autocast("cuda", torch.bfloat16, enabled=data.ids_T.is_cuda):
            hidden = self.decoder(self.decoder.embed(data.ids_T.view(shape)), layout)
            logits_RV = self.decoder.logits(hidden.flatten(0, 1)[data.rows_R])
        return F.cross_entropy(logits_RV.float(), data.targets_R)

    def gradients(self) -> tuple[Tensor, ...]:
        """The loss and the gradient of every parameter."""
        loss = self.loss()
        return (loss, *torch.autograd.grad(loss, list(self.decoder.parameters())))

    def __call__(self) -> None:
        """One whole step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimizer.step()


def measure(bench: Bench) -> None:
    """Conversations as the demo trains on them, and four long samples."""
    recipe = demo_recipe(bench.quick)
    model = build_model(recipe)
    collate = Collate.of(recipe, model.language.text_tokenizer)
    batch = collate(demo_conversations(recipe, 2 if bench.quick else 16))
    cases = {
        "demo": Supervised.of_batch(batch, model.plan),
        "long": Supervised.random(lengths_of(LONG_LENGTHS, bench.quick), model.plan.base_vocab),
    }
    for case, packed in cases.items():
        compare_steps(bench, case, model.language, packed)


def compare_steps(bench: Bench, case: str, decoder: LanguageBackbone, packed: Supervised) -> None:
    """Check that loss and gradients agree, then time whole steps."""
    filled = packed.filled()
    bench.sizes[case] = {
        "conversations": len(packed.lengths),
        "shortest": min(packed.lengths),
        "longest": max(packed.lengths),
        "slots_packed": len(packed.ids_T),
        "slots_filled": len(filled.ids_T),
        "supervised_rows": len(packed.rows_R),
        "parameters": sum(p.numel() for p in decoder.parameters()),
    }
    decoder = decoder.to(bench.device)
    packed, filled = packed.to(bench.device), filled.to(bench.device)
    steps = {
        "packed": Step(decoder, packed),
        "filled": Step(decoder, filled),
        "masked_batch": Step(decoder, filled, as_rows=True),
    }
    truths = steps["packed"].gradients()
    for name in ("filled", "masked_batch"):
        loss, *gradients = steps[name].gradients()
        allowed = ALLOWED[bench.device.type]
        bench.check(f"{case}.{name}.loss", relative_difference(loss, truths[0]), allowed)
        worst = max(map(relative_difference, gradients, truths[1:]))
        bench.check(f"{case}.{name}.gradients", worst, allowed)
    variants = {name: Variant(partial(Step.__call__, step)) for name, step in steps.items()}
    bench.compare(case, variants, [("filled", "packed"), ("masked_batch", "packed")], ROUNDS)


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("packing", "A packed training step against a padded one.", measure, arguments)


if __name__ == "__main__":
    main()
