"""Streams of all four kinds in one model: what a forward pass gives of each, and that decoding writes the same."""

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import pytest
import torch
from colors import COLORS, FED_BACK, ROWS, WIDTH
from fakes import FakeDepthConfig, FakeMaskCodes, FakeMaskCodesConfig, FakeMultiMapConfig, tiny_recipe
from torch import Tensor

from perceptio.data.collate import Collate
from perceptio.evaluation.replacements import own_values
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.interfaces import (
    GenerationSettings,
    Sample,
    Turn,
)
from perceptio.model.inference.answer import decode_streams
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.recipe import Stream

DEPTH = Stream(name="depth", tokenizer=FakeDepthConfig(), codes_per_step=4)
MASKS = Stream(name="masks", tokenizer=FakeMultiMapConfig(), head=PromptMLPConfig())
QUADRANTS = Stream(name="quadrants", tokenizer=FakeMaskCodesConfig(), codes_per_step=2)
ALL = ("colors", "masks", "quadrants", "depth")
IMAGE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
QUESTION = Turn(question="segment the sphere", answer="", task="")


def model_of(*streams: Stream) -> PerceptionModel:
    torch.manual_seed(0)
    model = build_model(tiny_recipe(streams=streams, losses=())).eval()
    with torch.no_grad():  # Random rows are small: larger ones make every choice clear of rounding.
        for parameter in model.language.parameters():
            parameter.mul_(1.5)
    return model


@pytest.fixture(scope="module", params=[COLORS, FED_BACK, attrs.evolve(COLORS, read_at="previous_token")])
def model(request: pytest.FixtureRequest) -> PerceptionModel:
    return model_of(request.param, MASKS, QUADRANTS, DEPTH)


@torch.inference_mode()
def test_a_forward_pass_computes_what_decoding_wrote(model: PerceptionModel) -> None:
    """Every stream once, in the recipe's order; objects twice. Fed-back rows are those that decoding read."""
    settings = GenerationSettings(streams=ALL, force=ALL, max_objects=1, max_new_tokens=2)
    written = generate(model, [QUESTION], [IMAGE], [0], settings).streams
    masks = (torch.ones(16, 16, dtype=torch.bool).numpy(),)
    turn = attrs.evolve(QUESTION, answer="x", masks=masks, perceive=ALL)
    codes = {"depth": written["depth"].codes_BOL[0, 0]}
    sample = Sample(turns=(turn,), image_3HW=IMAGE, codes=codes)
    batch = model.with_targets(Collate.of(model.recipe, model.language.text_tokenizer)([sample]))
    # The codes of objects are their targets'; here they are to be those that were written.
    held, block = batch.streams["quadrants"], model.plan.streams["quadrants"]
    batch.ids_T[held.slots_NY[0]] = written["quadrants"].codes_BOL[0, 0] + block.codebooks[0].start
    rows_BOmP = written["colors"].rows_BOmP
    if rows_BOmP is not None:
        colors = attrs.evolve(batch.streams["colors"], targets=rows_BOmP[0])
        batch = attrs.evolve(batch, streams={**batch.streams, "colors": colors})

    wanted = {f"streams.{name}.rows_NmP" for name in ("colors", "masks")}
    wanted |= {f"streams.{name}.logits_NXV" for name in ("quadrants", "depth")}
    output = model(batch, wanted).streams

    colors_1nD = written["colors"].hidden_BOnD[:, 0]
    rows_1mP = model.stream("colors").read(colors_1nD) if rows_BOmP is None else rows_BOmP[:, 0]
    torch.testing.assert_close(output["colors"].rows_NmP, rows_1mP, atol=1e-4, rtol=1e-4)
    prompts_1mP = model.stream("masks").read(written["masks"].hidden_BOnD[:, 0])
    torch.testing.assert_close(output["masks"].rows_NmP, prompts_1mP, atol=1e-4, rtol=1e-4)
    for name in ("quadrants", "depth"):
        block = model.plan.streams[name]
        logits_1LK = torch.cat(written[name].logits, 2)[:, 0]
        found_1LK = output[name].logits_NXV[:, 1:-1, block.codebooks[0].slice]
        torch.testing.assert_close(found_1LK, logits_1LK, atol=1e-4, rtol=1e-4)


def test_every_stream_decodes_for_itself(model: PerceptionModel) -> None:
    answer = model.ask(IMAGE, "segment the sphere", perceive=ALL)

    assert list(answer.decoded) == ["colors", "masks", "quadrants", "depth"]
    assert answer["colors"].shape == (ROWS, WIDTH)
    assert answer["depth"].values_HW.shape == (16, 16)
    assert all(mask.shape == (16, 16) for mask in (*answer["masks"], *answer["quadrants"]))
    assert len(answer["masks"]) >= 1 and len(answer["quadrants"]) >= 1
    assert set(answer.codes) == {"quadrants", "depth"} and len(answer.codes["depth"]) == 16
    assert answer.tokens[:3] == ("<color>",) * 3

    two = model.ask(IMAGE, "segment the sphere", perceive=("depth", "colors"))
    assert two["masks"] == () and two["colors"] is not None
    assert two.tokens[0] == "<depth_start>" and two.tokens[18:21] == ("<color>",) * 3


