"""`perceptio train-tokenizer` from a recipe file to a folder that a recipe can name."""

import json

import attrs
import pytest
import torch
import typer
from small import scenes_folder, small_recipe
from typer.testing import CliRunner

from perceptio.cli import train_tokenizer
from perceptio.errors import CheckpointError, DataError, RecipeError
from perceptio.model.perception_model import build_model, load
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthTokenizer

app = typer.Typer()
app.command()(train_tokenizer.run)

RECIPE = """
from pathlib import Path
from small import small_recipe

def recipe():
    return small_recipe(Path({folder!r}))
"""
TWO = """
import attrs
from pathlib import Path
from small import small_recipe
from perceptio.recipe import Stream, TokenizerTraining
from perceptio.tokenizers.perception.map import MapVQVAEConfig

def recipe():
    base = small_recipe(Path({folder!r}))
    sizes = dict(grid=(2, 2), image_size=(8, 8), widths=(4, 8), residual_blocks=1, latent_dim=4)
    edges = Stream(
        name="edges",
        tokenizer=MapVQVAEConfig(map="edges", codebook_size=8, **sizes),
        training=TokenizerTraining(steps=4, batch_size=4, warmup_steps=1),
    )
    return attrs.evolve(base, streams=(*base.streams, edges))
"""
QUICK = ("--set", "streams.depth.training.steps=4", "--set", "streams.depth.training.batch_size=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture
def recipe_file(folder, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(RECIPE.format(folder=str(folder)))
    return file


def test_a_tokenizer_s_folder_with_its_figures(recipe_file, folder, tmp_path):
    out = tmp_path / "tokenizer"
    result = CliRunner().invoke(app, [str(recipe_file), "--out", str(out), *QUICK], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (
        "1 held-out maps" in result.output and f"--set streams.depth.tokenizer.weights={out}" in result.output
    )
    figures = json.loads((out / "metrics.json").read_text())
    assert {"absrel", "rmse", "delta1", "ordinal", "codes_used", "perplexity"} <= figures.keys()

    trained = load(out)
    recipe = small_recipe(folder)
    tokenizer = attrs.evolve(recipe.stream("depth").tokenizer, weights=str(out))
    model = build_model(recipe.with_stream("depth", tokenizer=tokenizer))
    codes_BL = torch.arange(16)[None] % 8
    assert torch.equal(model.stream("depth").tokenizer.decode(codes_BL), trained.decode(codes_BL))


def test_the_same_command_makes_the_same_tokenizer(recipe_file, tmp_path):
    for name in ("one", "other"):
        CliRunner().invoke(
            app, [str(recipe_file), "--out", str(tmp_path / name), *QUICK], catch_exceptions=False
        )
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other


def test_a_collapsed_codebook_is_said(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setattr(
        AutoencoderDepthTokenizer,
        "encode",
        lambda self, depth_B1HW: torch.full((len(depth_B1HW), self.spec.num_codes), 3),
    )
    result = CliRunner().invoke(app, [str(recipe_file), "--out", str(tmp_path / "tokenizer"), *QUICK])
    assert result.exit_code == 0 and "One code says everything" in result.output


def test_what_is_there_is_never_replaced(recipe_file, tmp_path):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    error = CliRunner().invoke(app, [str(recipe_file), "--out", str(out), *QUICK]).exception
    assert isinstance(error, CheckpointError) and "precious is there already and is not empty" in str(error)
    assert (out / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("small_recipe()", DataError, "names no data folder to train a tokenizer on"),
        (
            "small_recipe(streams=(), heads={}, losses=(), answer_format='direct')",
            RecipeError,
            "small has no stream whose tokenizer can be trained",
        ),
    ],
)
def test_a_recipe_without_what_it_takes_is_refused(tmp_path, body, kind, message):
    file = tmp_path / "mine.py"
    file.write_text(f"from small import small_recipe\n\ndef recipe():\n    return {body}\n")
    error = CliRunner().invoke(app, [str(file), "--out", str(tmp_path / "out")]).exception
    assert isinstance(error, kind) and message in str(error)
    assert not (tmp_path / "out").exists()


def test_of_several_streams_one_is_chosen_by_its_name(folder, tmp_path):
    file, out = tmp_path / "two.py", tmp_path / "edges"
    file.write_text(TWO.format(folder=str(folder)))
    asked = [str(file), "--out", str(out), "--device", "cpu"]
    error = CliRunner().invoke(app, asked).exception
    assert isinstance(error, RecipeError) and "choose one with --stream (depth, edges)" in str(error)
    error = CliRunner().invoke(app, [*asked, "--stream", "edgse"]).exception
    assert "has no stream 'edgse'; did you mean 'edges'?" in str(error)
    error = CliRunner().invoke(app, [*asked, "--stream", "segmentation"]).exception
    assert isinstance(error, RecipeError) and "cannot be trained by itself; --stream can be depth" in str(
        error
    )

    result = CliRunner().invoke(app, [*asked, "--stream", "edges"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert f"--set streams.edges.tokenizer.weights={out}" in result.output
    assert json.loads((out / "metrics.json").read_text()).keys() == {
        "absolute_error",
        "correlation",
        "count",
        "codes_used",
        "perplexity",
    }
    assert load(out).spec.stream.target == "edges"
