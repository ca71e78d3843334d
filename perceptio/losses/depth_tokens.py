"""The depth-token losses: marker, token and count.

The paper names them; the formulas are ours. Cross-entropy over the N + 2 predictions of a block is exactly
2 * marker + N * token + N * count, so the three are a re-weighting of it in which a hundred codes do not drown two
markers. The expected count is a fourth term of its own.

Shapes: S depth blocks, N codes per block, V vocabulary, K codebook size; block logits are [S, N + 2, V].
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
    Loss,
    LossConfig,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    TokenBlock,
    TokenSpan,
)


def log_code_mass(logits_SnV: Tensor, codes: TokenSpan) -> Tensor:
    """Log of the probability [S, n] that each prediction is some depth code.

    Not clamped: a clamp would take the gradient away where it is needed most.
    """
    return logits_SnV[..., codes.slice].logsumexp(-1) - logits_SnV.logsumexp(-1)


class DepthTokenLoss(Loss):
    """What the four share: they read the logits of whole blocks."""

    required_outputs = ("depth_logits_SNV",)

    def __init__(self, block: TokenBlock) -> None:
        super().__init__()
        self.block = block

    def _logits(self, output: PerceptionOutput) -> Tensor:
        """Logits [S, N + 2, V], in float32 or finer."""
        logits_SnV = output.depth_logits_SNV
        assert logits_SnV is not None
        return logits_SnV.to(torch.promote_types(logits_SnV.dtype, torch.float32))


class DepthMarker(DepthTokenLoss):
    """Cross-entropy of the two markers over the whole vocabulary, summed over markers."""

    def count(self, batch: Batch) -> int:
        """Two markers per block."""
        return 2 * batch.block_codes_SL.shape[0]

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        markers_S2V = self._logits(output)[:, [0, -1]]
        targets_S2 = torch.tensor([self.block.opening, self.block.closing], device=markers_S2V.device)
        targets_S2 = targets_S2.expand(markers_S2V.shape[:2])
        return LossValue(
            total=F.cross_entropy(markers_S2V.flatten(0, 1), targets_S2.flatten(), reduction="sum"),
            count=self.count(batch),
            metrics={"marker_accuracy": (markers_S2V.argmax(-1) == targets_S2).sum()},
        )


class DepthToken(DepthTokenLoss):
    """Cross-entropy of the codes among codes alone, summed over codes."""

    def __init__(self, block: TokenBlock, label_smoothing: float) -> None:
        super().__init__(block)
        self.label_smoothing = label_smoothing

    def count(self, batch: Batch) -> int:
        """The codes."""
        return batch.block_codes_SL.numel()

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        codes_SNK = self._logits(output)[:, 1:-1, self.block.codes.slice]
        total = F.cross_entropy(
            codes_SNK.flatten(0, 1),
            batch.block_codes_SL.flatten(),
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        hits = (codes_SNK.argmax(-1) == batch.block_codes_SL).sum()
        return LossValue(total=total, count=self.count(batch), metrics={"code_accuracy": hits})


class DepthCount(DepthTokenLoss):
    """-log of the probability that each of the N code places holds a code at all, summed over places."""

    def count(self, batch: Batch) -> int:
        """The places of codes."""
        return batch.block_codes_SL.numel()

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        log_mass_SN = log_code_mass(self._logits(output)[:, 1:-1], self.block.codes)
        return LossValue(
            total=-log_mass_SN.sum(),
            count=self.count(batch),
            metrics={"code_mass": log_mass_SN.detach().exp().sum()},
        )


class ExpectedCount(DepthTokenLoss):
    """Smooth L1 between the expected number of codes and N, as a share of N, summed over blocks.

    The expectation runs over N + 1 places, so that a code where the closing marker belongs counts as one too many.
    Alone it can be fooled, N places at 0.99 and a certain one too many being N again; use it beside the others.
    """

    def count(self, batch: Batch) -> int:
        """The blocks."""
        return batch.block_codes_SL.shape[0]

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        expected_S = log_code_mass(self._logits(output)[:, 1:], self.block.codes).exp().sum(1)
        excess_S = expected_S - self.block.length
        share_S = excess_S / self.block.length
        return LossValue(
            total=F.smooth_l1_loss(share_S, torch.zeros_like(share_S), reduction="sum"),
            count=self.count(batch),
            metrics={"count_error": excess_S.detach().abs().sum()},
        )


def depth_block_of(model: ModelSpecs, name: str) -> TokenBlock:
    """The block that the loss `name` is about.

    Raises:
        RecipeError: The model has no depth tokenizer.
    """
    if model.depth_block is None:
        raise RecipeError(
            f"The loss {name} needs a depth tokenizer, and there is none; add one or leave it out."
        )
    return model.depth_block


@attrs.frozen(kw_only=True)
class DepthMarkerConfig(LossConfig):
    """The opening and closing marker of each depth block, over the whole vocabulary."""

    name: ClassVar[str] = "depth_marker"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("depth",)

    def build(self, model: ModelSpecs) -> DepthMarker:
        """See `LossConfig.build`."""
        return DepthMarker(depth_block_of(model, self.name))


@attrs.frozen(kw_only=True)
class DepthTokenConfig(LossConfig):
    """Each depth code, among codes alone.

    Attributes:
        label_smoothing: Share of the target that is spread over all codes; 0 keeps the identity of this module.
    """

    name: ClassVar[str] = "depth_token"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("depth",)

    label_smoothing: float = 0.0

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise RecipeError(
                f"depth_token: label_smoothing is {self.label_smoothing}; choose one in [0, 1)."
            )

    def build(self, model: ModelSpecs) -> DepthToken:
        """See `LossConfig.build`."""
        return DepthToken(depth_block_of(model, self.name), self.label_smoothing)


@attrs.frozen(kw_only=True)
class DepthCountConfig(LossConfig):
    """That a block holds codes in all its places: the likelihood form of the count loss."""

    name: ClassVar[str] = "depth_count"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("depth",)

    def build(self, model: ModelSpecs) -> DepthCount:
        """See `LossConfig.build`."""
        return DepthCount(depth_block_of(model, self.name))


@attrs.frozen(kw_only=True)
class ExpectedCountConfig(LossConfig):
    """That a block holds N codes in expectation: the other form of the count loss, for one code per step."""

    name: ClassVar[str] = "expected_count"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("depth",)

    def build(self, model: ModelSpecs) -> ExpectedCount:
        """See `LossConfig.build`.

        Raises:
            RecipeError: Several codes are predicted per step: whether one more follows is then not decided place by
                place, and the sum is no expectation of the length.
        """
        block = depth_block_of(model, self.name)
        if block.per_step > 1:
            raise RecipeError(
                f"expected_count describes blocks written one code per step, and this recipe writes "
                f"{block.per_step}; leave it out, depth_count and depth_marker say how long a block is."
            )
        return ExpectedCount(block)
