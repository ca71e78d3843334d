"""The batch that the conformance suite of losses makes up, with changes."""

from typing import Any

import attrs

from perceptio.interfaces import Batch, ModelSpecs, PerceptionOutput, StreamOutput
from perceptio.losses.next_token import NextTokenConfig
from perceptio.testing.component import MODEL
from perceptio.testing.loss import LossConformance

BATCH: Batch = type("Made", (LossConformance,), {"config": NextTokenConfig()})().batch()


def batch_with(stream: str, **changes: Any) -> Batch:
    """The batch with other values in one stream."""
    own = attrs.evolve(BATCH.streams[stream], **changes)
    return attrs.evolve(BATCH, streams={**BATCH.streams, stream: own})


def model_with(stream: str, **changes: Any) -> ModelSpecs:
    """The small model with another tokenizer, or other ids, in one stream."""
    own = attrs.evolve(MODEL.streams[stream], **changes)
    return attrs.evolve(MODEL, streams={**MODEL.streams, stream: own})


def output(stream: str, **fields: Any) -> PerceptionOutput:
    """What was computed of one stream."""
    return PerceptionOutput(streams={stream: StreamOutput(**fields)})
