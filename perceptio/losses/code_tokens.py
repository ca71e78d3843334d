"""The losses of a stream of codes: marker, token and count.

The paper names them, for depth; the formulas are ours. Cross-entropy over the L + 2 predictions of a block is exactly
2 * marker + L * token + L * count, so the three are a re-weighting of it in which a hundred codes do not drown two
markers. The expected count is a fourth term of its own.

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
    """Log of the probability [N, l] that each prediction is some code of a codebook.

    Not clamped: a clamp would take the gradient away where it is needed most.
    """
    return logits_NlV[..., codes.slice].logsumexp(-1) - logits_NlV.logsumexp(-1)


class CodeLoss(StreamLoss):
    """What the four share: they read the logits of whole blocks."""

    def __init__(self, stream: str, block: TokenBlock) -> None:
        super().__init__(stream, "logits_NXV")
        self.block = block

    def _logits(self, output: PerceptionOutput) -> Tensor:
        """Logits [N, L + 2, V], in float32 or finer."""
        logits_NXV: Tensor = self.computed(output)
        return logits_NXV.to(torch.promote_types(logits_NXV.dtype, torch.float32))

    def _runs(self, output: PerceptionOutput) -> list[tuple[Tensor, slice, TokenSpan]]:
        """For each run of codes of one codebook the logits [N, l, V], its places, 0 to L, and its ids."""
        codes_NLV = self._logits(output)[:, 1:-1]
        return [(codes_NLV[:, places], places, span) for places, span in self.block.runs]


class Marker(CodeLoss):
    """Cross-entropy of the two markers over the whole vocabulary, summed over markers."""

    def count(self, batch: Batch) -> int:
        """Two markers per block."""
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
    """Cross-entropy of each code among those of its codebook, summed over codes."""

    def __init__(self, stream: str, block: TokenBlock, label_smoothing: float) -> None:
        super().__init__(stream, block)
        self.label_smoothing = label_smoothing

    def count(self, batch: Batch) -> int:
        """The codes."""
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
    """-log of the probability that each of the L code places holds a code of its codebook, summed over places."""

    def count(self, batch: Batch) -> int:
        """The places of codes."""
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
    """Smooth L1 between the expected number of codes, of any codebook, and L, as a share of L, summed over blocks.

    The expectation runs over L + 1 places, so that a code where the closing marker belongs counts as one too many.
    Alone it can be fooled, L places at 0.99 and a certain one too many being L again; use it beside the others.
    """

    def count(self, batch: Batch) -> int:
        """The blocks."""
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
    """What the configs of the four share."""

    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def block(self, model: ModelSpecs) -> TokenBlock:
        """The stream's block.

        Raises:
            RecipeError: There is no such stream, or it is written as special tokens.
        """
        return model.block(self.stream, f"the loss {self.name}")


@attrs.frozen(kw_only=True)
class MarkerConfig(CodeLossConfig):
    """The opening and closing marker of each block, over the whole vocabulary."""

    name: ClassVar[str] = "marker"

    def build(self, model: ModelSpecs) -> Marker:
        """See `LossConfig.build`."""
        return Marker(self.stream, self.block(model))


@attrs.frozen(kw_only=True)
class TokenConfig(CodeLossConfig):
    """Each code, among those of its codebook alone.

    Attributes:
        label_smoothing: Share of the target that is spread over the codebook; 0 keeps the identity of this module.
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
    """That a block holds codes in all its places: the likelihood form of the count loss."""

    name: ClassVar[str] = "count"

    def build(self, model: ModelSpecs) -> Count:
        """See `LossConfig.build`."""
        return Count(self.stream, self.block(model))


@attrs.frozen(kw_only=True)
class ExpectedCountConfig(CodeLossConfig):
    """That a block holds L codes in expectation: the other form of the count loss, for one code per step."""

    name: ClassVar[str] = "expected_count"

    def build(self, model: ModelSpecs) -> ExpectedCount:
        """See `LossConfig.build`.

        Raises:
            RecipeError: Several codes are predicted per step: whether one more follows is then not decided place by
                place, and the sum is no expectation of the length.
        """
        block = self.block(model)
        if max(block.steps) > 1:
            raise RecipeError(
                f"the loss {self.name} describes blocks written one code per step, and the stream {self.stream!r} is "
                f"written up to {max(block.steps)} at once; leave it out, count and marker say how long a block is."
            )
        return ExpectedCount(self.stream, block)
