"""Answering for a harness: in its order, each picture encoded once, as the model answers anybody."""

import itertools

import numpy as np
import pytest
from PIL import Image

from perceptio.errors import InputError
from perceptio.harness.mask_text import read_masks
from perceptio.harness.model_args import ModelArgs
from perceptio.harness.responder import Decoding, Request, Responder
from perceptio.interfaces import GenerationSettings

SHORT = Decoding(max_new_tokens=4)


@pytest.fixture(scope="module")
def model(checkpoint):
    return Responder.of(ModelArgs.of({"pretrained": str(checkpoint), "device": "cpu"})).model


def picture(number):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def request(text, number=None, decoding=SHORT):
    return Request(text=text, picture=lambda: None if number is None else picture(number), decoding=decoding)


REQUESTS = [
    request(text, number)
    for text, number in (
        ("What is this?", 0),
        ("Which color?", 1),
        ("How many?", 0),
        ("What shape?", 2),
        ("Hello there", None),
        ("Why?", 1),
        ("Is it near?", 0),
    )
]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_replies_come_in_order_and_each_picture_is_encoded_once(model, monkeypatch, batch_size):
    settings = GenerationSettings(max_new_tokens=4)
    alone = [
        model.ask(
            one.picture(), one.text, perceive=("depth",) if one.picture() else (), settings=settings
        ).text
        for one in REQUESTS
    ]
    encoded, encode = [], model.encode_vision
    monkeypatch.setattr(model, "encode_vision", lambda images: encoded.extend(images) or encode(images))
    responder = Responder(model, perceive="depth", batch_size=batch_size)
    monkeypatch.setattr(responder.model, "encode_vision", model.encode_vision)
    assert list(responder.replies(REQUESTS)) == alone and len(encoded) == 3
    assert len(set(alone)) > 1


def test_one_picture_s_questions_of_two_tasks_are_decoded_each_its_own_way(model):
    longer = Decoding(max_new_tokens=6)
    mixed = [request("What is this?", 0), request("What is this?", 0, longer), request("Why?", 0)]
    replies = list(Responder(model, perceive="none", batch_size=4).replies(mixed))
    assert replies == [next(Responder(model, perceive="none").replies([one])) for one in mixed]


def test_a_reply_ends_before_what_it_is_told_to(model):
    (whole,) = Responder(model, perceive="none").replies([request("What is this?", 0)])
    assert len(whole) > 2
    until = Decoding(max_new_tokens=4, until=("", "not there", whole[2:]))
    (cut,) = Responder(model, perceive="none").replies([request("What is this?", 0, until)])
    assert cut == whole[: whole.index(whole[2:])].rstrip()


def test_masks_follow_the_words_where_they_are_asked_for(model):
    asked = [
        request(text, 0, Decoding(max_new_tokens=2, masks=True)) for text in ("Segment it.", "And this.")
    ]
    replies = list(Responder(model, perceive="segmentation", batch_size=2).replies(asked))
    settings = GenerationSettings(max_new_tokens=2)
    for reply, one in zip(replies, asked, strict=True):
        answer = model.ask(one.picture(), one.text, perceive=("segmentation",), settings=settings)
        masks = read_masks(reply, (32, 32))
        assert reply.startswith(answer.text) and len(masks) == len(answer["segmentation"]) > 0
        np.testing.assert_array_equal(masks, answer["segmentation"])
    (words,) = Responder(model, perceive="segmentation").replies([request("Segment it.", 0)])
    assert read_masks(words, (32, 32)) == []


def test_a_placeholder_of_a_picture_is_no_part_of_the_question(model):
    asked = [request("<image>\nWhat is this?", 0), request("What is this?", 0)]
    first, second = Responder(model, perceive="none").replies(asked)
    assert first == second


def test_what_is_perceived_is_an_argument(model):
    choices = ("auto", "none", "before", "depth+segmentation")
    assert [Responder(model, perceive=one).settings for one in choices] == [
        GenerationSettings(),
        GenerationSettings(streams=()),
        GenerationSettings(force=("depth",)),
        GenerationSettings(streams=("depth", "segmentation"), force=("depth", "segmentation")),
    ]
    with pytest.raises(
        InputError, match="perceive is 'depht', and 'depht' is no stream of the model; did you"
    ):
        Responder(model, perceive="depht")


def test_sampling_draws_anew_for_each_batch(model):
    warm = Decoding(max_new_tokens=8, temperature=5.0)
    again = [request("What is this?", 0, warm)] * 4
    replies = list(Responder(model, perceive="none").replies(again))
    assert len(set(replies)) > 1 and replies == list(Responder(model, perceive="none").replies(again))


def test_likelihoods_come_in_order(model):
    asked = [request(text, number) for text, number in itertools.product(("What?", "Why?"), (0, None))] * 2
    answers = ["red", "blue", "a red sphere", "", "blue", "red", "", "it is"]
    together = list(Responder(model, perceive="depth", batch_size=8).likelihoods(asked, answers))
    responder = Responder(model, perceive="depth")
    alone = [next(responder.likelihoods([one], [answer])) for one, answer in zip(asked, answers, strict=True)]
    assert [one.ids for one in together] == [one.ids for one in alone]
    found, expected = ([one.log_likelihood for one in many] for many in (together, alone))
    assert found == pytest.approx(expected, rel=1e-4)


def test_an_empty_question_is_said(model):
    with pytest.raises(InputError, match="The question of request 2 is empty: there is nothing to answer"):
        list(Responder(model).replies([request("What?", 0), request("<image> ", 0)]))
