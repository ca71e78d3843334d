"""A folder gives back what it holds, or one sentence that says why not."""

import json

import attrs
import pytest
import torch
from small import small_recipe

from perceptio.errors import CheckpointError
from perceptio.model.assemble import build_model
from perceptio.model.checkpoint import load, save


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(small_recipe()).eval()


@pytest.fixture
def saved(model, tmp_path):
    save(model, tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_whole(model, saved):
    loaded = load(saved)
    assert loaded.recipe == model.recipe
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    mine, theirs = (
        m.ask(image, "Which point is closest?", points=[(0.2, 0.3), (0.8, 0.5)]) for m in (model, loaded)
    )
    assert mine.tokens == theirs.tokens
    assert (saved / "text_tokenizer" / "tokenizer.json").exists()


def test_a_part_comes_back_as_the_part(model, tmp_path):
    config = model.recipe.depth
    save(model.depth, tmp_path / "tokenizer", config=config)
    loaded = load(tmp_path / "tokenizer")
    codes = torch.arange(16)[None] % 8
    torch.testing.assert_close(loaded.decode(codes), model.depth.decode(codes), rtol=0, atol=0)


def test_a_part_without_its_config_cannot_be_saved(model, tmp_path):
    with pytest.raises(CheckpointError, match="give the config it was built from"):
        save(model.depth, tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer").exists()


def test_saving_replaces_in_one_step_and_a_failure_changes_nothing(model, saved):
    before = (saved / "model.safetensors").read_bytes()

    def fail(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="the disk is full. What was there before is untouched"):
        save(model, saved, add=fail)
    assert (saved / "model.safetensors").read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def foreign_weights(folder):
    from safetensors.torch import save_file

    save_file({"other.weight": torch.zeros(2)}, folder / "model.safetensors")


def edit(folder, change):
    path = folder / "recipe.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "is not a whole safetensors file"),
        (foreign_weights, "other.weight is not a part of this model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "There are no weights in"),
        (lambda folder: (folder / "recipe.json").unlink(), "holds no checkpoint"),
        (lambda folder: (folder / "recipe.json").write_text("{"), "is not a checkpoint of this library"),
        (lambda folder: edit(folder, lambda d: d.update(format=7)), "has format 7; this version reads 1"),
        (lambda folder: edit(folder, lambda d: d.pop("format")), "of this library: it has no 'format'"),
        (lambda folder: edit(folder, lambda d: d.pop("recipe")), "of this library: it has no 'recipe'"),
    ],
)
def test_what_is_broken_or_foreign_is_refused_in_a_sentence(saved, harm, message):
    harm(saved)
    with pytest.raises(CheckpointError, match=message):
        load(saved)


def test_weights_of_another_size_name_every_tensor(saved, model):
    wider = attrs.evolve(model.recipe, vision=attrs.evolve(model.recipe.vision, widths=(8, 8, 16)))
    save(build_model(wider), saved.parent / "wider")
    (saved.parent / "wider" / "model.safetensors").rename(saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has shape \(16,.*instead of \(8,"):
        load(saved)
