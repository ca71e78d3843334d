"""The *answers only* control: questions and answers, without any supervision from depth or masks.

Vision encoder, language model, data and steps are those of the small Perceptio. Everything that only depth or masks
could train is left out: their streams, the auxiliary head and every loss of a stream.
"""

import attrs

from perceptio.interfaces import StreamLossConfig
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BACKBONES = ("vision", "vision_head", "language")


def recipe() -> Recipe:
    """Return the backbones of the small Perceptio, trained on answers only."""
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
