"""The commands of docs/data.md, each run as it stands there, on small published files."""

import json
import re
import shlex
from pathlib import Path

from published import write_refcoco
from teachers import official_teacher

from perceptio.data.folder import FolderDataset

PAGE = Path(__file__).parents[3] / "docs/data.md"
RECIPE = """
import attrs
from perceptio.recipe import DataConfig, DataFolder, TokenizerTraining
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from small import small_recipe


def recipe():
    depth = VQVAEDepthConfig(
        codebook_size=8, grid=(4, 4), image_size=(16, 16), widths=(4, 8), residual_blocks=1, latent_dim=4
    )
    data = DataConfig(
        folders=(DataFolder(path="data/refcoco"),), mixture={"referring": 1.0, "depth_map": 0.1}, turns=2
    )
    return small_recipe(data=data).with_stream(
        "depth", tokenizer=depth, training=TokenizerTraining(steps=4, batch_size=2)
    )
"""


def test_from_published_files_to_a_table_by_the_commands_of_the_page(run, tmp_path, monkeypatch):
    commands = re.findall(r"^perceptio .*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [shlex.split(one)[1] for one in commands] == [
        *("data", "depth-targets", "train", "data", "eval"),
        *("depth-targets", "data", "data", "data"),
    ]
    monkeypatch.chdir(tmp_path)
    for dataset, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        write_refcoco(Path("published"), dataset=dataset, by=by, pictures=3, splits=("train", "train", "val"))
    official_teacher(Path("checkpoints/depth-anything"))
    Path("mine.py").write_text(RECIPE)
    for command in commands:
        status, out, err = run(*shlex.split(command)[1:])
        assert status == 0, f"{command}: {out}{err}"
    summary = json.loads(Path("runs/refcoco-val/summary.json").read_text())
    assert summary["figures"]["refcoco-val"]["count"] == 6
    asked = [
        json.loads(line)["turn"] for line in Path("runs/refcoco-val/answers.jsonl").read_text().splitlines()
    ]
    assert sorted(asked) == [f"ref{4 + number // 3}-sent{12 + number}" for number in range(6)]
    depths = set()
    for name in ("all-refcoco", "all-refcoco+", "all-refcocog"):
        dataset = FolderDataset(Path("data") / name)
        assert all(dataset.depth(number) is not None for number in range(len(dataset)))
        depths.add(tuple(record.depth for record in dataset.records))
        assert run("data", "check", Path("data") / name)[0] == 0
    assert len(depths) == 1
