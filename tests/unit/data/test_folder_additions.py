"""Roots, samples without a picture, compressed masks, and the writer that goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice

import attrs
import numpy as np
import pytest
from PIL import Image
from small import scenes_folder, small_recipe

from perceptio.data.folder import DatasetInfo, FolderDataset, FolderWriter
from perceptio.data.folder.check import check_folder
from perceptio.data.folder.identity import hash_of_data, hash_of_targets
from perceptio.data.folder.line_rules import line_problems
from perceptio.data.folder.records import SampleRecord, parse_lines
from perceptio.data.tasks import task_rules
from perceptio.errors import DataError
from perceptio.interfaces import RunLengths, TurnRecord
from perceptio.ops.run_lengths import format_runs, runs_of

CHAT = TurnRecord(task="chat", question="Who are you?", answer="A model.")
TALK = {"task": "chat", "question": "Who are you?", "answer": "A model."}


def write(folder, lines, **info):
    folder.mkdir(exist_ok=True)
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "dataset.json").write_text(json.dumps({"format": "perceptio-data", "version": 1, **info}))
    return folder


@pytest.fixture
def shared(tmp_path):
    """Pictures and depth of scenes in a place of their own, and two folders that name them."""
    scenes = scenes_folder(tmp_path / "scenes", count=2)
    lines = [json.loads(line) for line in (scenes / "samples.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {"image": f"scenes:{line['image']}", "depth": f"depth:{line['depth'].removeprefix('depth/')}"}
        line["masks"] = f"scenes:{line['masks']}"
        del line["maps"]
    info = {"depth": {"unit": "metres", "scale": 0.00025}}
    one = write(tmp_path / "one", lines, roots={"scenes": "../scenes", "depth": "../scenes/depth"}, **info)
    absolute = {"scenes": str(scenes), "depth": str(scenes / "depth")}
    return scenes, one, write(tmp_path / "two", lines, roots=absolute, **info)


def test_folders_share_pictures_and_depth_through_roots(shared):
    scenes, *others = shared
    whole = FolderDataset(scenes)
    for folder in others:
        assert check_folder(folder).problems == ()
        dataset = FolderDataset(folder)
        for number in range(2):
            assert (dataset[number].image_3HW == whole[number].image_3HW).all()
            np.testing.assert_array_equal(dataset.depth(number).values_HW, whole.depth(number).values_HW)
            assert len(dataset.object_masks(number)) == len(whole.object_masks(number)) > 0


def test_identity_is_content_and_not_where_roots_lie(shared):
    scenes, one, two = shared
    hashes = [
        (hash_of_data(FolderDataset(f)), hash_of_targets(FolderDataset(f), "depth")) for f in (one, two)
    ]
    assert hashes[0] == hashes[1]
    depth = next((scenes / "depth").iterdir())
    depth.write_bytes(depth.read_bytes() + b" ")
    assert hash_of_data(FolderDataset(one)) != hashes[0][0]
    assert hash_of_targets(FolderDataset(two), "depth") != hashes[0][1]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("scenes:../secret.png", "must be a path inside the folder"),
        ("scenes:/etc/hostname", "must be a path inside the folder"),
        ("scenes:", "is not a path"),
        ("scnes:images/0.png", "begins with the root 'scnes', and dataset.json declares depth, scenes"),
        ("scenes:images/none.png", "images/none.png does not exist"),
        ("scenes:images/out.png", "leads out of"),
        ("scenes:images/circle.png", "leads nowhere"),
    ],
)
def test_a_path_in_a_root_obeys_the_rules_of_the_folder(shared, image, message):
    scenes, one, _ = shared
    (scenes.parent / "secret.png").write_bytes(next((scenes / "images").iterdir()).read_bytes())
    (scenes / "images" / "out.png").symlink_to(scenes.parent / "secret.png")
    (scenes / "images" / "circle.png").symlink_to(scenes / "images" / "circle.png")
    lines = [json.loads(line) for line in (one / "samples.jsonl").read_text().splitlines()]
    lines[0] = {"id": "0", "image": image, "turns": []}
    (one / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (problem,) = check_folder(one).problems
    assert message in str(problem) and problem.line == 1


@pytest.mark.parametrize(
    ("roots", "message"),
    [
        (["coco"], '"roots" is not an object of names, each with a folder'),
        ({"co/co": "/data"}, "root name 'co/co' is not 1 to 80 letters"),
        ({"coco": ""}, "root 'coco' lies in '', which is no path of a folder"),
        ({"coco": 3}, "root 'coco' lies in 3"),
    ],
)
def test_roots_that_are_none_are_refused(tmp_path, roots, message):
    folder = write(tmp_path / "data", [{"id": "0", "turns": [TALK]}], roots=roots)
    with pytest.raises(DataError, match=message):
        FolderDataset(folder)


def test_without_roots_a_colon_is_part_of_a_name(tmp_path):
    folder = write(tmp_path / "data", [{"id": "0", "image": "a:b.png", "turns": []}])
    Image.new("RGB", (12, 8)).save(folder / "a:b.png")
    assert check_folder(folder).problems == ()


def test_a_sample_may_be_a_conversation_about_no_picture(tmp_path):
    folder = write(tmp_path / "data", [{"id": "0", "ordered": True, "turns": [TALK] * 2}])
    assert check_folder(folder).problems == ()
    dataset = FolderDataset(folder)
    sample = dataset[0]
    assert sample.image_3HW is None and sample.ordered and len(sample.turns) == 2
    assert dataset.image(0) is dataset.depth(0) is dataset.target(0, "objects") is None
    assert not sample.has_target("image") and not sample.has_target("objects")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"turns": []}, '"image" is missing, and there is no turn'),
        ({"turns": [TALK], "depth": "a.png"}, 'depth without "image"'),
        ({"turns": [TALK], "masks": []}, 'masks without "image"'),
        ({"turns": [TALK], "maps": {}}, 'maps without "image"'),
        ({"turns": [TALK | {"points": [[0, 0]]}]}, 'turn 1: points without "image"'),
        ({"turns": [TALK], "ordered": 1}, "ordered 1 is neither true nor false"),
    ],
)
def test_what_needs_a_picture_is_refused_without_one(line, message):
    assert any(message in one for one in line_problems({"id": "0"} | line, DatasetInfo(), task_rules()))


def test_compressed_masks_overlap_and_are_masks(tmp_path):
    masks_NHW = np.zeros((2, 8, 12), dtype=bool)
    masks_NHW[0, 1:5, 2:8] = masks_NHW[1, 3:7, 5:11] = True
    runs = [
        {"id": number, "size": [8, 12], "counts": format_runs(runs_of(mask_HW))}
        for number, mask_HW in enumerate(masks_NHW, start=1)
    ]
    turn = {"task": "referring", "question": "Both?", "answer": "Sure.", "objects": [2, 1]}
    line = {"id": "0", "image": "a.png", "masks": runs, "turns": [turn]}
    folder = write(tmp_path / "data", [line])
    Image.new("RGB", (12, 8)).save(folder / "a.png")
    assert check_folder(folder).problems == ()
    dataset = FolderDataset(folder)
    np.testing.assert_array_equal(dataset[0].turns[0].masks, masks_NHW[::-1])
    assert dataset.records[0].to_json() == line


def test_records_are_written_as_they_are_read(tmp_path):
    scenes = scenes_folder(tmp_path / "scenes", count=2)
    lines = [json.loads(line) for line in (scenes / "samples.jsonl").read_text().splitlines()]
    assert [record.to_json() for record in parse_lines(scenes)] == lines


# -- the writer -----------------------------------------------------------------------------------------------------


def record(number):
    mask = RunLengths(id=1, size=(8, 12), counts=(90, 6))
    return SampleRecord(
        id=f"s{number}", image="coco:a.png", masks=(mask,), turns=(CHAT,), ordered=number % 2 == 0
    )


INFO = DatasetInfo(roots={"coco": "../coco"})


def test_a_folder_is_read_when_it_is_finished(tmp_path):
    with FolderWriter(tmp_path / "data", INFO) as writer:
        for number in range(3):
            writer.add(record(number))
        with pytest.raises(DataError, match="is not finished, .*run the command that writes it again"):
            FolderDataset(tmp_path / "data")
    dataset = FolderDataset(tmp_path / "data")
    assert [attrs.evolve(one, line=0) for one in dataset.records] == [record(number) for number in range(3)]
    assert dataset.info == INFO and writer.written == 3
    with pytest.raises(DataError, match="is a data folder already: choose another"):
        FolderWriter(tmp_path / "data", INFO).__enter__()


@pytest.mark.parametrize("torn", [b"", b'{"id":"s2","ima', b'{"id":"s2","turns":[]}'])
def test_what_was_stopped_is_gone_on_with(tmp_path, torn):
    with pytest.raises(RuntimeError), FolderWriter(tmp_path / "data", INFO) as writer:
        writer.add(record(0))
        writer.add(record(1))
        raise RuntimeError
    with (tmp_path / "data" / "samples.jsonl").open("ab") as lines:
        lines.write(torn)
    with FolderWriter(tmp_path / "data", INFO) as writer:
        assert writer.written == 2
        with pytest.raises(DataError, match="Two samples have the id 's1': ids must differ"):
            writer.add(record(1))
        for one in islice(map(record, range(4)), writer.written, None):
            writer.add(one)
    whole = tmp_path / "whole"
    with FolderWriter(whole, INFO) as writer:
        for number in range(4):
            writer.add(record(number))
    for name in ("samples.jsonl", "dataset.json"):
        assert (tmp_path / "data" / name).read_bytes() == (whole / name).read_bytes()


def test_a_writer_that_is_killed_leaves_whole_lines(tmp_path):
    program = f"""
