"""From a recipe to a model: what trains, what new rows start as, and what does not fit."""

import attrs
import pytest
import torch
from fakes import FakeMultiMapConfig, tiny_recipe
from small import small_recipe

from perceptio.errors import RecipeError, UnknownNameError
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.interfaces import CodebookDepthTokenizer, depth
from perceptio.losses.code_tokens import TokenConfig
from perceptio.model.groups import select_trained
from perceptio.model.perception_model import build_model
from perceptio.recipe import Recipe, Stream, WeightedLoss
from perceptio.settings import load_recipe


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(small_recipe())


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_everything_trains_but_tokenizers_of_codes(model):
    names = trained(model)
    assert names and not any(name.startswith("streams.depth.") for name in names)
    assert {name.split(".")[0] for name in names} >= {"vision", "language", "streams", "heads"}
    model.train()
    assert not model.stream("depth").tokenizer.training


def test_groups_are_chosen_by_name_and_pattern(model):
    select_trained(model, ("language.vocabulary", "streams.segmentation.tokenizer.*"))
    names = trained(model)
    assert "language.embedding.weight" in names
    assert all(name.startswith(("language.embedding", "streams.segmentation.tokenizer.")) for name in names)
    select_trained(model, model.recipe.train.train)


def test_an_unknown_group_names_those_there_are(model):
    recipe = attrs.evolve(
        model.recipe,
        train=attrs.evolve(
            model.recipe.train,
            train=("language.lora",),
            muon={"language.trnk": 0.1},
            lr_scale={"vision*": 0.1, "language.lor*": 0.1},
        ),
    )
    with pytest.raises(UnknownNameError) as refused:
        build_model(recipe, device="meta")
    assert [problem.partition(", which")[0] for problem in refused.value.problems] == [
        "train.train names the parameter group 'language.lora'",
        "train.muon names the parameter group 'language.trnk'",
        "train.lr_scale names the parameter group 'language.lor*'",
    ]
    assert "did you mean 'language.trunk'? There is: heads, heads.depth, language" in str(refused.value)


def test_a_tokenizer_of_codes_cannot_be_trained_along(model):
    named = ("vision", "streams.depth.tokenizer")
    recipe = attrs.evolve(model.recipe, train=attrs.evolve(model.recipe.train, train=named))
    with pytest.raises(RecipeError, match="frozen, as its codes are the model's targets: leave it out"):
        build_model(recipe)
    select_trained(model, ("*",))
    assert trained(model) and not any(name.startswith("streams.depth.") for name in trained(model))
    select_trained(model, model.recipe.train.train)


def test_codes_of_like_depth_start_alike():
    model = build_model(tiny_recipe())
    span = model.plan.readout_block.codebooks[0]
    rows = model.language.embed(torch.arange(span.size) + span.start).detach()
    distance = torch.cdist(rows, rows)
    last = span.size - 1
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
    monkeypatch.setattr(depth, "DECODED_PIXELS", 3 * 16 * 16)
    torch.manual_seed(0)
    apart = build_model(small_recipe())
    assert decoded[1:] == [3, 3, 2]
    ids = torch.arange(model.plan.size)
    torch.testing.assert_close(apart.language.embed(ids), together.language.embed(ids))


def test_a_large_codebook_starts_by_its_vectors_alone(decoded, monkeypatch):
    monkeypatch.setattr(depth, "MOST_DECODED", 7)
    model = build_model(small_recipe())
    assert not decoded
    vectors = model.stream("depth").tokenizer.codebook_KC
    rows = model.language.embed(torch.arange(8) + model.plan.readout_block.codebooks[0].start).detach()
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
    parts = build_model(recipe, device="meta").parts()
    assert set(recipe.parts) == set(parts)
    assert {"vision", "streams.segmentation.tokenizer", "streams.segmentation.head", "heads.depth"} <= set(
        parts
    )


@pytest.mark.parametrize("quantizer", ["vqvae", "fsq"])
def test_on_the_meta_device_a_model_has_names_shapes_and_what_trains_and_reads_nothing(quantizer):
    recipe = load_recipe("perceptio_tiny" if quantizer == "vqvae" else "fsq_depth")
    tokenizer = attrs.evolve(recipe.stream("depth").tokenizer, weights="nowhere/at-all")
    absent = recipe.with_stream("depth", tokenizer=tokenizer)
    outline, whole = build_model(absent, device="meta"), build_model(recipe)
    assert all(parameter.is_meta for parameter in outline.parameters() if parameter.requires_grad)
    shapes, real = (
        {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
        for model in (outline, whole)
    )
    assert shapes == real
    assert trained(outline) == trained(whole)


def without(stream: str, **changes) -> Recipe:
    """The small recipe without a stream."""
    recipe = small_recipe()
    return attrs.evolve(recipe, streams=tuple(one for one in recipe.streams if one.name != stream), **changes)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            attrs.evolve(small_recipe(), streams=small_recipe().streams * 2),
            "streams has 2 of the name 'segmentation'; give each a name of its own",
        ),
        (
            attrs.evolve(small_recipe(), streams=(attrs.evolve(small_recipe().streams[1], name="a b"),)),
            "streams has the name 'a b'; use letters, digits and _ only",
        ),
        (
            small_recipe().with_stream("depth", codes_per_step=3),
            "streams.depth.codes_per_step: 3 codes per step do not divide groups of 16 codes",
        ),
        (
            small_recipe().with_stream("segmentation", head=None),
            "streams.segmentation: pixel_features reads hidden states; give the stream a head",
        ),
        (
            small_recipe().with_stream("segmentation", codes_per_step=2),
            "streams.segmentation.codes_per_step has no codes to count",
        ),
        (
            small_recipe().with_stream("depth", head=MLPHeadConfig()),
            "streams.depth.head has nothing to read, because vqvae is written as codes; set it to None",
        ),
        (
            small_recipe().with_stream("segmentation", feedback=MLPHeadConfig()),
            "set streams.segmentation.read_at to 'previous_token'",
        ),
        (
            attrs.evolve(
                small_recipe(),
                streams=(
                    *small_recipe().streams,
                    Stream(name="again", tokenizer=FakeMultiMapConfig(), head=MLPHeadConfig()),
                ),
            ),
            "the streams 'segmentation' and 'again' both have the special token '\\[SEG\\]'",
        ),
        (without("depth"), "the readout format speaks the codes of a grid, and no stream has one"),
        (without("depth"), "heads names the stream 'depth', which is not among streams"),
        (
            without("depth", answer_format="direct", heads={}),
            "the loss marker is about the stream 'depth', which the recipe has not",
        ),
        (
            attrs.evolve(small_recipe(), readout="segmentation"),
            "readout names the stream 'segmentation', whose codes are not those of one grid",
        ),
        (
            attrs.evolve(small_recipe(), losses=(WeightedLoss(loss=TokenConfig(stream="depth")),) * 2),
            "the loss token is given twice as depth_token; once is enough",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(recipe, message):
    with pytest.raises(RecipeError, match=message):
        build_model(recipe)
