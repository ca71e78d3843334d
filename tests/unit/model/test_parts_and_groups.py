"""The boundary around parts, and what names of parameter groups mean."""

from typing import ClassVar

import attrs
import pytest
import torch
from fakes import FakeDepthConfig, FakeMaskCodes, FakeMaskCodesConfig
from small import small_recipe

from perceptio.errors import InterfaceError, PluginError
from perceptio.model.groups import by_group, select_trained
from perceptio.model.parts import build_part, load_part
from perceptio.model.perception_model import build_model
from perceptio.training.optimizer import Optimizers


@attrs.frozen(kw_only=True)
class BadDepthConfig(FakeDepthConfig):
    """Fails where it is told to."""

    name: ClassVar[str] = "bad"
    fails: str = "build"

    def build(self):
        if self.fails == "exit":
            raise SystemExit(4)
        if self.fails == "build":
            raise FileNotFoundError("codebook.pt")
        return 3 if self.fails == "type" else super().build()

    def load_weights(self, module):
        raise ValueError("not these")


def test_what_fails_in_a_part_is_said_with_its_name():
    where = r"depth:bad \(.*test_parts_and_groups, unregistered\)"
    with pytest.raises(PluginError, match=rf"build of {where} raised FileNotFoundError.* shapes only"):
        build_part(BadDepthConfig())
    with pytest.raises(PluginError, match=rf"build of {where} raised SystemExit\(4\)"):
        build_part(BadDepthConfig(fails="exit"))
    with pytest.raises(InterfaceError, match=rf"{where} builds a int, which is no DepthTokenizer"):
        build_part(BadDepthConfig(fails="type"))
    config = BadDepthConfig(fails="weights")
    with pytest.raises(PluginError, match=rf"load_weights of {where} raised ValueError\('not these'\)"):
        load_part(config, build_part(config))


def test_a_built_in_that_fails_is_not_hidden(monkeypatch):
    config = small_recipe().stream("depth").tokenizer
    monkeypatch.setattr(type(config), "build", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_part(config)


MASKS = torch.zeros(2, 16, 16, dtype=torch.bool)


def test_mask_codes_that_cannot_be_are_refused_where_they_are_made():
    class Lying(FakeMaskCodes):
        made = torch.full((2, 4), 2)

        def encode_masks(self, masks_NHW):
            return self.made

    tokenizer = Lying(FakeMaskCodesConfig().spec)
    tokenizer.origin = "segmentation:acme/quadrants (acme-masks)"
    with pytest.raises(
        InterfaceError,
        match="acme-masks.: Lying.encode_masks made codes that go from 2 to 2 and not from 0 to 1",
    ):
        tokenizer.encode_masks(MASKS)
    for made in (torch.zeros(2, 4), torch.zeros(2, 3, dtype=torch.int64)):
        Lying.made = made
        with pytest.raises(InterfaceError, match=r"made codes that are .* and not int64 \[N, 4\]"):
            tokenizer.encode_masks(MASKS)
    Lying.made = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(InterfaceError, match="made codes that are of 1 masks and not of 2"):
        tokenizer.encode_masks(MASKS)


@pytest.fixture(scope="module")
def model():
    return build_model(small_recipe())


def test_of_several_groups_the_longest_name_holds_in_whatever_order(model):
    settings = {"language": 0.1, "language.vocabulary": 1.0, "vision*": 0.5}
    groups = model.parameter_groups()
    for given in (settings, dict(reversed(settings.items()))):
        found = by_group(model, given)
        assert {found[id(p)] for p in groups["language.vocabulary"]} == {1.0}
        assert {found[id(p)] for p in groups["language.trunk"]} == {0.1}
        assert {found[id(p)] for p in (*groups["vision"], *groups["vision_head"])} == {0.5}
        assert not any(id(p) in found for p in groups["streams.segmentation.tokenizer"])


def test_whole_numbers_do_not_train():
    model = build_model(small_recipe())
    model.language.register_parameter("scales", torch.nn.Parameter(torch.tensor([1, 2]), requires_grad=False))
    select_trained(model, ["language"])
    assert not model.language.scales.requires_grad
    assert all(p.requires_grad for p in model.language.parameters() if p.is_floating_point())


def test_lr_scale_multiplies_the_rate_of_a_group(model):
    train = attrs.evolve(
        model.recipe.train, lr=1e-2, lr_scale={"language": 0.5, "language.vocabulary": 2.0}, muon={}
    )
    select_trained(model, ("language", "vision_head"))
    (adamw,) = Optimizers(model, train)._all
    rates = {id(p): group["peak_lr"] for group in adamw.param_groups for p in group["params"]}
    groups = model.parameter_groups()
    assert {rates[id(p)] for p in groups["language.vocabulary"]} == {2e-2}
    assert {rates[id(p)] for p in groups["language.trunk"]} == {5e-3}
    assert {rates[id(p)] for p in groups["vision_head"]} == {1e-2}


def lying(part, made):
    """The part, making something else."""
    part.forward = made
    return part


def test_what_a_part_makes_is_held_to_its_spec():
    model = build_model(small_recipe())
    images, honest = [torch.rand(3, 16, 16)], model.vision.forward
    width = small_recipe().language.spec.hidden_dim
    for made, message in (
        (lambda images: None, r"vision:\S+ \(.*\) made a NoneType of 1 images; it must make VisionFeatures"),
        (
            lambda images: attrs.evolve(honest(images), counts=(1,)),
            r"made features \[\d+, \d+\] with .* and counts \(1,\) of 1 images; it must make features \[M, ",
        ),
        (lambda images: honest([*images, *images]), "counts .* of 1 images"),
    ):
        lying(model.vision, made)
        with pytest.raises(InterfaceError, match=message):
            model.encode_vision(images)
    lying(model.vision, honest)
    lying(model.vision_head, lambda x: x[..., :1])
    with pytest.raises(
        InterfaceError, match=rf"head:mlp \(perceptio\) made .*, 1\] of .*; it must make .*, {width}\]"
    ):
        model.encode_vision(images)
