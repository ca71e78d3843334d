"""Which image a conversation shows, and which images questions show."""

import pytest
import torch

from perceptio.errors import DataError
from perceptio.interfaces import Turn
from perceptio.ops.marks import draw_marks, shown_image, shown_images

GRAY = torch.full((3, 64, 64), 0.5)
PLAIN = Turn(question="What?", answer="", task="")
MARKED = Turn(question="Which?", answer="(A)", task="relative_depth", points=((0.25, 0.5), (0.75, 0.5)))
OTHER = Turn(
    question="Which?", answer="(C)", task="relative_depth", points=((0.1, 0.9), (0.9, 0.9), (0.5, 0.2))
)


def test_points_given_as_tokens_leave_the_image_alone():
    assert shown_image(GRAY, [MARKED, OTHER, PLAIN], drawn=False) is GRAY


def test_a_conversation_shows_the_points_of_its_one_marked_question():
    shown = shown_image(GRAY, [PLAIN, MARKED], drawn=True)
    assert torch.equal(shown, draw_marks(GRAY, MARKED.points))
    assert not torch.equal(shown, GRAY)
    assert shown_image(GRAY, [PLAIN, PLAIN], drawn=True) is GRAY


def test_two_questions_cannot_share_the_letters_of_one_image():
    with pytest.raises(
        DataError, match="2 questions of one conversation mark points.*letters would be mixed"
    ):
        shown_image(GRAY, [MARKED, PLAIN, OTHER], drawn=True)


def test_questions_share_an_image_unless_their_marks_are_drawn():
    images, turns = [GRAY, 1 - GRAY / 2], [PLAIN, MARKED, PLAIN, OTHER, PLAIN]
    shown, index = shown_images(images, [0, 0, 0, 1, 1], turns, drawn=True)
    assert index == [0, 1, 0, 2, 3] and len(shown) == 4
    assert shown[0] is images[0] and shown[3] is images[1]
    assert torch.equal(shown[2], draw_marks(images[1], OTHER.points))
    shown, index = shown_images(images, [0, 0, 0, 1, 1], turns, drawn=False)
    assert (
        index == [0, 0, 0, 1, 1]
        and [one is other for one, other in zip(shown, images, strict=True)] == [True] * 2
    )
