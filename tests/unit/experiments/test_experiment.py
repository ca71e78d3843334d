from pathlib import Path

import pytest

from perceptio.errors import RecipeError
from perceptio.experiments.experiment import Experiment, load_experiment
from perceptio.settings import load_recipe

HEAD = "from perceptio import load_recipe\n"
WHOLE = f"""{HEAD}
BASELINE = "a"


def variants():
    return {{"a": load_recipe("perceptio_tiny"), "b": load_recipe("fsq_depth")}}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.py"
    file.write_text(text)
    return file


def test_a_file_says_what_is_compared(tmp_path: Path) -> None:
    experiment = load_experiment(written(tmp_path, WHOLE))
    assert (experiment.name, experiment.baseline, list(experiment.variants)) == ("mine", "a", ["a", "b"])
    assert experiment.recipe("b").name == load_recipe("fsq_depth").name


def test_tiny_is_another_function_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no function tiny\(\); .*, or leave --tiny out"):
        load_experiment(written(tmp_path, WHOLE), tiny=True)
    small = f"{WHOLE}\n\ndef tiny():\n    return {{'a': load_recipe('perceptio_8b:tiny')}}\n"
    experiment = load_experiment(written(tmp_path, small), tiny=True)
    assert experiment.name == "mine-tiny" and list(experiment.variants) == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BASELINE = 'a'", r"has no function variants\(\); write one that returns variants by their names"),
        ("def variants(): return {}", 'names no baseline; write BASELINE = "NAME OF A VARIANT"'),
        (
            f"{HEAD}BASELINE = 'a'\ndef variants(): return [1]",
            r"variants\(\) of .* returned a list; it must return",
        ),
        (
            f"{HEAD}BASELINE = 'a'\ndef variants(): return {{}}",
            "has no variants: there is nothing to compare",
        ),
        (WHOLE.replace('"b":', '"a":'), "line 7 names 'a' twice in one dictionary"),
        (
            WHOLE.replace('BASELINE = "a"', 'BASELINE = "c"'),
            "The baseline .* is 'c', which is none of its variants",
        ),
    ],
)
def test_a_file_that_is_no_experiment(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_experiment(written(tmp_path, text))
    with pytest.raises(RecipeError, match="There is no experiment"):
        load_experiment(tmp_path / "nothing.py")


def test_what_is_wrong_with_a_variant_names_it() -> None:
    tiny = load_recipe("perceptio_tiny")
    experiment = Experiment(name="x", baseline="a", variants={"a": tiny, "b": "perceptio_tiny"})
    with pytest.raises(RecipeError, match="The variant 'b' is of type str; it must be a perceptio.Recipe"):
        experiment.recipe("b")
