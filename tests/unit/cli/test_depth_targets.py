"""From photographs and a teacher's checkpoint to a codebook, as a user does it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shard_passes
import torch
from PIL import Image
from teachers import official_teacher

from perceptio.cli.devices import of_this_rank
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset_info import DatasetInfo
from perceptio.model.perception_model import load
from perceptio.training.codes import encode_targets, tokenizer_fingerprint

BOUND_S = 120
"""Far more than two processes take on a busy machine."""
RECIPE = """
import attrs
from perceptio.recipe import DataConfig, TokenizerTraining
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from small import small_recipe


def recipe():
    depth = VQVAEDepthConfig(
        codebook_size=8, grid=(4, 4), image_size=(16, 16), widths=(4, 8), residual_blocks=1, latent_dim=4
    )
    chosen = small_recipe(data=DataConfig(mixture={"depth_map": 1.0}, turns=1))
    return chosen.with_stream("depth", tokenizer=depth, training=TokenizerTraining(steps=4, batch_size=2))
"""
PLUGIN = """
from typing import ClassVar

import attrs
from shard_passes import OfBatch

from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind, TeacherConfig


@attrs.frozen(kw_only=True)
class OfBatchConfig(TeacherConfig):
    name: ClassVar[str] = "of_batch"
    kind: ClassVar[Kind] = Kind.TEACHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def load(self, device):
        return OfBatch()


@hookimpl
def register_teachers():
    return [OfBatchConfig]
"""


@pytest.fixture
def run(run):
    """Its exit status, and what it printed to stdout and stderr together."""

    def both(*arguments):
        status, out, err = run(*arguments)
        return status, out + err

    return both


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photographs, a teacher and a recipe."""
    place = tmp_path_factory.mktemp("place")
    official_teacher(place / "teacher")
    (place / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        coarse = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 30)).save(place / "photos" / f"{number}.jpg")
    (place / "recipe.py").write_text(RECIPE)
    return place


def test_photographs_and_a_teacher_become_a_codebook_with_three_commands(place, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("depth-targets", place / "photos", "--teacher", place / "teacher", "--image-size", 28)
    status, printed = run(*asked, "--out", "targets")
    assert status == 0 and "4 depth maps made, 0 kept, 0 pictures broken: targets" in printed
    status, printed = run("train-tokenizer", place / "recipe.py", "--data", "targets", "--out", "codebook")
    assert status == 0 and "1 held-out maps" in printed
    status, printed = run("tokenize", "codebook", "targets/depth/0.jpg.png", "--out", "tokens")
    assert status == 0
    assert json.loads((tmp_path / "tokens" / "codes.json").read_text())["codebook_size"] == 8

    status, printed = run(*asked, "--out", "targets", "--tokenizer", "codebook")
    assert status == 0 and "0 depth maps made, 4 kept" in printed
    codes_nL = np.load("targets/codes/depth.npy")
    index = json.loads((tmp_path / "targets" / "codes" / "depth.json").read_text())
    dataset, tokenizer = FolderDataset("targets"), load("codebook")
    assert codes_nL.dtype == np.uint8 and codes_nL.shape == (4, 16)
    np.testing.assert_array_equal(codes_nL, encode_targets(tokenizer, dataset).numpy())
    assert index["ids"] == [record.id for record in dataset.records] and index["target"] == "depth"
    record = json.loads((tmp_path / "targets" / "depth_targets.json").read_text())
    assert index["tokenizer"] == record["tokenizer"] == tokenizer_fingerprint(tokenizer)

    settings = (
        "--set",
        "streams.depth.tokenizer.weights=codebook",
        "--set",
        'data.folders=[{"path": "targets"}]',
    )
    status, printed = run("train", place / "recipe.py", "--out", "run", "--set", "train.steps=2", *settings)
    assert status == 0
    assert tokenizer_fingerprint(load("run").stream("depth").tokenizer) == record["tokenizer"]


def test_the_recipe_of_the_paper_s_codebook_trains_on_targets(place, run, tmp_path):
    run(
        "depth-targets",
        place / "photos",
        "--teacher",
        place / "teacher",
        "--image-size",
        28,
        "--out",
        tmp_path / "t",
    )
    quick = ("--set", "streams.depth.training.steps=1", "--set", "streams.depth.training.batch_size=1")
    asked = (
        "train-tokenizer",
        "depth_tokenizer_320",
        "--data",
        tmp_path / "t",
        "--out",
        tmp_path / "book",
    )
    status, printed = run(*asked, *quick)
    assert status == 0, printed
    spec = load(tmp_path / "book").spec
    assert (spec.codebook_size, spec.grid, spec.image_size) == (128, (10, 10), (320, 320))
    assert not spec.convention.metric


def test_the_teacher_s_depth_is_what_the_folder_holds(place, run, tmp_path):
    from perceptio.data.folder.loading import read_depth
    from perceptio.data.teachers import load_teacher
    from perceptio.ops.image_files import read_image

    run(
        "depth-targets",
        place / "photos",
        "--teacher",
        place / "teacher",
        "--image-size",
        28,
        "--out",
        tmp_path,
    )
    teacher = load_teacher(str(place / "teacher"), {"image_size": 28})
    seen_13hw = teacher.prepare(read_image(place / "photos" / "2.jpg"))[None]
    expected = torch.nn.functional.interpolate(teacher.depth(seen_13hw)[None], (30, 40), mode="bilinear")[
        0, 0
    ]
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    info = DatasetInfo(depth_unit="disparity", depth_scale=1 / 65535)
    found = read_depth(tmp_path / "depth" / "2.jpg.png", info).values_HW
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-4)


