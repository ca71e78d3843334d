import itertools

import attrs
import pytest

from perceptio.errors import RecipeError, UnknownNameError
from perceptio.experiments.grid import grid, leave_out, with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


@pytest.fixture
def tiny() -> Recipe:
    return load_recipe("perceptio_tiny")


def test_a_grid_is_every_combination_named_by_what_differs(tiny: Recipe) -> None:
    variants = grid(tiny, {"streams.depth.tokenizer.codebook_size": (32, 128), "train.lr": (0.001, 0.1)})
    assert list(variants) == [
        f"codebook_size={size},lr={lr}" for size in (32, 128) for lr in ("0.001", "0.1")
    ]
    assert len(variants) == 4
    recipe = variants["codebook_size=32,lr=0.1"]
    assert recipe.stream("depth").tokenizer.codebook_size == 32 and recipe.train.lr == 0.1
    assert tiny.stream("depth").tokenizer.codebook_size == 128
    assert "codebook_size=64,lr=0.1" not in variants and "lr=0.1" not in variants


def test_values_may_be_whole_parts_and_have_names(tiny: Recipe) -> None:
    fsq = load_recipe("fsq_depth").stream("depth").tokenizer
    by_component = grid(tiny, {"streams.depth.tokenizer": (tiny.stream("depth").tokenizer, fsq)})
    assert list(by_component) == ["tokenizer=vqvae", "tokenizer=fsq"]
    assert by_component["tokenizer=fsq"].stream("depth").tokenizer == fsq
    small = attrs.evolve(fsq, latent_dim=8)
    with pytest.raises(
        RecipeError, match="Two values of streams.depth.tokenizer are called fsq: .* a mapping"
    ):
        grid(tiny, {"streams.depth.tokenizer": (fsq, small)})
    named = grid(tiny, {"streams.depth.tokenizer": {"wide": fsq, "narrow, too": small}})
    assert list(named) == ["tokenizer=wide", "tokenizer=narrow_too"]


def test_settings_of_one_ending_are_told_apart(tiny: Recipe) -> None:
    variants = grid(
        tiny, {"train.steps": (5,), "streams.depth.training.steps": (7,), "data.permute_marks": (True,)}
    )
    assert list(variants) == ["train.steps=5,training.steps=7,permute_marks=true"]


def test_a_million_variants_are_counted_and_not_made(tiny: Recipe) -> None:
    variants = grid(tiny, {path: range(100) for path in ("train.lr", "train.steps", "train.warmup_steps")})
    assert len(variants) == 10**6
    assert list(itertools.islice(variants, 2)) == [f"lr=0,steps=0,warmup_steps={number}" for number in (0, 1)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("abc", "of train.lr are 'abc'; give a list"),
        ((), "train.lr has no values"),
        (3, "are 3; give a list"),
    ],
)
def test_values_that_are_none(tiny: Recipe, values: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        grid(tiny, {"train.lr": values})


def test_losses_are_left_out_one_at_a_time_with_the_head_that_nothing_reads_then(tiny: Recipe) -> None:
    variants = leave_out(tiny, "depth_count", "depth_cell_codes")
    assert list(variants) == ["without depth_count", "without depth_cell_codes"]
    terms = [weighted.loss.term for weighted in variants["without depth_count"].losses]
    assert len(terms) == len(tiny.losses) - 1 and "depth_count" not in terms
    assert list(variants["without depth_count"].heads) == ["depth"]
    assert not variants["without depth_cell_codes"].heads
    assert len(leave_out(tiny)) == len(tiny.losses)
    with pytest.raises(UnknownNameError, match="has no loss 'depth_cuont'; did you mean 'depth_count'"):
        leave_out(tiny, "depth_cuont")


def test_variants_are_joined_and_a_name_is_given_once(tiny: Recipe) -> None:
    rates = grid(tiny, {"train.lr": (0.1,)})
    joined = {"all": tiny} | rates | leave_out(tiny, "depth_count")
    assert list(joined) == ["all", "lr=0.1", "without depth_count"] and len(joined) == 3
    assert joined["all"] == tiny and joined["lr=0.1"].train.lr == 0.1
    assert "depth_count" not in str(joined["without depth_count"].losses)
    with pytest.raises(RecipeError, match="Two variants are called 'lr=0.1': give each a name of its own"):
        _ = rates | {"lr=0.1": tiny}


def test_settings_are_replaced_in_every_variant(tiny: Recipe) -> None:
    variants = with_all({"one": tiny} | grid(tiny, {"train.lr": (0.1, 0.2)}), {"train.steps": 7})
    assert [*variants] == ["one", "lr=0.1", "lr=0.2"]
    assert [(one.train.lr, one.train.steps) for one in variants.values()] == [
        (tiny.train.lr, 7),
        (0.1, 7),
        (0.2, 7),
    ]


def test_whether_a_variant_is_there_is_known_without_making_it(tiny: Recipe) -> None:
    variants = grid(tiny, {"train.lr": (-1.0, 0.1)})
    assert "lr=-1.0" in variants and "lr=0.2" not in variants
    with pytest.raises(RecipeError, match="lr is -1.0"):
        variants["lr=-1.0"]


@pytest.mark.parametrize("path", ["train.seed", "streams.depth.training.seed"])
def test_seeds_are_no_settings_of_variants(tiny: Recipe, path: str) -> None:
    with pytest.raises(RecipeError, match=f"The grid varies {path}, which an experiment sets .* --seeds"):
        grid(tiny, {path: (0, 1)})
