"""Asking: what comes back, and what is refused."""

import numpy as np
import pytest
import torch
from fakes import tiny_recipe
from PIL import Image

from perceptio.errors import InputError
from perceptio.model.assemble import build_model
from perceptio.model.generation import GenerationSettings

QUESTION = "Which point is closest to the camera?"
POINTS = [(0.25, 0.25), (0.75, 0.5), (0.5, 0.9)]
PERCEIVE = GenerationSettings(
    order=("segmentation", "depth"), force=("segmentation", "depth"), max_objects=1, max_new_tokens=4
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(tiny_recipe()).eval()


def image(height=20, width=30):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))


def test_an_answer_carries_what_was_perceived(model):
    answer = model.ask(image(), QUESTION, points=POINTS, settings=PERCEIVE)
    assert answer.masks.shape == (1, 20, 30) and answer.masks.dtype == bool
    assert answer.depth.unit == "metres" and answer.depth.values_HW.shape == model.depth.spec.image_size
    assert len(answer.codes) == 16 and len(answer.readout) == 3
    assert answer.tokens[:2] == ("[SEG]", "<depth_start>")
    assert answer.tokens[18] == "<depth_end>"
    assert answer.seconds > 0


def test_the_order_of_the_call_is_the_order_of_the_tokens(model):
    settings = GenerationSettings(
        order=("depth", "segmentation"), force=("depth", "segmentation"), max_objects=1
    )
    tokens = model.ask(image(), "What color is it?", settings=settings).tokens
    assert tokens[0] == "<depth_start>" and tokens[17:19] == ("<depth_end>", "[SEG]")


def test_without_perception_there_is_none(model):
    answer = model.ask(image(), "What color is it?", settings=GenerationSettings(order=(), max_new_tokens=3))
    assert answer.masks.shape == (0, 20, 30)
    assert answer.depth is None and answer.codes == () and answer.readout == ()


def test_a_batch_gives_what_each_gives_alone(model):
    questions = [
        (image(), QUESTION, POINTS),
        (image(40, 24), "What is this?", ()),
        (image(), QUESTION, POINTS[:2]),
    ]
    together = model.ask_batch(questions, settings=PERCEIVE)
    for answer, (picture, question, points) in zip(together, questions, strict=True):
        alone = model.ask(picture, question, points=points, settings=PERCEIVE)
        assert alone.tokens == answer.tokens
        np.testing.assert_array_equal(alone.masks, answer.masks)
    assert model.ask_batch([]) == []


def test_files_pillow_images_and_tensors_are_the_same_image(model, tmp_path):
    pixels = (image() * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "image.png")
    answers = [
        model.ask(given, QUESTION, points=POINTS, settings=PERCEIVE)
        for given in (tmp_path / "image.png", str(tmp_path / "image.png"), picture, pixels.float() / 255)
    ]
    assert len({answer.tokens for answer in answers}) == 1


@pytest.mark.parametrize(
    ("given", "question", "points", "message"),
    [
        (image(), "  ", (), "The question is empty"),
        (image(), QUESTION, (), "speaks of marked points and none are given; give each with --point x,y"),
        (image(), QUESTION, [(0.5, 1.5)], r"The point \(0.5, 1.5\) is outside the image"),
        (torch.rand(1, 20, 30), "What?", (), r"An image tensor is RGB \[3, H, W\]"),
        (image() * 255, "What?", (), r"in \[0, 1\]"),
        (42, "What?", (), "is no image"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(model, given, question, points, message):
    with pytest.raises(InputError, match=message):
        model.ask(given, question, points=points)


def test_more_points_than_letters_are_refused(model):
    with pytest.raises(InputError, match="points"):
        model.ask(image(), QUESTION, points=[(0.5, 0.5)] * 30)