import os, signal
from perceptio.data.folder import DatasetInfo, FolderWriter
from perceptio.data.folder.records import SampleRecord
from perceptio.interfaces import TurnRecord
turn = TurnRecord(task="chat", question="?" * 300, answer=".")
with FolderWriter({str(tmp_path / "data")!r}, DatasetInfo()) as writer:
    for number in range(1000):
        writer.add(SampleRecord(id=str(number), turns=(turn,)))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == -signal.SIGKILL
    with FolderWriter(tmp_path / "data", DatasetInfo()) as writer:
        assert 0 < writer.written < 1000
        for number in range(writer.written, 1000):
            writer.add(SampleRecord(id=str(number), turns=(CHAT,)))
    assert len(FolderDataset(tmp_path / "data")) == 1000


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (
            SampleRecord(id="a", image="../a.png"),
            "Sample 'a' cannot be written: image '../a.png' must be a path",
        ),
        (SampleRecord(id="a"), '"image" is missing, and there is no turn'),
        (SampleRecord(id="a", image="coco:x.png", maps={"m": "x.png"}), "map 'm' is not declared"),
        (SampleRecord(id="\ud800", image="coco:x.png"), "cannot be written: .*half a surrogate pair"),
    ],
)
def test_what_a_reader_would_refuse_is_not_written(tmp_path, add, message):
    with FolderWriter(tmp_path / "data", INFO) as writer:
        with pytest.raises(DataError, match=message):
            writer.add(add)
        writer.add(record(0))
    assert len(FolderDataset(tmp_path / "data")) == 1


