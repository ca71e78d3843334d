"""The losses of a stream of codes: marker, token and count.

The paper names these losses, for depth; the formulas are ours. Cross-entropy over the L + 2 predictions of a block is
exactly 2 * marker + L * token + L * count, where each term is a mean. The three losses thus re-weight the
cross-entropy, so that a hundred codes do not outweigh two markers. The expected count is a separate fourth term.

Shapes: N blocks, L codes of a block, V vocabulary; l codes in a run of one codebook of K codes. Logits of blocks are
[N, L + 2, V].
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    Kind,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    StreamLoss,
    StreamLossConfig,
    TokenBlock,
    TokenSpan,
)


def log_code_mass(logits_NlV: Tensor, codes: TokenSpan) -> Tensor:
    """Return the log probability [N, l] that each prediction is any code of a codebook.

    It is not clamped: a clamp would remove the gradient where it is needed most.
    """
    return logits_NlV[..., codes.slice].logsumexp(-1) - logits_NlV.logsumexp(-1)


class CodeLoss(StreamLoss):
    """Base class of the four losses; they read the logits of whole blocks."""

    def __init__(self, stream: str, block: TokenBlock) -> None:
        super().__init__(stream, "logits_NXV")
        self.block = block

    def _logits(self, output: PerceptionOutput) -> Tensor:
        """Return the logits [N, L + 2, V], in float32 or higher precision."""
        logits_NXV: Tensor = self.computed(output)
        return logits_NXV.to(torch.promote_types(logits_NXV.dtype, torch.float32))

    def _runs(self, output: PerceptionOutput) -> list[tuple[Tensor, slice, TokenSpan]]:
        """For each run of codes of one codebook, return the logits [N, l, V], its slice of 0 to L, and its ids."""
        codes_NLV = self._logits(output)[:, 1:-1]
        return [(codes_NLV[:, places], places, span) for places, span in self.block.runs]


class Marker(CodeLoss):
    """Cross-entropy of the two markers over the whole vocabulary, summed over markers."""

    def count(self, batch: Batch) -> int:
        """Return the number of markers, two per block."""
        return 2 * self.num_written(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        markers_N2V = self._logits(output)[:, [0, -1]]
        targets_N2 = torch.tensor([self.block.opening, self.block.closing], device=markers_N2V.device)
        targets_N2 = targets_N2.expand(markers_N2V.shape[:2])
        return LossValue(
            total=F.cross_entropy(markers_N2V.flatten(0, 1), targets_N2.flatten(), reduction="sum"),
            count=self.count(batch),
            metrics={"marker_accuracy": (markers_N2V.argmax(-1) == targets_N2).sum()},
        )


class Token(CodeLoss):
    """Cross-entropy of each code among the codes of its codebook, summed over codes."""

    def __init__(self, stream: str, block: TokenBlock, label_smoothing: float) -> None:
        super().__init__(stream, block)
        self.label_smoothing = label_smoothing

    def count(self, batch: Batch) -> int:
        """Return the number of codes."""
        return self.block.length * self.num_written(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        totals, hits = [], []
        for logits_NlV, places, span in self._runs(output):
            logits_NlK = logits_NlV[..., span.slice]
            codes_Nl = batch.streams[self.stream].codes_NL[:, places]
            totals.append(
                F.cross_entropy(
                    logits_NlK.flatten(0, 1),
                    codes_Nl.flatten(),
                    reduction="sum",
                    label_smoothing=self.label_smoothing,
                )
            )
            hits.append((logits_NlK.argmax(-1) == codes_Nl).sum())
        return LossValue(
            total=torch.stack(totals).sum(),
            count=self.count(batch),
            metrics={"code_accuracy": torch.stack(hits).sum()},
        )


class Count(CodeLoss):
    """-log of the probability that each of the L places holds any code of its codebook, summed over places."""

    def count(self, batch: Batch) -> int:
        """Return the number of places of codes."""
        return self.block.length * self.num_written(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        log_mass_NL = torch.cat([log_code_mass(logits, span) for logits, _, span in self._runs(output)], 1)
        return LossValue(
            total=-log_mass_NL.sum(),
            count=self.count(batch),
            metrics={"code_mass": log_mass_NL.detach().exp().sum()},
        )


class ExpectedCount(CodeLoss):
    """Smooth L1 between the expected number of codes, of any codebook, and L, relative to L, summed over blocks.

    The expectation is over L + 1 places, so a code in place of the closing marker counts as one too many. Use it only
    together with the other losses: by itself it cannot tell a correct block from one with L places at 0.99 and a
    certain extra code, if L is 100.
    """

    def count(self, batch: Batch) -> int:
        """Return the number of blocks."""
        return self.num_written(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        logits_NlV = self._logits(output)[:, 1:]
        mass_CNl = torch.stack([log_code_mass(logits_NlV, span).exp() for span in self.block.codebooks])
        excess_N = mass_CNl.sum(0).sum(1) - self.block.length
        share_N = excess_N / self.block.length
        return LossValue(
            total=F.smooth_l1_loss(share_N, torch.zeros_like(share_N), reduction="sum"),
            count=self.count(batch),
            metrics={"count_error": excess_N.detach().abs().sum()},
        )


@attrs.frozen(kw_only=True)
class CodeLossConfig(StreamLossConfig):
    """Base class of the configs of the four losses."""

    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def block(self, model: ModelSpecs) -> TokenBlock:
        """Return the ids of the stream.

        Raises:
            RecipeError: There is no such stream, or it is written as special tokens.
        """
        return model.block(self.stream, f"the loss {self.name}")


@attrs.frozen(kw_only=True)
class MarkerConfig(CodeLossConfig):
    """Cross-entropy of the opening and closing markers of each block, over the whole vocabulary."""

    name: ClassVar[str] = "marker"

    def build(self, model: ModelSpecs) -> Marker:
        """See `LossConfig.build`."""
        return Marker(self.stream, self.block(model))


@attrs.frozen(kw_only=True)
class TokenConfig(CodeLossConfig):
    """Cross-entropy of each code, among the codes of its codebook only.

    Attributes:
        label_smoothing: The share of the target that is spread over the codebook, in [0, 1). Only with 0 does the
            identity in this module's docstring hold.

    Raises:
        RecipeError: `label_smoothing` is outside [0, 1).
    """

    name: ClassVar[str] = "token"

    label_smoothing: float = 0.0

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise RecipeError(
                f"{self.term}: label_smoothing is {self.label_smoothing}; choose one in [0, 1)."
            )

    def build(self, model: ModelSpecs) -> Token:
        """See `LossConfig.build`."""
        return Token(self.stream, self.block(model), self.label_smoothing)


@attrs.frozen(kw_only=True)
class CountConfig(CodeLossConfig):
    """Count loss as a likelihood: every place of a block holds a code."""

    name: ClassVar[str] = "count"

    def build(self, model: ModelSpecs) -> Count:
        """See `LossConfig.build`."""
        return Count(self.stream, self.block(model))


@attrs.frozen(kw_only=True)
class ExpectedCountConfig(CodeLossConfig):
    """Count loss as an expectation: a block holds L codes on average. For streams with one code per step."""

    name: ClassVar[str] = "expected_count"

    def build(self, model: ModelSpecs) -> ExpectedCount:
        """See `LossConfig.build`.

        Raises:
            RecipeError: The stream has several codes per step. Whether another code follows is then not decided place
                by place, so the sum is not the expected length.
        """
        block = self.block(model)
        if max(block.steps) > 1:
            raise RecipeError(
                f"the loss {self.name} describes blocks written one code per step, and the stream {self.stream!r} is "
                f"written up to {max(block.steps)} at once; leave it out, count and marker say how long a block is."
            )
        return ExpectedCount(self.stream, block)