@torch.inference_mode()
def test_given_inputs_take_the_place_of_those_at_special_tokens(model: PerceptionModel) -> None:
    """A model's own change nothing of what follows; zeros do."""
    settings = GenerationSettings(streams=("colors", "depth"), force=("colors", "depth"), max_new_tokens=8)
    own = generate(model, [QUESTION], [IMAGE], [0], settings)
    inputs_1nD = own_values(model, "colors", own)
    assert inputs_1nD is not None and inputs_1nD.shape == (1, ROWS, 32)
    same, other = (
        generate(model, [QUESTION], [IMAGE], [0], settings, given_inputs={"colors": given_1nD})
        for given_1nD in (inputs_1nD, torch.zeros_like(inputs_1nD))
    )
    assert torch.equal(same.written_BW, own.written_BW)
    for name in ("colors", "depth"):
        torch.testing.assert_close(same.streams[name].hidden_BOnD, own.streams[name].hidden_BOnD)
    depth, changed = (torch.cat(one.streams["depth"].logits, 2) for one in (own, other))
    torch.testing.assert_close(torch.cat(same.streams["depth"].logits, 2), depth, atol=1e-4, rtol=1e-4)
    assert float((depth - changed).abs().max()) > 0.01


@torch.inference_mode()
def test_rows_write_different_numbers_of_objects(model: PerceptionModel) -> None:
    """What a row wrote of a stream stays with that row, whoever wrote more."""
    settings = GenerationSettings(streams=("quadrants",), force=("quadrants",), max_objects=3)
    turns = [QUESTION, attrs.evolve(QUESTION, question="is")]
    written = generate(model, turns, [IMAGE], [0, 0], settings)
    decoded = decode_streams(model, [IMAGE], [0, 0], written)["quadrants"]
    for row, turn in enumerate(turns):
        alone = generate(model, [turn], [IMAGE], [0], settings)
        (expected,) = decode_streams(model, [IMAGE], [0], alone)["quadrants"]
        assert len(decoded[row]) == len(expected) == int(written.streams["quadrants"].opened_BO[row].sum())
        assert all((one == other).all() for one, other in zip(decoded[row], expected, strict=True))


class LitQuadrants(FakeMaskCodes):
    """Codes that stand for how bright their picture is."""

    def encode_image(self, pixels_B3HW: Tensor) -> Tensor:
        return pixels_B3HW.mean((1, 2, 3))

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Any = None
    ) -> Tensor:
        assert all(one.dtype == torch.float32 for one in probabilities)
        return features[image_index_N]


@attrs.frozen(kw_only=True)
class LitQuadrantsConfig(FakeMaskCodesConfig):
    """Quadrants by the light of the picture."""

    name: ClassVar[str] = "lit_quadrants"

    def build(self) -> LitQuadrants:
        return LitQuadrants(self.spec)


@torch.no_grad()
def test_codes_are_merged_with_the_features_of_their_own_picture() -> None:
    model = model_of(Stream(name="quadrants", tokenizer=LitQuadrantsConfig()), DEPTH)
    masks = (torch.ones(16, 16, dtype=torch.bool).numpy(),) * 2
    turn = attrs.evolve(QUESTION, answer="x", masks=masks, perceive=("quadrants",))
    samples = [Sample(turns=(turn,), image_3HW=IMAGE * light) for light in (1.0, 0.5)]
    batch = model.with_targets(Collate.of(model.recipe, model.language.text_tokenizer)(samples))

    soft = model(batch, {"streams.quadrants.soft"}).streams["quadrants"].soft

    bright = float(IMAGE.mean())
    torch.testing.assert_close(soft, torch.tensor([bright, bright, bright / 2, bright / 2]))


def test_what_is_fed_back_trains_through_its_feedback() -> None:
    model = model_of(FED_BACK, DEPTH)
    turn = attrs.evolve(QUESTION, answer="x", perceive=("colors",))
    collate = Collate.of(model.recipe, model.language.text_tokenizer)
    batch = model.with_targets(collate([Sample(turns=(turn,), image_3HW=IMAGE)]))

    output = model(batch, {"text_logits_RV", "streams.colors.decoded"})
    output.text_logits_RV.square().sum().backward()

    feedback = model.get_submodule("streams.colors.feedback")
    assert all(p.grad is not None and bool(p.grad.any()) for p in feedback.parameters())
    torch.testing.assert_close(output.streams["colors"].decoded, output.streams["colors"].rows_NmP)
    embedded = model.language.embed(batch.ids_T)
    assert not torch.equal(model._fed_back(embedded, batch), embedded)


def test_a_batch_without_a_stream_computes_nothing_of_it(model: PerceptionModel) -> None:
    turn = attrs.evolve(QUESTION, answer="x", perceive=("colors",))
    collate = Collate.of(model.recipe, model.language.text_tokenizer)
    batch = model.with_targets(collate([Sample(turns=(turn,), image_3HW=IMAGE)]))

    output = model(batch, {"streams.depth.logits_NXV", "streams.depth.soft", "streams.masks.decoded"})

    assert output.streams == {} and output.text_logits_RV is None