def test_folders_that_a_writer_does_not_go_on_with(tmp_path):
    other = DatasetInfo(depth_unit="disparity")
    with pytest.raises(DataError, match="has no sample: add one"), FolderWriter(tmp_path / "data", other):
        pass
    with (
        pytest.raises(RuntimeError),
        FolderWriter(tmp_path / "data", INFO) as writer,
    ):  # No sample: begun anew.
        writer.add(record(0))
        raise RuntimeError
    with pytest.raises(
        DataError, match="has 1 sample written with another dataset.json, which differs in depth, roots"
    ):
        FolderWriter(tmp_path / "data", other).__enter__()
    (tmp_path / "data" / "dataset.unfinished.json").unlink()
    with pytest.raises(DataError, match="has samples.jsonl, and nothing says what it is of"):
        FolderWriter(tmp_path / "data", INFO).__enter__()
    with pytest.raises(DataError, match="cannot be written, as of its dataset.json: root name"):
        FolderWriter(tmp_path / "data", DatasetInfo(roots={"": "x"}))
    with FolderWriter(tmp_path / "other", INFO) as writer:
        writer.add(record(0))
        with pytest.raises(DataError, match="another process is writing there"):
            FolderWriter(tmp_path / "other", INFO).__enter__()


# -- training and evaluation ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Scenes, and conversations about no picture among them."""
    folder = scenes_folder(tmp_path_factory.mktemp("mixed") / "data", count=4)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    talk = [{"task": "chat", "question": f"And {n}?", "answer": f"{n + 1}."} for n in range(5)]
    lines[1:1] = [{"id": f"talk-{n}", "ordered": True, "turns": talk} for n in range(3)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_conversations_about_no_picture_are_trained_on(mixed, tmp_path):
    from perceptio.training.trainer import train

    recipe = small_recipe(mixed)
    for mixture in ({"chat": 1.0}, {"chat": 1.0, "referring": 1.0, "depth_map": 1.0}):
        chosen = attrs.evolve(recipe, data=attrs.evolve(recipe.data, mixture=mixture, vision_only=0.5))
        chosen = attrs.evolve(chosen, train=attrs.evolve(chosen.train, steps=3))
        train(chosen, tmp_path / "_".join(mixture))
        lines = (tmp_path / "_".join(mixture) / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 3 and all(json.loads(line)["loss"] > 0 for line in lines)


def test_evaluation_leaves_them_out_and_counts_them(mixed, tmp_path):
    from perceptio.evaluation.evaluation import Evaluation
    from perceptio.model.perception_model import build_model

    model = build_model(small_recipe(mixed))
    seen = []
    figures = Evaluation(
        model, FolderDataset(mixed), progress=lambda done, count: seen.append((done, count))
    ).run()
    assert figures["without_image"] == 3 and figures["depth_block"]["count"] > 0
    assert "chat" not in figures and seen[-1] == (7, 7)
    folder = shutil.copytree(mixed, tmp_path / "talk")
    lines = (folder / "samples.jsonl").read_text().splitlines()
    (folder / "samples.jsonl").write_text("".join(f"{line}\n" for line in lines if "talk" in line))
    with pytest.raises(DataError, match="the folder has no sample with a picture"):
        Evaluation(model, FolderDataset(folder))
