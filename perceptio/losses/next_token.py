"""Next-token cross-entropy over all supervised tokens outside blocks of codes.

Shapes: R text targets, V vocabulary.
"""

from typing import ClassVar

import attrs
from torch.nn import functional as F

from perceptio.interfaces import Batch, Kind, Loss, LossConfig, LossValue, ModelSpecs, PerceptionOutput


class NextToken(Loss):
    """Cross-entropy of answers, their end tokens and special tokens, summed over targets."""

    required_outputs = ("text_logits_RV",)

    def count(self, batch: Batch) -> int:
        """Return the number of text targets."""
        return batch.text_targets_R.shape[0]

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        assert output.text_logits_RV is not None
        targets_R = batch.text_targets_R
        return LossValue(
            total=F.cross_entropy(output.text_logits_RV.float(), targets_R, reduction="sum"),
            count=self.count(batch),
            metrics={"text_accuracy": (output.text_logits_RV.argmax(-1) == targets_R).sum()},
        )


@attrs.frozen(kw_only=True)
class NextTokenConfig(LossConfig):
    """Cross-entropy of text outside blocks of codes, whose many codes would otherwise outweigh a short answer."""

    name: ClassVar[str] = "next_token"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, model: ModelSpecs) -> NextToken:
        """See `LossConfig.build`."""
        return NextToken()
