"""A folder gives back what it holds, or one sentence that says why not."""

import json
import logging
import stat

import attrs
import pytest
import torch
from small import small_recipe

from perceptio import PerceptionModel
from perceptio.errors import CheckpointError
from perceptio.interfaces import Kind
from perceptio.model.checkpoints import checkpoint
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.perception_model import build_model, load
from perceptio.registry import Registry


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
    depth = model.stream("depth")
    save(depth.tokenizer, tmp_path / "tokenizer", config=depth.config.tokenizer)
    loaded = load(tmp_path / "tokenizer")
    codes = torch.arange(16)[None] % 8
    torch.testing.assert_close(loaded.decode(codes), depth.tokenizer.decode(codes), rtol=0, atol=0)


def test_reading_draws_no_parameters(model, saved, tmp_path, caplog):
    depth = model.stream("depth")
    save(depth.tokenizer, tmp_path / "tokenizer", config=depth.config.tokenizer)
    with caplog.at_level(logging.INFO):
        for folder in (saved, tmp_path / "tokenizer"):
            load(folder)
    assert "drawn" not in caplog.text


def test_a_part_without_its_config_cannot_be_saved(model, tmp_path):
    with pytest.raises(CheckpointError, match="give the config it was built from"):
        save(model.stream("depth").tokenizer, tmp_path / "tokenizer")
    assert not (tmp_path / "tokenizer").exists()


def test_saving_replaces_in_one_step_and_a_failure_changes_nothing(model, saved):
    before = (saved / "model.safetensors").read_bytes()

    def fail(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(
        CheckpointError, match="the disk is full.: make room. What was there before is unchanged"
    ):
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
        (
            lambda folder: (folder / "recipe.json").write_text("{"),
            r"recipe.json is not JSON .*copy or train it",
        ),
        (
            lambda folder: edit(folder, lambda d: d.update(format=7)),
            "has format 7; this version reads 1 and 2",
        ),
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


def resize(part, **sizes):
    return lambda folder: edit(folder, lambda d: d["recipe"][part].update(sizes))


def resize_depth(**sizes):
    return lambda folder: edit(folder, lambda d: d["recipe"]["streams"][1]["tokenizer"].update(sizes))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (resize("language", hidden_dim=2**20, feed_forward_dim=2**20), r"has shape \(.*32\) instead of"),
        (resize_depth(latent_dim=2**20), "has shape"),
        (resize("language", num_layers=10**9), r"more than \d+ parameters, and its weights are \d+ tensors"),
        (resize("language", num_heads=0), "recipe.json"),
        (
            lambda folder: edit(folder, lambda d: d.update(recipe=d["recipe"]["streams"][1]["tokenizer"])),
            "holds a VQVAE.* no recipe",
        ),
    ],
    ids=["width", "codebook", "layers", "heads", "part"],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_they_take_memory(
    saved, harm, message, monkeypatch
):
    harm(saved)
    monkeypatch.setattr(checkpoint, "load_tensors", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(CheckpointError, match=message):
        load(saved)


def test_weights_that_are_no_numbers_are_named(saved, tmp_path):
    broken = load(saved)
    with torch.no_grad():
        broken.language.get_parameter("embedding.weight")[0, 0] = float("nan")
        broken.vision_head.layers[0].bias[0] = float("inf")
    save(broken, tmp_path / "broken")
    with pytest.raises(
        CheckpointError, match="not finite numbers, in .*vision_head.*bias, language.*take an"
    ):
        load(tmp_path / "broken")


def test_what_a_killed_writer_left_aside_is_read_and_is_there_again_after_the_next_save(model, saved):
    run = saved.parent / "run"
    save(model, run / "checkpoint")
    (run / "checkpoint").rename(run / ".checkpoint.old")
    assert load(run).recipe == model.recipe and not (run / "checkpoint").exists()
    save(model, run / "checkpoint")
    assert [path.name for path in run.iterdir()] == ["checkpoint"]


def test_the_home_folder_is_found_by_its_sign(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(model, "~/run/checkpoint")
    assert (tmp_path / "run" / "checkpoint" / "recipe.json").exists()
    assert load("~/run").recipe == PerceptionModel.from_pretrained("~/run").recipe == model.recipe


@pytest.mark.parametrize("folder", ["a\0b", "n" * 300])
def test_what_is_no_path_is_a_sentence(model, folder):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load(folder)
    with pytest.raises(CheckpointError, match="could not be written"):
        save(model, folder)


def test_a_folder_that_holds_something_else_is_not_replaced(model, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.tex").write_text("years")
    for folder in ("", ".", tmp_path):
        with pytest.raises(
            CheckpointError, match=r"holds '.*' and \d more, which would be lost.*another place"
        ):
            save(model, folder)
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"it holds '\.git', which would be lost"):
        model.save_pretrained("repository")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics.json").write_text("{}")
    with pytest.raises(CheckpointError, match="it holds 'metrics.json', which would be lost"):
        save(model, "results")
    model.save_pretrained("mine")
    save(model, "mine", add=lambda new: (new / "training.json").write_text("{}"))
    model.save_pretrained("mine", results={})
    assert (tmp_path / "thesis.tex").read_text() == "years"
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md",
        "metrics.json",
        "model.safetensors",
        "recipe.json",
        "text_tokenizer",
    ]


def test_weights_and_words_have_the_modes_of_new_files(saved):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in saved.rglob("*") if path.is_file()}
    (saved.parent / "other").touch()
    assert modes == {stat.S_IMODE((saved.parent / "other").stat().st_mode)}


PLUGIN = """
from typing import ClassVar
import attrs
from fakes import FakeDepthConfig
from perceptio.hookspecs import hookimpl

@attrs.frozen(kw_only=True)
class Levels(FakeDepthConfig):
    name: ClassVar[str] = "levels"

    @property
    def spec(self):
        return attrs.evolve(super().spec, {changes})

@hookimpl
def register_depth_tokenizers():
    return [Levels]
"""


def test_a_stream_that_its_plugin_writes_otherwise_now_is_noticed(tmp_path):
    """It has as many tensors of the same shapes; only what the plugin says of its stream is another."""
    for version, changes in (("old", ""), ("new", "codebook_size=4, grid=(4, 8)")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "acme.py").write_text(PLUGIN.replace("{changes}", changes))
    old, new = (Registry.discover([tmp_path / version / "acme.py"]) for version in ("old", "new"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "old" / "acme.py"))
        recipe = small_recipe().with_stream("depth", tokenizer=old.get(Kind.DEPTH, "acme/levels")())
        model = build_model(recipe)
        save(model, tmp_path / "model")
        load(tmp_path / "model")
    with pytest.raises(
        CheckpointError,
        match=r"with a stream 'depth' of codebook_sizes \[8\] and not \[4\], groups .*, grid \[4, 4\] and not "
        r"\[4, 8\], as the tokenizer levels says here: install the version of its plugin",
    ):
        load(tmp_path / "model", registry=new)


def test_streams_of_another_recipe_are_refused(saved):
    edit(saved, lambda d: d["streams"].pop("depth"))
    with pytest.raises(
        CheckpointError,
        match="tells of the streams segmentation, and its recipe of segmentation, depth: its files",
    ):
        load(saved)
    edit(saved, lambda d: d.pop("streams"))
    with pytest.raises(
        CheckpointError, match="recipe.json is not a checkpoint of this library: it has no 'streams'"
    ):
        load(saved)
