from typing import ClassVar

import torch
from perceptio_palette.color_questions import DominantColorConfig
from perceptio_palette.palette import PaletteConfig

from perceptio.interfaces import Sample
from perceptio.ops.pictures import picture_of
from perceptio.testing import PerceptionTokenizerConformance, TaskConformance
from perceptio.testing.component import MODEL


class TestPalette(PerceptionTokenizerConformance):
    config = PaletteConfig(grid=(2, 3), levels=(4, 4, 2))
    # A color is at most half a level from the nearest one, and that of blue is 1/2.
    promised: ClassVar = {"absolute_error": (0.0, (1 / 8 + 1 / 8 + 1 / 4) / 3)}


class TestDominantColor(TaskConformance):
    config = DominantColorConfig()


def picture():
    """4 x 6 pixels: the left half red, the right half black."""
    image_3HW = torch.zeros(3, 4, 6)
    image_3HW[0, :, :3] = 1.0
    return image_3HW


def test_a_picture_of_two_colors_is_two_codes_and_comes_back_at_its_size():
    palette = PaletteConfig(grid=(1, 2), levels=(2, 2, 2)).build()
    codes_1L = palette.to_codes(palette.targets([picture()]))
    assert codes_1L.tolist() == [[4, 0]]
    (shown,) = palette.shown(palette.from_codes(codes_1L), [(4, 6)])
    assert shown.shape == (4, 6, 3)
    assert (shown[:, :3] == (0.75, 0.25, 0.25)).all() and (shown[:, 3:] == 0.25).all()
    assert picture_of(shown).shape == (4, 6, 3)


def test_even_odds_are_the_mean_color():
    palette = PaletteConfig(grid=(1, 1), levels=(2, 1, 1)).build()
    expected = palette.from_probabilities([torch.full((1, 1, 2), 0.5)])
    assert expected.flatten().tolist() == [0.5, 0.5, 0.5]


def test_the_dominant_color_is_that_of_the_picture():
    task = DominantColorConfig().build(MODEL)
    turn = task.own_turn("colors", Sample(turns=(), image_3HW=picture()))
    assert (turn.answer, turn.task) == ("red", "colors")
