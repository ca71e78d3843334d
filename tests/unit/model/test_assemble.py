"""From a recipe to a model: what trains, what new rows start as, and what does not fit."""

import attrs
import pytest
import torch
from fakes import FakeDepthConfig, tiny_recipe
from small import small_recipe

from perceptio.errors import RecipeError, UnknownNameError
from perceptio.interfaces import CodebookDepthTokenizer
from perceptio.losses.depth_tokens import DepthTokenConfig
from perceptio.model import assemble
from perceptio.model.assemble import select_trained
from perceptio.model.perception_model import build_model
from perceptio.recipe import WeightedLoss
from perceptio.settings import load_recipe


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(small_recipe())


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_everything_trains_but_the_depth_tokenizer(model):
    names = trained(model)
    assert names and not any(name.startswith("depth.") for name in names)
    assert {name.split(".")[0] for name in names} >= {"vision", "language", "segmentation", "prompt_head"}
    model.train()
    assert not model.depth.training


def test_groups_are_chosen_by_name_and_pattern(model):
    select_trained(model, ("language.vocabulary", "segmentation.*"))
    names = trained(model)
    assert "language.embedding.weight" in names
    assert all(name.startswith(("language.embedding", "segmentation.")) for name in names)
    select_trained(model, model.recipe.train.train)


def test_an_unknown_group_names_those_there_are(model):
    recipe = attrs.evolve(
        model.recipe,
        train=attrs.evolve(
            model.recipe.train,
            train=("language.lora",),
            muon={"language.trnk": 0.1},
            lr_scale={"vision*": 0.1, "*.lora": 0.1},
        ),
    )
    with pytest.raises(UnknownNameError) as refused:
        build_model(recipe, device="meta")
    assert [problem.partition(", which")[0] for problem in refused.value.problems] == [
        "train.train names the parameter group 'language.lora'",
        "train.muon names the parameter group 'language.trnk'",
        "train.lr_scale names the parameter group '*.lora'",
    ]
    assert "did you mean 'language.trunk'? There is: heads, language" in str(refused.value)


def test_the_depth_tokenizer_cannot_be_trained_along(model):
    named = attrs.evolve(model.recipe, train=attrs.evolve(model.recipe.train, train=("vision", "depth")))
    with pytest.raises(RecipeError, match="frozen, its codes being the model's targets: leave it out"):
        build_model(named)
    select_trained(model, ("*",))
    assert trained(model) and not any(name.startswith("depth.") for name in trained(model))
    select_trained(model, model.recipe.train.train)


def test_codes_of_like_depth_start_alike():
    model = build_model(tiny_recipe(depth=FakeDepthConfig()))
    block = model.plan.depth
    rows = model.language.embed(torch.arange(block.codes.size) + block.codes.start).detach()
    distance = torch.cdist(rows, rows)
    last = block.codes.size - 1
    assert distance[0, 1] < distance[0, last] and distance[last, last - 1] < distance[last, 0]
    assert distance[0, 1] > 0.1


@pytest.fixture
def decoded(monkeypatch):
    """How many maps each call of a depth tokenizer's `decode` made."""
    counts, decode = [], CodebookDepthTokenizer.decode
    monkeypatch.setattr(
        CodebookDepthTokenizer, "decode", lambda self, codes: counts.append(len(codes)) or decode(self, codes)
    )
    return counts


def test_codes_are_decoded_a_few_at_a_time_and_start_the_same(model, decoded, monkeypatch):
    torch.manual_seed(0)
    together = build_model(small_recipe())
    assert decoded == [8]
    monkeypatch.setattr(assemble, "DECODED_PIXELS", 3 * 16 * 16)
    torch.manual_seed(0)
    apart = build_model(small_recipe())
    assert decoded[1:] == [3, 3, 2]
    ids = torch.arange(model.plan.size)
    torch.testing.assert_close(apart.language.embed(ids), together.language.embed(ids))


def test_a_large_codebook_starts_by_its_vectors_alone(decoded, monkeypatch):
    monkeypatch.setattr(assemble, "MOST_DECODED", 7)
    model = build_model(small_recipe())
    assert not decoded
    vectors = model.depth.codebook_KC
    rows = model.language.embed(torch.arange(8) + model.plan.depth.codes.start).detach()
    near, far = (
        torch.cdist(vectors, vectors).fill_diagonal_(torch.inf).argmin(1),
        torch.cdist(vectors, vectors).argmax(1),
    )
    nearer = torch.cdist(rows, rows)[torch.arange(8), near] < torch.cdist(rows, rows)[torch.arange(8), far]
    assert nearer.all()


def test_rows_that_a_checkpoint_fills_are_not_thought_of(decoded):
    build_model(small_recipe(), load_weights=False)
    build_model(small_recipe(), load_weights=("language",))
    assert not decoded


def test_cells_start_by_where_they_lie():
    model = build_model(tiny_recipe())
    h, w = model.plan.grid
    rows = model.language.embed(torch.arange(h * w) + model.plan.locations.start).detach()
    neighbor, corner = (rows[0] - rows[1]).norm(), (rows[0] - rows[h * w - 1]).norm()
    assert neighbor < corner


def test_parts_are_those_that_are_built():
    recipe = small_recipe()
    children = {name for name, _ in build_model(recipe, device="meta").named_children()}
    assert set(recipe.parts) == children - {"heads"} | {"heads.cell_codes"}


@pytest.mark.parametrize("quantizer", ["vqvae", "fsq"])
def test_on_the_meta_device_a_model_has_names_shapes_and_what_trains_and_reads_nothing(quantizer):
    recipe = load_recipe("perceptio_tiny" if quantizer == "vqvae" else "fsq_depth")
    absent = attrs.evolve(recipe, depth=attrs.evolve(recipe.depth, weights="nowhere/at-all"))
    outline, whole = build_model(absent, device="meta"), build_model(recipe)
    assert all(parameter.is_meta for parameter in outline.parameters() if parameter.requires_grad)
    shapes, real = (
        {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
        for model in (outline, whole)
    )
    assert shapes == real
    assert trained(outline) == trained(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": None}, "order has 'depth', but no depth tokenizer"),
        ({"segmentation": None}, "order has 'segmentation', but no segmentation tokenizer"),
        ({"order": ("depth", "depth")}, "names a stream twice"),
        ({"codes_per_step": 3}, "3 codes per step do not divide the 16 codes of vqvae's"),
        ({"prompt_head": None}, "is prompted by hidden states; give a prompt_head"),
        ({"depth": None, "order": ("segmentation",)}, "the readout format speaks depth codes"),
        (
            {"depth": None, "order": (), "answer_format": "direct", "heads": {}},
            "the loss depth_marker needs a depth tokenizer, and there is none",
        ),
        (
            {"losses": (WeightedLoss(loss=DepthTokenConfig()),) * 2},
            "depth_token is given 2 times; once is enough",
        ),
        (
            {"depth": None, "order": (), "answer_format": "direct", "losses": ()},
            "the heads cell_codes predict depth codes; give a depth tokenizer",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        build_model(attrs.evolve(small_recipe(), **change))
