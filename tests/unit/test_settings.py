"""Recipes from files, and single settings by name."""

import sys
import types
from importlib.metadata import EntryPoint

import attrs
import pytest
from small import small_recipe

from perceptio import component, plugins
from perceptio.errors import RecipeError, UnknownNameError
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import DepthConvention
from perceptio.losses.masks import DiceConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataFolder, WeightedLoss
from perceptio.recipe_files import shipped_names
from perceptio.serialize import from_json, to_json
from perceptio.settings import load_recipe, read_recipe, with_settings
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.training.objective import Objective


def test_recipes_that_come_with_the_library_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = shipped_names()
    assert "perceptio_tiny" in names and len(names) >= 4
    for name in names:
        if not name.startswith("experiments/"):
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
            "losses.segmentation_dice.weight": "0.25",
            "losses.segmentation_mask_bce.sampling.num_points": 64,
            "data.mixture.attribute": "2",
            "streams.depth.tokenizer.latent_dim": "6",
            "streams.depth.codes_per_step": "8",
            "name": "other",
        },
    )
    assert changed.train.lr == 1e-4 and changed.train.steps == recipe.train.steps
    weights = {weighted.loss.name: weighted.weight for weighted in changed.losses}
    assert weights["dice"] == 0.25 and weights["mask_bce"] == 2.0
    assert changed.losses[5].loss.sampling.num_points == 64
    assert changed.data.mixture == {**recipe.data.mixture, "attribute": 2.0}
    depth = changed.stream("depth")
    assert (depth.tokenizer.latent_dim, depth.codes_per_step, changed.name) == (6, 8, "other")
    assert changed.streams[0] == recipe.streams[0]
    assert recipe == small_recipe()


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        ("train.lrr", 1, UnknownNameError, "train has no setting 'lrr'; did you mean 'lr'"),
        (
            "train.accumulate",
            2,
            UnknownNameError,
            "train has no setting 'accumulate': it is called 'grad_accumul",
        ),
        (
            "train",
            {"clip": 1.0},
            UnknownNameError,
            "train has no setting 'clip': it is called 'max_grad_norm' now.",
        ),
        (
            "prompt_state",
            "at",
            UnknownNameError,
            "A recipe has no setting 'prompt_state': it is called 'streams.segmentation.read_at' now.",
        ),
        (
            "depth.codebook_size",
            3,
            UnknownNameError,
            "A recipe has no setting 'depth': it is called 'streams.depth.tokenizer' now.",
        ),
        (
            "order",
            ["depth"],
            UnknownNameError,
            "no setting 'order': streams are perceived in the order in which",
        ),
        (
            "losses.dice.weight",
            1,
            UnknownNameError,
            "losses has no item 'dice': it is called 'segmentation_dice' now.",
        ),
        ("streams.dept.training", {}, UnknownNameError, "streams has no item 'dept'; did you mean 'depth'"),
        (
            "data.perceive",
            "apart",
            RecipeError,
            "data.perceive is 'apart', which is called 'separate_task' now.",
        ),
        ("trian.lr", 1, UnknownNameError, "A recipe has no setting 'trian'; did you mean 'train'"),
        ("losses.depth_tokn.weight", 1, UnknownNameError, "no item 'depth_tokn'; did you mean 'depth_token'"),
        ("train.lr.x", 1, UnknownNameError, "has no setting 'x'"),
        ("train.steps", "many", RecipeError, "train.steps is 'many'; it must be int"),
        ("train.steps", "0", RecipeError, "^train: steps is 0: it must be above 0"),
        (
            "streams.depth.training",
            {"steps": 0},
            RecipeError,
            "^streams.depth.training: steps is 0: it must be above 0",
        ),
        ("streams.depth.codes_per_step", 3, RecipeError, "3 codes per step do not divide"),
        ("streams.depth.codes_per_step", "groups", RecipeError, "is 'groups'; it must be int or 'group'"),
        (
            "streams.depth.tokenizer.convention.near_m",
            -1,
            RecipeError,
            r"depth.tokenizer.convention: near_m \(-1.0\) must be above 0",
        ),
        ("language.num_heads", 0, RecipeError, "num_heads|language has settings that cannot be worked with"),
        ("streams.depth.tokenizer", "fsqq", UnknownNameError, "component 'fsqq'; did you mean 'fsq'"),
        (
            "streams.depth.tokenizer",
            "vision:conv",
            RecipeError,
            "streams.depth.tokenizer is the component vision:conv; it must be a PerceptionTokenizer",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(path, value, error, message):
    with pytest.raises(error, match=message):
        with_settings(small_recipe(), {path: value})


def test_a_component_is_exchanged_by_its_name():
    changed = with_settings(
        small_recipe(), {"streams.depth.tokenizer": "fsq", "streams.depth.codes_per_step": "8"}
    )
    fixed = changed.stream("depth").tokenizer
    assert (fixed.name, fixed.levels) == ("fsq", (8, 4, 4))


def test_a_component_that_is_exchanged_by_name_keeps_the_settings_that_both_have():
    metric = DepthConvention(near_m=0.5, far_m=20.0)
    recipe = small_recipe()
    tokenizer = attrs.evolve(recipe.stream("depth").tokenizer, convention=metric, weights="trained")
    recipe = recipe.with_stream("depth", tokenizer=tokenizer)
    given = {"streams.depth.tokenizer": "fsq", "streams.depth.tokenizer.levels": "[4, 4]"}
    new = with_settings(recipe, given).stream("depth").tokenizer
    assert isinstance(new, FSQDepthConfig) and new.levels == (4, 4)
    assert (new.convention, new.grid, new.image_size) == (metric, tokenizer.grid, tokenizer.image_size)
    assert new.weights is None, "weights fit one component"
    assert with_settings(recipe, {"streams.depth.tokenizer": "vqvae"}) == recipe
    given = {"streams.depth.tokenizer": '{"component": "depth:fsq"}', "streams.depth.codes_per_step": 10}
    assert with_settings(recipe, given).stream("depth").tokenizer == FSQDepthConfig(), "a whole document"


@attrs.frozen(kw_only=True)
class AcmeDiceConfig(DiceConfig):
    """A plugin's loss of a built-in's name."""


ACME = WeightedLoss(loss=AcmeDiceConfig(stream="segmentation"))


@pytest.fixture
def acme(monkeypatch):
    """An installed plugin with a loss called as a built-in one is."""
    module = types.ModuleType("acme")
    module.register_losses = hookimpl(lambda: [AcmeDiceConfig])
    monkeypatch.setitem(sys.modules, "installed_acme", module)
    points = [EntryPoint(name="acme", value="installed_acme", group="perceptio")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    plugins.offered.cache_clear()


def test_losses_go_by_their_full_names(acme):
    recipe = small_recipe()
    recipe = attrs.evolve(recipe, losses=(*recipe.losses, ACME))
    changed = with_settings(
        recipe,
        {
            "losses.acme/segmentation_dice.weight": "0.125",
            "losses.acme/segmentation_dice.sampling.num_points": 9,
        },
    )
    assert (changed.losses[-1].weight, changed.losses[-1].loss.sampling.num_points) == (0.125, 9)
    assert changed.losses[:-1] == recipe.losses[:-1]
    assert {"segmentation_dice", "acme/segmentation_dice"} <= Objective(changed).weights.keys()
    assert from_json(to_json(changed)) == changed
    assert component("loss:acme/dice", stream="segmentation") == ACME.loss
    with pytest.raises(
        UnknownNameError,
        match="losses has no item 'acme/segmentation_dise'; did you mean 'acme/segmentation_dice'",
    ):
        with_settings(recipe, {"losses.acme/segmentation_dise.weight": 1})


def test_two_losses_that_are_not_registered_cannot_share_a_name():
    recipe = small_recipe()
    with pytest.raises(
        RecipeError,
        match="Two losses are called segmentation_dice; leave one out, give it another stream, or reg",
    ):
        Objective(attrs.evolve(recipe, losses=(*recipe.losses, ACME)))


def test_folders_and_losses_may_be_given_by_what_they_cannot_do_without():
    changed = with_settings(
        small_recipe(),
        {"data.folders": '["data/x", {"path": "y", "weight": 2}]', "losses": '["next_token"]', "heads": {}},
    )
    assert changed.data.folders == (DataFolder(path="data/x"), DataFolder(path="y", weight=2.0))
    assert changed.losses == (WeightedLoss(loss=NextTokenConfig()),)


@pytest.mark.parametrize("word", ["none", "None", "null"])
def test_none_is_written_as_python_or_as_json_writes_it(word):
    recipe = load_recipe("perceptio_lookup")
    changed = with_settings(recipe, {"point_values": word, "answer_format": "readout"})
    assert changed.point_values is None
    with pytest.raises(RecipeError, match="train.steps is 'none'"):
        with_settings(recipe, {"train.steps": "none"})


def test_text_that_is_json_of_another_type_stays_text_where_text_is_wanted():
    changed = with_settings(small_recipe(), {"name": "12", "streams.depth.tokenizer.weights": "12"})
    assert (changed.name, changed.stream("depth").tokenizer.weights) == ("12", "12")


def test_everything_that_is_wrong_with_settings_is_said_at_once():
    with pytest.raises(RecipeError) as refused:
        with_settings(
            small_recipe(),
            {"train.lrr": 1, "train.lr": "NaN", "train.steps": "many", "streams.depth.codes_per_step": 3},
        )
    assert [problem.partition(";")[0] for problem in refused.value.problems] == [
        "train has no setting 'lrr'",
        "train.lr is 'NaN'",
        "train.steps is 'many'",
    ]


def test_a_component_is_made_by_its_name():
    made = component("depth:fsq", levels=[4, 4], convention=DepthConvention(near_m=1.0, far_m=2.0))
    assert made == FSQDepthConfig(levels=(4, 4), convention=DepthConvention(near_m=1.0, far_m=2.0))
    with pytest.raises(UnknownNameError, match="no setting 'level'; did you mean 'levels'"):
        component("depth:fsq", level=3)
    with pytest.raises(RecipeError, match="names the component 'fsq'; it must be kind:name"):
        component("fsq")
    with pytest.raises(RecipeError, match="2 things are wrong"):
        component("depth:fsq", levels="8", grid=3)


RECIPE_WITH_ARGUMENTS = """
import attrs
from small import small_recipe


def recipe(size: str, *, steps: int = 3, scale=1):
    base = small_recipe()
    return attrs.evolve(base, name=f"{size!r} {scale!r}", train=attrs.evolve(base.train, steps=steps))
"""


def test_the_command_line_gives_a_recipe_arguments(tmp_path):
    file = tmp_path / "sized.py"
    file.write_text(RECIPE_WITH_ARGUMENTS)
    made = read_recipe(str(file), {"size": "1", "steps": "7", "scale": "[1]"}, {"train.lr": "1e-4"})
    assert (made.name, made.train.steps, made.train.lr) == ("'1' [1]", 7, 1e-4)
    with pytest.raises(
        RecipeError, match=r"recipe\(\) of .*sized.py \(missing a required argument: 'size'\): it takes size"
    ):
        read_recipe(str(file))
    with pytest.raises(RecipeError, match="The argument steps of recipe.* is 'many'; it must be int"):
        read_recipe(str(file), {"size": "1", "steps": "many"})


def test_a_recipe_that_is_changed_is_read_again(tmp_path):
    file = tmp_path / "mine.py"
    text = "from attrs import evolve\nfrom small import small_recipe\n"
    text += "def recipe():\n    return evolve(small_recipe(), name={})\n"
    for name in ("one", "two"):
        file.write_text(text.format(repr(name)))
        assert load_recipe(file).name == name


def test_settings_need_to_fit_only_together():
    recipe = load_recipe("perceptio_tiny")
    heads = {"language.num_heads": "3", "language.hidden_dim": 36, "language.num_kv_heads": "3"}
    assert with_settings(recipe, heads).language.num_heads == 3
    tokenizer = "streams.depth.tokenizer"
    size = {
        f"{tokenizer}.image_size": [320, 320],
        f"{tokenizer}.widths": [8, 8, 8, 8, 8],
        tokenizer: {"component": "depth:fsq"},
        f"{tokenizer}.grid": [10, 10],
        f"{tokenizer}.latent_dim": 8,
    }
    changed = with_settings(recipe, size).stream("depth").tokenizer
    assert changed.name == "fsq" and changed.image_size == (320, 320)
    both = {
        "losses.segmentation_dice.weight": 3,
        "losses.segmentation_dice.sampling.num_points": 9,
        "losses.segmentation_mask_bce.loss": {"component": "loss:mask_bce", "stream": "segmentation"},
    }
    losses = {weighted.loss.name: weighted for weighted in with_settings(recipe, both).losses}
    assert losses["dice"].weight == 3 and losses["dice"].loss.sampling.num_points == 9
    assert losses["mask_bce"].loss.sampling == DiceConfig(stream="segmentation").sampling
    with pytest.raises(RecipeError, match="(?s)2 things are wrong.*num_heads.*near_m"):
        with_settings(recipe, {"language.num_heads": 3, f"{tokenizer}.convention.near_m": None})


def test_settings_that_are_no_mapping_are_refused():
    with pytest.raises(RecipeError, match=r"The settings are \['train.lr=1'\]; they must be values by path"):
        with_settings(small_recipe(), ["train.lr=1"])
