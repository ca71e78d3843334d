"""A mixture is compared with the folders before anything is built."""

import json

import attrs
import pytest
from small import scenes_folder, small_recipe

from perceptio.data.mixture import check_mixture
from perceptio.errors import DataError, UnknownNameError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.recipe import DataConfig, Stream
from perceptio.tokenizers.perception.map import MapFSQConfig
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


def without(folder, place, key):
    """The same lines without what is called so, and no files."""
    place.mkdir()
    (place / "dataset.json").write_text((folder / "dataset.json").read_text())
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for line in lines:
        del line[key]
        line["turns"] = [turn for turn in line["turns"] if key != "masks" or turn["task"] != "referring"]
    (place / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def with_edges(base):
    tokenizer = MapFSQConfig(
        map="edges",
        levels=(4, 3),
        grid=(4, 4),
        image_size=(16, 16),
        widths=(4, 8),
        latent_dim=4,
        residual_blocks=1,
    )
    return attrs.evolve(base, streams=(*base.streams, Stream(name="outlines", tokenizer=tokenizer)))


def test_a_stream_that_no_sample_has_the_target_of_is_refused(folder, tmp_path):
    bare, blind = without(folder, tmp_path / "bare", "maps"), without(folder, tmp_path / "blind", "depth")
    check_mixture(with_edges(recipe(bare, folder)))
    with pytest.raises(
        DataError,
        match=f"stream 'outlines' is learned from the map 'edges', and no sample of {bare}, {bare} has it",
    ):
        check_mixture(with_edges(recipe(bare, bare)))
    with pytest.raises(
        DataError, match=f"The stream 'depth' is learned from depth, and no sample of {blind} has"
    ):
        check_mixture(recipe(blind))
    undeclared = without(bare, tmp_path / "undeclared", "depth")
    (undeclared / "dataset.json").write_text('{"format": "perceptio-data", "version": 1}')
    for mixture in ({"relative_depth": 1.0}, {"outlines_map": 1.0}):
        with pytest.raises(
            DataError, match="'depth' is learned from depth.* 'outlines' is learned from the map"
        ):
            check_mixture(with_edges(recipe(undeclared, mixture=mixture)))


def test_a_stream_that_nothing_of_the_mixture_writes_needs_no_target(folder, tmp_path):
    blind = without(folder, tmp_path / "blind", "depth")
    check_mixture(recipe(blind, mixture={"attribute": 1.0}))
    check_mixture(recipe(blind, perceive="never"))
    unmasked = without(folder, tmp_path / "unmasked", "masks")
    check_mixture(recipe(unmasked, mixture={"relative_depth": 1.0}))
    with pytest.raises(DataError, match="'depth' is learned from depth"):
        check_mixture(recipe(blind, mixture={"attribute": 1.0}, perceive="separate_task"))


def test_a_part_that_could_not_be_saved_is_named_before_training(folder, tmp_path):
    class Mine(LinearHeadConfig):
        """Not registered."""

    with pytest.raises(UnknownNameError, match="Mine is not registered.*register_heads of a plugin"):
        train(attrs.evolve(recipe(folder), vision_head=Mine()), tmp_path / "run")
