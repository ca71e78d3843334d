"""What is sampled has the model's distribution: one choice decides what comes next, part or text.

The model of these tests has the same known logits at every place, so that the probability of whatever is written can
be worked out by hand.
"""

import math

import pytest
import torch
from fakes import tiny_recipe

from perceptio.errors import InputError
from perceptio.interfaces import GenerationSettings, Turn
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import build_model

ROWS = 1500
SEG, DEPTH, TEXT = 0.3, 0.5, 0.2  # The text's share falls on two tokens, 3 to 1.
WORDS = {ord("a"): 0.75, ord("b"): 0.25}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    recipe = tiny_recipe(answer_format="direct").with_stream("depth", codes_per_step=16)
    return build_model(recipe).eval()


def sampled(model, monkeypatch, illegal=0.0, **settings):
    """What many rows wrote: the parts of each, as text, and its first token of text."""
    plan, logits_V = model.plan, torch.full((model.plan.size,), -40.0)
    for stream, share in (("segmentation", SEG), ("depth", DEPTH)):
        logits_V[plan.streams[stream].opens_with] = math.log(share)
    for word, share in WORDS.items():
        logits_V[word] = math.log(TEXT * share)
    if illegal:
        logits_V[plan.locations.start] = math.log(illegal)
    monkeypatch.setattr(model.language, "logits", lambda hidden: logits_V.expand(*hidden.shape[:-1], -1))
    settings = GenerationSettings(temperature=1.0, max_new_tokens=1, max_objects=1, **settings)
    turns = [Turn(question="is", answer="", task="")] * ROWS
    with torch.inference_mode():
        written = generate(model, turns, [torch.rand(3, 16, 16)], [0] * ROWS, settings)
    segments, depths = (written.streams[name].opened_BO.any(1).tolist() for name in BOTH)
    parts = ["seg " * seg + "depth" * depth for seg, depth in zip(segments, depths, strict=True)]
    return [one.strip() or "text" for one in parts], written.text_BT[:, 0].tolist()


def assert_shares(found, expected):
    """Every outcome is as frequent as its probability says, within five standard deviations."""
    assert set(found) <= set(expected)
    for outcome, share in expected.items():
        deviation = math.sqrt(len(found) * share * (1 - share))
        assert abs(found.count(outcome) - len(found) * share) <= 5 * deviation + 1e-9, outcome


BOTH = ("segmentation", "depth")
LATER = DEPTH / (DEPTH + TEXT)  # Once an object is written, the choice is between the block and text.
AFTER = SEG / (SEG + TEXT)  # And once a block is written, between an object and text.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"streams": BOTH},
            {"seg depth": SEG * LATER, "seg": SEG * (1 - LATER), "depth": DEPTH, "text": TEXT},
        ),
        (
            {"streams": BOTH[::-1]},
            {"seg depth": DEPTH * AFTER, "depth": DEPTH * (1 - AFTER), "seg": SEG, "text": TEXT},
        ),
        ({"streams": ("segmentation",)}, {"seg": AFTER, "text": 1 - AFTER}),
        ({"streams": ("depth",)}, {"depth": LATER, "text": 1 - LATER}),
        ({"streams": ()}, {"text": 1.0}),
        ({"streams": BOTH, "force": ("depth",)}, {"seg depth": SEG, "depth": 1 - SEG}),
        ({"streams": BOTH, "force": ("segmentation",)}, {"seg depth": LATER, "seg": 1 - LATER}),
        ({"streams": BOTH[::-1], "force": ("depth",)}, {"seg depth": AFTER, "depth": 1 - AFTER}),
        ({"streams": BOTH[::-1], "force": ("segmentation",)}, {"seg depth": DEPTH, "seg": 1 - DEPTH}),
        ({"streams": BOTH, "force": BOTH}, {"seg depth": 1.0}),
    ],
)
def test_what_comes_next_is_one_choice_of_the_model(model, monkeypatch, settings, expected):
    parts, words = sampled(model, monkeypatch, **settings)
    assert_shares(parts, expected)
    assert_shares(words, WORDS)
    # The token that says "no part" is the first of the text.
    assert_shares([word for part, word in zip(parts, words, strict=True) if part == "text"] or words, WORDS)


def test_what_the_grammar_excludes_takes_nothing_from_the_rest(model, monkeypatch):
    """A cell's token is as likely as everything else together, and cannot come next."""
    parts, words = sampled(model, monkeypatch, illegal=1.0, streams=("segmentation",))
    assert_shares(parts, {"seg": AFTER, "text": 1 - AFTER})
    assert_shares(words, WORDS)


def test_without_the_grammar_every_token_may_come(model, monkeypatch):
    """The token that is drawn in place of a part is written, even where it is none of the text tokenizer's."""
    parts, words = sampled(model, monkeypatch, illegal=1.0, streams=("segmentation",), grammar=False)
    assert_shares(parts, {"seg": SEG / 2, "text": 1 - SEG / 2})
    alone = [word for part, word in zip(parts, words, strict=True) if part == "text"]
    others = {word: share * TEXT for word, share in WORDS.items()}
    others |= {model.plan.locations.start: 1.0, model.plan.streams["depth"].opens_with: DEPTH}
    assert_shares(alone, {word: share / sum(others.values()) for word, share in others.items()})


def test_a_small_temperature_takes_the_likeliest(model, monkeypatch):
    monkeypatch.setattr(
        model.language,
        "logits",
        lambda hidden: torch.arange(float(model.plan.size)).expand(*hidden.shape[:-1], -1),
    )
    for temperature in (0.0, 1e-30):
        settings = GenerationSettings(streams=(), temperature=temperature, max_new_tokens=1)
        with torch.inference_mode():
            written = generate(
                model, [Turn(question="is", answer="", task="")], [torch.rand(3, 16, 16)], [0], settings
            )
        assert written.text_BT.tolist() == [[model.plan.base_vocab - 1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0: it must be a whole number of at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"max_objects": 0}, "max_objects is 0"),
        ({"seed": -1}, "seed is -1: it must be a whole number of at least 0"),
        ({"temperature": math.nan}, "temperature is nan: it must be a finite number of at least 0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": -0.5}, "temperature is -0.5"),
        ({"temperature": "1"}, "temperature is '1'"),
        ({"streams": "depth"}, "streams is 'depth': it must be a tuple of names"),
        ({"force": (3,)}, r"force is \(3,\): it must hold names of streams"),
        ({"streams": ("depth", "depth")}, r"streams is \('depth', 'depth'\): it must name each once"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        GenerationSettings(**settings)
