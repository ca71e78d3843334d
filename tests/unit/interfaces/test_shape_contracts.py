"""Language backbones and vision encoders are held to their shapes where they make them, whoever wrote them."""

from typing import ClassVar

import attrs
import pytest
import torch
from fakes import tiny_recipe
from torch import nn

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.errors import InterfaceError
from perceptio.interfaces import LanguageSpec
from perceptio.interfaces.language import LanguageBackbone

METHODS = ("embed", "forward", "logits")


def lying(**methods):
    """A backbone of width 4 whose given methods make the given tensors."""
    body = {name: (lambda self, given, *rest, made=made: made) for name, made in methods.items()}
    cls = type("Lying", (LanguageBackbone,), body)
    cls.__abstractmethods__ = frozenset()
    held = cls()
    held.spec = LanguageSpec(vocab_size=8, hidden_dim=4, position_axes=1)
    return held


@pytest.mark.parametrize(
    ("name", "given", "made", "message"),
    [
        ("embed", torch.zeros(3), torch.zeros(3, 5), r"made \[3, 5\] of \[3\]; it must make \[3, 4\]"),
        ("embed", torch.zeros(3), torch.zeros(4), r"made \[4\] of \[3\]; it must make \[3, 4\]"),
        ("forward", torch.zeros(1, 3, 4), torch.zeros(3, 4), r"made \[3, 4\] of \[1, 3, 4\]; .* \[1, 3, 4\]"),
        ("forward", torch.zeros(1, 3, 4), (torch.zeros(1, 3, 4),), r"made a tuple of \[1, 3, 4\]"),
        ("logits", torch.zeros(3, 4), torch.zeros(2, 8), r"made \[2, 8\] of \[3, 4\]; it must make \[3, V\]"),
    ],
)
def test_what_a_backbone_makes_has_its_shape(name, given, made, message):
    with pytest.raises(InterfaceError, match=rf"^Lying\.{name} {message}"):
        getattr(lying(**{name: made}), name)(given)


def test_a_backbone_that_keeps_its_promise_is_left_alone():
    rows = torch.zeros(1, 3, 4)
    held = lying(embed=rows, forward=rows, logits=torch.zeros(1, 3, 9))
    assert held.embed(torch.zeros(1, 3)) is rows and held(rows, None) is rows
    assert held.logits(rows).shape == (1, 3, 9)


@pytest.mark.parametrize(
    "made",
    [
        None,
        torch.zeros(3),
        torch.zeros(3, 2).long(),
        torch.zeros(3, 2, device="meta"),
        torch.full((3, 2), 1.5),
        torch.full((3, 2), torch.nan),
    ],
    ids=["nothing", "vector", "integers", "elsewhere", "outside", "nan"],
)
def test_centers_of_features_lie_in_the_picture(made):
    @attrs.frozen(kw_only=True)
    class Lying(ConvVisionConfig):
        name: ClassVar[str] = "lying"

        def centers(self, height, width):
            return made

    for asked in (Lying().centers, Lying().num_features):
        with pytest.raises(InterfaceError, match=r"^lying: centers made .* of 8x9 pixels; it must make"):
            asked(8, 9)


def test_a_config_may_build_on_the_centers_of_another():
    @attrs.frozen(kw_only=True)
    class Upper(ConvVisionConfig):
        def centers(self, height, width):
            return super().centers(height, width) / 2

    assert Upper().num_features(8, 9) == ConvVisionConfig().num_features(8, 9) == 100
    assert torch.equal(Upper().centers(8, 9), ConvVisionConfig().centers(8, 9) / 2)


def test_built_in_parts_keep_their_names_and_are_modules():
    recipe = tiny_recipe()
    backbone = recipe.language.build()
    assert isinstance(backbone, nn.Module) and type(backbone).forward.__name__ == "forward"
    assert all(getattr(type(backbone), name).__wrapped__ for name in METHODS)
