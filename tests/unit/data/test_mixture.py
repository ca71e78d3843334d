"""A mixture is compared with the folders before anything is built."""

import attrs
import pytest
from small import scenes_folder, small_recipe

from perceptio.data.mixture import check_mixture
from perceptio.errors import DataError, UnknownNameError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.recipe import DataConfig
from perceptio.training.trainer import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def recipe(*folders, **data):
    return small_recipe(data=DataConfig(folders=tuple(map(str, folders)), **data))


def test_tasks_that_no_folder_has_are_all_named(folder, tmp_path):
    mixed = recipe(folder, mixture={"referring": 1.0, "refering": 1.0, "chat": 1.0, "unused": 0.0})
    with pytest.raises(
        DataError, match="asks for 'chat', 'refering', and no folder.*There is: .*relative_depth"
    ):
        check_mixture(mixed)
    with pytest.raises(DataError, match="asks for 'chat', 'refering'"):
        train(mixed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_there_or_may_be_there_is_not_refused(folder, tmp_path):
    check_mixture(recipe(folder, mixture={"relative_depth": 1.0, "depth_map": 1.0}))
    check_mixture(recipe(folder, tmp_path / "not yet", mixture={"chat": 1.0}))
    check_mixture(recipe(folder, perceive="never", mixture={"referring": 1.0, "relative_depth": 1.0}))
    check_mixture(recipe(mixture={"chat": 1.0}))


def test_a_part_that_could_not_be_saved_is_named_before_training(folder, tmp_path):
    class Mine(LinearHeadConfig):
        """Not registered."""

    with pytest.raises(UnknownNameError, match="Mine is not registered.*register_heads of a plugin"):
        train(attrs.evolve(recipe(folder), vision_head=Mine()), tmp_path / "run")
