"""Which data a model is evaluated on where none is named."""

from pathlib import Path

import pytest
from fakes import tiny_recipe

from perceptio.cli.evaluate import _of_recipe
from perceptio.errors import DataError
from perceptio.recipe import DataConfig, DataFolder


def test_validation_data_comes_first_and_training_data_with_a_warning():
    trained = DataConfig(folders=(DataFolder(path="train"),))
    folders, warning = _of_recipe(tiny_recipe(data=trained))
    assert folders == [Path("train")] and "which flatters it: name others with --data" in warning
    measured = DataConfig(folders=trained.folders, validation=("held-out", "other"))
    assert _of_recipe(tiny_recipe(data=measured)) == ([Path("held-out"), Path("other")], None)


def test_a_recipe_without_data_is_told_to_name_some():
    with pytest.raises(DataError, match="The recipe names no data; name a folder with --data"):
        _of_recipe(tiny_recipe())
