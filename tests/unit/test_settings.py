"""Recipes from files, and single settings by name."""

import pytest
from small import small_recipe

from perceptio.errors import RecipeError, UnknownNameError
from perceptio.settings import SHIPPED, load_recipe, with_settings


def test_recipes_that_come_with_the_library_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [str(file.relative_to(SHIPPED).with_suffix("")) for file in SHIPPED.rglob("*.py")]
    assert "perceptio_tiny" in names and len(names) >= 4
    for name in names:
        load_recipe(name).check()


def test_a_recipe_finds_its_neighbors_from_anywhere(tmp_path):
    (tmp_path / "base.py").write_text("from small import small_recipe as recipe\n")
    (tmp_path / "variant.py").write_text(
        "import attrs\nfrom perceptio import load_recipe\n\n\ndef recipe():\n"
        "    return attrs.evolve(load_recipe('base', beside=__file__), name='variant')\n"
    )
    assert load_recipe(tmp_path / "variant").name == "variant"


def test_another_function_of_the_file_is_named_after_a_colon_and_may_take_arguments(tmp_path):
    (tmp_path / "base.py").write_text(
        "import attrs\nfrom small import small_recipe as recipe\n\n\n"
        "def named(name='none'):\n    return attrs.evolve(recipe(), name=name)\n"
    )
    assert load_recipe(tmp_path / "base.py:named").name == "none"
    assert load_recipe(f"{tmp_path}/base:named", name="mine").name == "mine"
    with pytest.raises(RecipeError, match=r"base.py has no function tiny\(\); write one that returns"):
        load_recipe(tmp_path / "base.py:tiny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"has no function recipe\(\)"),
        ("def recipe():\n    return 3\n", "returned a int; it must return a perceptio.Recipe"),
    ],
)
def test_a_file_without_a_recipe_is_refused(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "mine.py")


def test_an_error_inside_a_recipe_is_the_author_s_to_see(tmp_path):
    (tmp_path / "mine.py").write_text("def recipe():\n    return 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_recipe(tmp_path / "mine.py")


def test_an_unknown_recipe_names_the_near_miss():
    with pytest.raises(RecipeError, match="no recipe perceptio_tny.*did you mean 'perceptio_tiny'"):
        load_recipe("perceptio_tny")


def test_settings_reach_fields_losses_and_entries_and_leave_the_rest():
    recipe = small_recipe()
    changed = with_settings(
        recipe,
        {
            "train.lr": "1e-4",
            "losses.dice.weight": "0.25",
            "losses.mask_bce.sampling.num_points": 64,
            "data.mixture.attribute": "2",
            "depth.latent_dim": "6",
            "order": '["depth"]',
            "name": "other",
        },
    )
    assert changed.train.lr == 1e-4 and changed.train.steps == recipe.train.steps
    weights = {weighted.loss.name: weighted.weight for weighted in changed.losses}
    assert weights["dice"] == 0.25 and weights["mask_bce"] == 2.0
    assert changed.losses[5].loss.sampling.num_points == 64
    assert changed.data.mixture == {**recipe.data.mixture, "attribute": 2.0}
    assert (changed.depth.latent_dim, changed.order, changed.name) == (6, ("depth",), "other")
    assert recipe == small_recipe()


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        ("train.lrr", 1, UnknownNameError, "train has no setting 'lrr'; did you mean 'lr'"),
        ("trian.lr", 1, UnknownNameError, "A recipe has no setting 'trian'; did you mean 'train'"),
        ("losses.dise.weight", 1, UnknownNameError, "no item 'dise'; did you mean 'dice'"),
        ("train.lr.x", 1, UnknownNameError, "has no setting 'x'"),
        ("train.steps", "many", RecipeError, "train.steps is 'many'; it must be int"),
        ("train.steps", "0", RecipeError, "must be above 0"),
        ("order.0", '"depht"', RecipeError, "must be 'segmentation' or 'depth'"),
        ("codes_per_step", 3, RecipeError, "3 codes per step do not divide"),
        ("depth", "fsqq", UnknownNameError, "There is no depth component 'fsqq'; did you mean 'fsq'"),
        (
            "depth",
            "vision:conv",
            RecipeError,
            "depth is the component vision:conv; it must be a DepthTokenizer",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(path, value, error, message):
    with pytest.raises(error, match=message):
        with_settings(small_recipe(), {path: value})


def test_a_component_is_exchanged_by_its_name():
    changed = with_settings(small_recipe(), {"depth": "fsq", "codes_per_step": "10"})
    assert (changed.depth.name, changed.depth.levels) == ("fsq", (8, 4, 4))
