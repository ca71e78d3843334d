"""Features of a teacher, pooled by hand; and the teacher stays as it is."""

import attrs
import pytest
import torch

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.errors import RecipeError
from perceptio.tokenizers.perception.features import FeaturesConfig

TEACHER = ConvVisionConfig(image_size=(16, 24), widths=(4, 6))
CONFIG = FeaturesConfig(teacher=TEACHER, grid=(2, 3), num_tokens=2)


def features_of(tokenizer, image_3HW):
    """The teacher's own features of a picture of its size, [4, 6, P]."""
    with torch.no_grad():
        return tokenizer.teacher([image_3HW]).features_MD.unflatten(0, (4, 6))


def test_rows_are_means_over_cells():
    tokenizer, image_3HW = CONFIG.build(), torch.rand(3, 16, 24)
    rows_mP = tokenizer.targets([image_3HW])[0]
    features_hwP = features_of(tokenizer, image_3HW)
    for row in range(2):
        for column in range(3):
            cell = features_hwP[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((0, 1))
            torch.testing.assert_close(rows_mP[3 * row + column], cell)


def test_without_a_grid_every_feature_is_a_row():
    config = attrs.evolve(CONFIG, grid=None)
    tokenizer, image_3HW = config.build(), torch.rand(3, 16, 24)
    assert config.spec.stream.written.num_rows == 24
    torch.testing.assert_close(
        tokenizer.targets([image_3HW])[0], features_of(tokenizer, image_3HW).flatten(0, 1)
    )


def test_tokens_and_rows():
    """As many rows as tokens need no head that makes rows; the tokens are one id, repeated."""
    written = attrs.evolve(CONFIG, num_tokens=6, token="<dino>").spec.stream.written
    assert (written.tokens, written.rows, written.width) == (("<dino>",) * 6, None, 6)
    assert CONFIG.spec.stream.written.rows == 6 and CONFIG.spec.stream.frozen


def test_pictures_of_any_size_are_stretched_to_the_teachers():
    tokenizer = CONFIG.build()
    flat = [torch.full((3, *size), 0.3) for size in ((16, 24), (50, 20))]
    rows_TmP = tokenizer.targets(flat)
    torch.testing.assert_close(rows_TmP[0], rows_TmP[1], atol=1e-4, rtol=1e-4)


def test_figures_by_hand():
    tokenizer = CONFIG.build()
    targets = torch.tensor([[1.0, 0.0]]).repeat(1, 2, 1)
    decoded = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    figures = tokenizer.compare(decoded, targets)
    assert figures["cosine"].tolist() == [0.5] and figures["mse"].tolist() == [0.75]


def test_the_teacher_reads_its_own_weights(tmp_path):
    loaded = []

    @attrs.frozen(kw_only=True)
    class Pretrained(ConvVisionConfig):
        def load_weights(self, module):
            loaded.append(module)
            return True

    config = attrs.evolve(CONFIG, teacher=Pretrained(image_size=(16, 24), widths=(4, 6)))
    tokenizer = config.build()
    assert config.load_weights(tokenizer) and loaded == [tokenizer.teacher]
    assert not CONFIG.load_weights(tokenizer)


@pytest.mark.parametrize("change", [{"num_tokens": 0}, {"grid": (0, 2)}, {"token": ""}])
def test_settings_that_say_nothing_are_refused(change):
    with pytest.raises(RecipeError, match="features: num_tokens .* must be at least 1, and token .* a name"):
        attrs.evolve(CONFIG, **change)


def test_a_grid_finer_than_the_features_is_refused():
    with pytest.raises(
        RecipeError, match=r"the teacher's 24 features do not reach every cell of the grid \(5, 5\)"
    ):
        attrs.evolve(CONFIG, grid=(5, 5)).build()
