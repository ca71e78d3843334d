"""Where recipes lie: those that come with the library, and copies of them."""

import attrs
import pytest

from perceptio.errors import DataError, RecipeError, UnknownNameError
from perceptio.experiments.experiment import load_experiment
from perceptio.recipe_files import (
    SHIPPED,
    ShippedRecipe,
    bases_of,
    copy_recipe,
    find_recipe,
    shipped_names,
    shipped_recipes,
)
from perceptio.settings import load_recipe


def test_what_comes_with_the_library_is_said_in_a_line_each():
    recipes = {recipe.name: recipe for recipe in shipped_recipes()}
    assert list(recipes) == list(shipped_names()) and len(recipes) >= 19
    for recipe in recipes.values():
        assert recipe.summary.endswith(".") and "arXiv" not in recipe.summary, recipe.name
    assert recipes["sa2va"] == ShippedRecipe(
        name="sa2va",
        file=SHIPPED / "sa2va.py",
        summary="Sa2VA on images: InternVL2.5 whose [SEG] tokens prompt SAM 2.",
        paper="2501.04001",
        functions=("recipe(size='8b')", "tiny(size='8b')"),
    )
    assert recipes["ablations/direct"].paper is None


@pytest.mark.parametrize("name", shipped_names())
def test_a_copy_is_the_same_recipe_wherever_it_lies(name, tmp_path, monkeypatch):
    """Were one not found again, its `load_recipe` would name the other by a path such as `../perceptio_tiny.py`."""
    monkeypatch.chdir(tmp_path)
    copy = copy_recipe(name, tmp_path / "mine.py")
    if name.startswith("experiments/"):
        assert dict(load_experiment(copy).variants) == dict(load_experiment(name).variants)
    else:
        assert load_recipe(copy) == load_recipe(name)
    assert copy.read_bytes() == (SHIPPED / f"{name}.py").read_bytes()


def test_a_copy_that_is_called_as_what_it_starts_from_starts_from_that(tmp_path):
    copy = copy_recipe("ablations/direct", tmp_path / "perceptio_tiny.py")
    assert load_recipe(copy).name == "direct"
    assert bases_of(copy) == (SHIPPED / "perceptio_tiny.py",)


def test_a_copy_starts_from_the_one_beside_it(tmp_path):
    copy = copy_recipe("fsq_depth", tmp_path)
    assert copy == tmp_path / "fsq_depth.py" and bases_of(copy) == (SHIPPED / "perceptio_tiny.py",)
    base = copy_recipe("perceptio_tiny", tmp_path)
    base.write_text(base.read_text().replace("hidden_dim=128", "hidden_dim=64"))
    assert bases_of(copy) == (base,)
    assert load_recipe(copy).language == attrs.evolve(load_recipe("fsq_depth").language, hidden_dim=64)


def test_nothing_is_overwritten(tmp_path):
    mine = tmp_path / "perceptio_tiny.py"
    mine.write_text("mine")
    for place in (mine, tmp_path):
        with pytest.raises(DataError, match="perceptio_tiny.py is there already and is not overwritten"):
            copy_recipe("perceptio_tiny", place)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["ablations/drect", "../recipes/ablations/direct"])
def test_an_unknown_name_is_a_near_miss(tmp_path, name):
    wanted = "comes with the library; did you mean 'ablations/direct'?"
    with pytest.raises(UnknownNameError, match=wanted.replace("?", r"\?")):
        copy_recipe(name, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_copy_that_is_no_python_file_or_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(DataError, match="mine is neither a folder nor a Python file.*write .*mine.py, say"):
        copy_recipe("fsq_depth", tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="mine.py could not be written .*: choose another place"):
        copy_recipe("fsq_depth", tmp_path / "file" / "mine.py")


def test_a_recipe_that_starts_from_nothing_that_is_there_says_so(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from perceptio import load_recipe\nload_recipe('bse', beside=__file__)\n"
    )
    with pytest.raises(RecipeError, match="There is no recipe bse"):
        bases_of(tmp_path / "mine.py")
    with pytest.raises(RecipeError, match="There is no recipe mine"):
        find_recipe("mine", beside=tmp_path / "mine.py")


def test_a_suffix_is_never_exchanged(tmp_path):
    (tmp_path / "mine.py").touch()
    assert find_recipe(tmp_path / "mine") == tmp_path / "mine.py"
    with pytest.raises(RecipeError, match="There is no recipe .*mine.old"):
        find_recipe(tmp_path / "mine.old")