def test_processes_of_torchrun_share_the_pictures(place, run, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.open(place / "photos" / f"{number}.jpg").save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "bad.png").write_text("no picture")
    (tmp_path / "acme.py").write_text(PLUGIN)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "acme.py"))
    asked = ("depth-targets", tmp_path / "photos", "--teacher", "acme/of_batch", "--device", "cpu")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = [*torchrun, "-m", "perceptio.cli.main", *asked, "--out", tmp_path / "two", "--skip-broken"]
    paths = (str(Path.cwd()), str(Path(shard_passes.__file__).parent))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, words)), env=environment, capture_output=True, text=True, timeout=BOUND_S
    )
    assert done.returncode == 0, done.stderr
    for said in ("shard 1/2: 2 depth maps made", "shard 2/2: 1 depth map made", "bad.png is no image"):
        assert said in done.stdout
    for number in (1, 2):
        status, printed = run(*asked, "--out", tmp_path / "one", "--shard", f"{number}/2")
        assert status == (0 if number == 1 else 1), printed
        waits = "shard 1/2: not complete yet: it waits for the shards 2/2."
        assert (waits in printed) == (number == 1)
    for folder in ("two", "one"):
        ids = [record.id for record in FolderDataset(tmp_path / folder).records]
        assert ids == ["0.png", "1.png", "2.png"]
    for number in range(3):
        two, one = ((tmp_path / made / "depth" / f"{number}.png.png").read_bytes() for made in ("two", "one"))
        assert two == one


def test_broken_pictures_are_listed_and_fail_unless_they_are_skipped(place, run, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.open(place / "photos" / "0.jpg").save(photos / "good.png")
    (photos / "bad.png").write_text("no picture")
    (photos / "notes.txt").write_text("lunch")
    asked = (
        "depth-targets",
        photos,
        "--teacher",
        place / "teacher",
        "--image-size",
        28,
        "--out",
        tmp_path / "out",
    )
    status, printed = run(*asked)
    assert status == 1 and f"Broken: {photos}/bad.png is no image that can be read" in printed
    assert "1 depth map made, 0 kept, 1 picture broken" in printed
    assert "1 file passed over, by their names no pictures: notes.txt." in printed
    status, printed = run(*asked, "--skip-broken")
    assert status == 0 and "0 depth maps made, 1 kept, 1 picture broken" in printed


def test_what_is_refused_in_one_sentence(place, run, tmp_path):
    status, printed = run("depth-targets", place / "photos", "--teacher", place / "teacher")
    assert status == 2 and "say with --out where its depth is to be written" in printed
    status, printed = run("depth-targets", place / "photos", "--teacher", "depth-anything", "--out", tmp_path)
    assert status == 2 and "There is no teacher 'depth-anything'" in printed
    asked = ("depth-targets", place / "photos", "--teacher", place / "teacher", "--out", tmp_path / "out")
    status, printed = run(*asked, "--shard", "3/2")
    assert status == 2 and "The shard 3/2 is none: shards are counted from 1/2 to 2/2" in printed
    status, printed = run(*asked, "--set", "image_sise=28")
    assert status == 2 and "has no setting 'image_sise'; did you mean 'image_size'" in printed
    assert not (tmp_path / "out").exists()


def test_each_process_of_torchrun_has_a_gpu_of_its_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert of_this_rank(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert of_this_rank(torch.device("cuda")) == torch.device("cuda", 3)
    assert of_this_rank(torch.device("cpu")) == torch.device("cpu")


def test_pictures_stay_where_they_are_if_asked(place, run, tmp_path):
    asked = ("depth-targets", place / "photos", "--teacher", place / "teacher", "--image-size", 28)
    status, printed = run(*asked, "--out", tmp_path / "out", "--pictures", "path")
    assert status == 0 and "4 depth maps made" in printed and "the teacher computed" in printed
    assert FolderDataset(tmp_path / "out").info.roots == {"pictures": str(place / "photos")}
    assert not (tmp_path / "out" / "images").exists()


def test_a_tokenizer_of_metres_is_refused_before_any_work(place, run, tmp_path):
    from small import small_recipe

    from perceptio.model.checkpoints.checkpoint import save

    config = small_recipe().stream("depth").tokenizer
    save(config.build(), tmp_path / "metric", config=config)
    status, printed = run(
        *("depth-targets", place / "photos", "--teacher", place / "teacher", "--out", tmp_path / "out"),
        *("--tokenizer", tmp_path / "metric"),
    )
    assert status == 2 and "speaks of metres, and this teacher gives relative depth" in printed
    assert not (tmp_path / "out").exists()
