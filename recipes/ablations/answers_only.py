"""The *answers only* control: questions and answers, without any depth or mask to learn from.

Vision encoder, language model, data and steps are the small Perceptio's. What only depth or masks could train is left
out: their streams, the auxiliary head and every loss that is about a stream.
"""

import attrs

from perceptio.interfaces import StreamLossConfig
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BACKBONES = ("vision", "vision_head", "language")


def recipe() -> Recipe:
    """The small Perceptio's backbones, trained on answers alone."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(
        base,
        name="answers-only",
        streams=(),
        heads={},
        answer_format="direct",
        losses=tuple(weighted for weighted in base.losses if not isinstance(weighted.loss, StreamLossConfig)),
        data=attrs.evolve(
            base.data,
            perceive="never",
            text_only_readout=0.0,
            text_only_comparison=0.0,
            text_only_referring=0.0,
            vision_only=0.0,
        ),
        train=attrs.evolve(
            base.train,
            muon={group: lr for group, lr in base.train.muon.items() if group.split(".")[0] in BACKBONES},
        ),
    )
