"""The commands of docs/data.md, each run as it stands there, on small published files."""

import json
import re
import shlex
from pathlib import Path

from layouts import write_classes, write_frames, write_hardblink, write_llava
from published import write_refcoco
from teachers import official_teacher

from perceptio.data.folder import FolderDataset

PAGE = Path(__file__).parents[3] / "docs/data.md"
WITH_DEPTH = """
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
OF_MASKS = f"""
import attrs
{WITH_DEPTH.replace("def recipe", "def with_depth")}

def recipe():
    whole = with_depth()
    return attrs.evolve(
        whole,
        streams=(whole.stream("segmentation"),),
        heads={{}},
        answer_format="direct",
        losses=tuple(one for one in whole.losses if getattr(one.loss, "stream", None) != "depth"),
        data=attrs.evolve(whole.data, mixture={{"referring": 1.0}}),
    )
"""


def commands_of(start, end=None):
    """The commands between two headings."""
    text = PAGE.read_text(encoding="utf-8").partition(start)[2]
    text = (text.partition(end)[0] if end else text).replace("\\\n", "")
    return re.findall(r"^perceptio .*", text, re.MULTILINE)


def test_from_published_files_to_a_table_by_the_four_commands_of_the_page_and_to_depth_by_two_more(
    run, tmp_path, monkeypatch
):
    commands = commands_of("## From published files", "## What an import does")
    assert [shlex.split(one)[1] for one in commands] == [
        *("data", "train", "data", "eval"),
        *("depth-targets", "train"),
        *("depth-targets", "data", "data", "data"),
    ]
    monkeypatch.chdir(tmp_path)
    for dataset, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        write_refcoco(Path("published"), dataset=dataset, by=by, pictures=3, splits=("train", "train", "val"))
    official_teacher(Path("checkpoints/depth-anything"))
    Path("mine.py").write_text(OF_MASKS)
    for place, command in enumerate(commands):
        if place == 4:  # From here on the page is about depth, too.
            Path("mine.py").write_text(WITH_DEPTH)
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


def test_the_other_sources_are_imported_by_the_commands_of_the_page(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_llava(Path("playground/data"))
    city, name = Path("cityscapes"), "train/ulm/ulm_{}"
    write_classes(
        [city / "leftImg8bit" / f"{name.format(n)}_leftImg8bit.png" for n in range(2)],
        [city / "gtFine" / f"{name.format(n)}_gtFine_labelIds.png" for n in range(2)],
        city / "names.txt",
    )
    write_frames(Path("7-scenes"), "chess/frame-{}.color.png", "chess/frame-{}.depth.png")
    write_frames(Path("mine"), "rgb/{}.jpg", "depth/{}.png")
    write_hardblink(Path("Aurora-perception/Data/evals/hardblink"))
    found = {}
    for command in commands_of("## LLaVA's conversations"):
        # A small picture of a floor has rows of pixels that differ more than those of a large one.
        words = [
            *shlex.split(command)[1:],
            *(["--set", "rules.clearance=0"] if "data/kitchen" in command else []),
        ]
        status, out, err = run(*words)
        assert status == 0, f"{command}: {out}{err}"
        folder = Path(words[words.index("--out") + 1])
        dataset = FolderDataset(folder)
        found[folder.name] = [turn.task for sample in dataset for turn in sample.turns]
        assert run("data", "check", folder)[0] == 0
    assert found == {
        "llava": ["conversation"] * 2,
        "cityscapes": ["referring"] * 4,
        "kitchen": ["relative_depth"] * 4,
        "mine": [],
        "hardblink": ["drawn_points"] * 6,
        "questions": ["relative_depth"] * 6,
    }
