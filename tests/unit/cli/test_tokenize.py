"""`perceptio tokenize` on files of every kind that a user may have."""

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from small import scenes_folder, small_recipe
from typer.testing import CliRunner

from perceptio.cli import tokenize
from perceptio.errors import CheckpointError, DataError
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.perception_model import build_model

app = typer.Typer()
app.command()(tokenize.run)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of an untrained tokenizer, which reads 1 to 16 m."""
    folder, config = tmp_path_factory.mktemp("tokenizer") / "vqvae", small_recipe().stream("depth").tokenizer
    torch.manual_seed(0)
    save(config.build(), folder, config=config)
    return folder


def tokenized(folder, file, out, *options):
    result = CliRunner().invoke(
        app, [str(folder), str(file), "--out", str(out), *options], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output, json.loads((out / "codes.json").read_text())


def refused(folder, file, *options):
    result = CliRunner().invoke(app, [str(folder), str(file), *options])
    assert result.exception is not None
    return result.exception


def ramp_m(height=30, width=50):
    return np.geomspace(1.5, 12.0, height * width, dtype=np.float32).reshape(height, width)


def test_everything_is_written_and_the_errors_shown(tokenizer, tmp_path):
    np.save(tmp_path / "ramp.npy", ramp_m())
    output, written = tokenized(tokenizer, tmp_path / "ramp.npy", tmp_path / "out")
    assert "absrel" in output and "30x50, metres" in output
    assert np.array(written["codes"]).shape == (4, 4) and written["codebook_size"] == 8
    assert written["figures"]["outside"] == 0.0

    made_m = np.load(tmp_path / "out" / "reconstruction.npy")
    assert made_m.shape == (30, 50)
    with Image.open(tmp_path / "out" / "reconstruction.png") as picture:
        assert picture.mode == "I;16"
        assert written["reconstruction"] == {"unit": "metres", "scale": 0.001}
        np.testing.assert_allclose(np.asarray(picture) * 0.001, made_m, atol=0.0006)
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.size == (100, 30) and picture.mode == "RGB"


def test_the_reconstruction_can_be_tokenized_in_turn(tokenizer, tmp_path):
    np.save(tmp_path / "ramp.npy", ramp_m())
    tokenized(tokenizer, tmp_path / "ramp.npy", tmp_path / "out")
    output, written = tokenized(tokenizer, tmp_path / "out" / "reconstruction.png", tmp_path / "again")
    assert "30x50, metres" in output and np.array(written["codes"]).shape == (4, 4)


def test_the_same_depth_in_every_unit_has_the_same_codes(tokenizer, tmp_path):
    holed_m = ramp_m()
    holed_m[:5] = np.nan
    np.save(tmp_path / "m.npy", holed_m)
    np.save(tmp_path / "mm.npy", holed_m * 1000)
    Image.fromarray(np.nan_to_num(holed_m * 1000).round().astype(np.uint16)).save(tmp_path / "mm.png")
    all_codes = [
        tokenized(tokenizer, tmp_path / name, tmp_path / "out" / name, *options)[1]["codes"]
        for name, options in (("m.npy", ()), ("mm.npy", ("--unit", "millimetres")), ("mm.png", ()))
    ]
    assert all_codes[0] == all_codes[1] == all_codes[2]


def test_a_scale_says_what_a_value_counts(tokenizer, tmp_path):
    """KITTI stores 256 to the metre."""
    np.save(tmp_path / "m.npy", ramp_m())
    np.save(tmp_path / "kitti.npy", ramp_m() * 256)
    Image.fromarray((ramp_m() * 256).round().astype(np.uint16)).save(tmp_path / "kitti.png")
    cases = [
        ("m.npy", ()),
        ("kitti.png", ("--scale", "1/256")),
        ("kitti.npy", ("--scale", "0.00390625")),
        ("kitti.png", ("--scale", "1000/256", "--unit", "millimetres")),
    ]
    made = [tokenized(tokenizer, tmp_path / name, tmp_path / "out", *options)[1] for name, options in cases]
    assert len({str(one["codes"]) for one in made}) == 1
    for one in made[1:]:
        assert one["figures"]["absrel"] == pytest.approx(made[0]["figures"]["absrel"], rel=1e-3)


@pytest.mark.parametrize("scale", ["1/0", "0", "-2", "nan", "inf", "a metre", "1e400"])
def test_a_scale_that_is_no_number_is_refused(tokenizer, tmp_path, scale):
    np.save(tmp_path / "m.npy", ramp_m())
    error = refused(tokenizer, tmp_path / "m.npy", f"--scale={scale}")
    assert f"--scale {scale} is no number above 0; write, say, --scale 1/256" in str(error)


def test_a_file_of_a_data_folder_is_read_as_the_folder_says(tokenizer, tmp_path):
    folder = scenes_folder(tmp_path / "scenes", count=2)
    file = sorted((folder / "depth").iterdir())[0]
    _, written = tokenized(tokenizer, file, tmp_path / "out")
    assert written["figures"]["outside"] < 0.05  # In millimetres it would all be nearer, or farther.
    _, wrong = tokenized(tokenizer, file, tmp_path / "wrong", "--unit", "millimetres")
    assert wrong["figures"]["outside"] > 0.5


def test_a_model_s_own_tokenizer_is_used(tmp_path):
    torch.manual_seed(0)
    model = build_model(small_recipe())
    save(model, tmp_path / "run" / "checkpoint")
    save(model.stream("depth").tokenizer, tmp_path / "part", config=model.recipe.stream("depth").tokenizer)
    np.save(tmp_path / "ramp.npy", ramp_m())
    one, other = (
        tokenized(tmp_path / name, tmp_path / "ramp.npy", tmp_path / "out" / name)[1]["codes"]
        for name in ("run", "part")
    )
    assert one == other


def test_without_out_the_results_go_beside_where_one_works(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("ramp.npy", ramp_m())
    result = CliRunner().invoke(app, [str(tokenizer), "ramp.npy"], catch_exceptions=False)
    assert "Written to ramp-tokens: codes.json, comparison.png" in result.output


def test_what_cannot_be_read_is_one_sentence(tokenizer, tmp_path):
    def file(name, values):
        np.save(tmp_path / name, values)
        return tmp_path / name

    def message(path, *options):
        error = refused(tokenizer, path, *options)
        assert isinstance(error, DataError), error
        assert str(path) in str(error)
        return str(error)

    assert "does not exist" in message(tmp_path / "nothing.png")
    assert "has no known pixel" in message(file("unknown.npy", np.full((4, 4), np.nan, np.float32)))
    assert "write float32 [height, width]" in message(file("solid.npy", np.ones((2, 3, 4), np.float32)))
    assert "holds uint16" in message(file("whole.npy", np.ones((4, 4), np.uint16)))
    Image.new("I;16", (4, 4)).save(tmp_path / "zero.png")
    assert "has no known pixel" in message(tmp_path / "zero.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "color.png")
    assert "16-bit gray" in message(tmp_path / "color.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert "is no image that can be read" in message(tmp_path / "broken.png")
    whole = file("cut.npy", ramp_m()).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as NPY" in message(tmp_path / "cut.npy")
    relative = message(file("relative.npy", ramp_m()), "--unit", "disparity")
    assert "which has none: give depth in metres" in relative


def test_a_unit_that_does_not_exist_is_refused(tokenizer, tmp_path):
    result = CliRunner().invoke(app, [str(tokenizer), "a.npy", "--unit", "feet"])
    assert result.exit_code == 2
    assert "millimetres" in result.output and "disparity" in result.output


def test_a_folder_without_a_depth_tokenizer_is_refused(tokenizer, tmp_path):
    np.save(tmp_path / "ramp.npy", ramp_m())
    segmentation = small_recipe().stream("segmentation").tokenizer
    save(segmentation.build(), tmp_path / "masks", config=segmentation)
    blind = small_recipe(streams=(), heads={}, losses=(), answer_format="direct")
    save(build_model(blind), tmp_path / "blind")
    for name, held in (("masks", "a PixelFeatures"), ("blind", "a model without a depth tokenizer")):
        error = refused(tmp_path / name, tmp_path / "ramp.npy")
        assert isinstance(error, CheckpointError)
        assert f"holds {held}: name a depth tokenizer's folder" in str(error)
    assert "holds no checkpoint" in str(refused(tmp_path, tmp_path / "ramp.npy"))


def test_a_place_that_cannot_be_written_is_named(tokenizer, tmp_path):
    np.save(tmp_path / "ramp.npy", ramp_m())
    (tmp_path / "taken").write_text("a file")
    error = refused(tokenizer, tmp_path / "ramp.npy", "--out", str(tmp_path / "taken"))
    assert isinstance(error, DataError) and "taken could not be written" in str(error)
