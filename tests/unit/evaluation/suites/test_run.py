"""Asking a suite's questions: every picture once, from where it stopped, and by two processes as by one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch
from benchmark_files import blink, blink_rows, cv_bench, hardblink, png, write_parquet
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.data.scenes import Split
from perceptio.errors import DataError, InputError, PerceptioError, UnknownNameError
from perceptio.evaluation.answers import ANSWERS, read_answers
from perceptio.evaluation.evaluation import Evaluation
from perceptio.evaluation.suites import SUITES, open_all, run, run_suite, suite_named
from perceptio.interfaces import DepthConvention
from perceptio.model.inference.decode_state import DecodeState
from perceptio.model.perception_model import build_model
from perceptio.ops.depth_metrics import DepthMeter
from perceptio.ops.interrupts import Stopped
from perceptio.ops.ranks import Ranks

BOUND_S = 120


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "test", count=6, split=Split.TEST)


def model_of(**changes):
    torch.manual_seed(0)
    return build_model(small_recipe(**changes)).eval()


def run_of(name, data, out, model=None, **more):
    """The summary of a suite on one folder."""
    model = model_of() if model is None else model
    settings = more.pop("settings", {})
    suite = suite_named(name)(**settings)
    opened = open_all(suite, [data], model)
    more = {"identity": {"weights": "0"}, "ranks": Ranks("eval", PerceptioError)} | more
    return run_suite(model, suite, opened, out, **more)


def test_figures_are_those_of_the_plain_evaluation(scenes, tmp_path):
    plain = Evaluation(model_of(), FolderDataset(scenes)).run()
    summary = run_of("refcoco", scenes, tmp_path / "refcoco")
    assert summary["figures"]["test"] == plain["referring"]
    assert json.loads((tmp_path / "refcoco" / "summary.json").read_text()) == summary
    marked = run_of("hardblink", scenes, tmp_path / "hardblink")["figures"]["test"]
    assert marked["mean"] == plain["relative_depth"]["mean"]
    assert marked["readout"]["mean"] == plain["relative_depth_readout"]["mean"]
    depth = run_of("depth", scenes, tmp_path / "depth")["figures"]["test"]
    assert (depth["alignment"], depth["count"]) == ("none", 6)


def test_depth_is_measured_at_the_size_of_the_truth(scenes, tmp_path):
    meter, model = DepthMeter(), model_of()
    for sample in FolderDataset(scenes):
        written = model.ask(sample.image_3HW, "What is the depth map of this image?", perceive=("depth",))[
            "depth"
        ]
        made, true = (torch.from_numpy(one.values_HW)[None, None] for one in (written, sample.depth))
        meter.update(
            torch.nn.functional.interpolate(made, true.shape[-2:], mode="bilinear", antialias=True), true
        )
    found = run_of("depth", scenes, tmp_path / "out")["figures"]["test"]
    for name in ("absrel", "rmse", "delta1"):
        assert found[name] == pytest.approx(meter.compute()[name], abs=1e-4)


@pytest.mark.parametrize("name", SUITES)
def test_a_picture_is_encoded_and_prefilled_once(name, scenes, tmp_path, monkeypatch):
    """In every suite; where there are several questions about a picture, they share both."""
    make = {"blink-depth": blink, "cv-bench": cv_bench}.get(name)
    data = scenes if make is None else make(tmp_path / "published")
    model, encoded, prefilled, decoded = model_of(), [], [], []
    encode, start = model.encode_vision, DecodeState._run
    segment = model.stream("segmentation").encode_image

    def counted(self, prompts, vision_rows, starts, ends, cache):
        prefilled.extend(starts.count(0) * [0])
        return start(self, prompts, vision_rows, starts, ends, cache)

    monkeypatch.setattr(model, "encode_vision", lambda images: encoded.extend(images) or encode(images))
    monkeypatch.setattr(
        model.stream("segmentation"), "encode_image", lambda images: decoded.extend(images) or segment(images)
    )
    monkeypatch.setattr(DecodeState, "_run", counted)
    summary = run_of(name, data, tmp_path / "out", model, batch_size=8)
    counts = next(iter(summary["data"].values()))
    assert counts["pictures"] == len(encoded) == len(prefilled) and len(decoded) <= counts["pictures"]
    one_each = counts["questions"] == counts["pictures"]
    assert one_each if name in ("blink-depth", "depth") else counts["questions"] > counts["pictures"]


def test_a_picture_with_more_questions_than_a_batch_is_encoded_once(scenes, tmp_path, monkeypatch):
    model, encoded = model_of(), []
    encode = model.encode_vision
    monkeypatch.setattr(model, "encode_vision", lambda images: encoded.extend(images) or encode(images))
    counts = run_of("refcoco", scenes, tmp_path / "out", model, batch_size=1)["data"]["test"]
    assert counts["questions"] > counts["pictures"] == len(encoded)


def test_what_was_stopped_goes_on_after_its_last_whole_answer(scenes, tmp_path, monkeypatch):
    """Stopped after two batches of four; of the second one answer is torn and one is missing."""
    run_of("refcoco", scenes, tmp_path / "whole", batch_size=4)
    out, asked = tmp_path / "out", []
    answer = run._Answering.answer

    def interrupted(self, batch):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(batch)
        return answer(self, batch)

    monkeypatch.setattr(run._Answering, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_of("refcoco", scenes, out, batch_size=4)
    lines = (out / ANSWERS).read_text().splitlines(keepends=True)
    assert (
        len(lines) == sum(map(len, asked))
        and json.loads((out / "summary.json").read_text())["figures"] is None
    )
    (out / ANSWERS).write_text("".join(lines[:-2]) + lines[-2][:40])

    again = []
    monkeypatch.setattr(
        run._Answering, "answer", lambda self, batch: again.append(batch) or answer(self, batch)
    )
    summary = run_of("refcoco", scenes, out, batch_size=4)
    assert sum(map(len, again)) == summary["data"]["test"]["questions"] - (len(lines) - 2)
    for file in (ANSWERS, "summary.json"):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    again.clear()
    assert run_of("refcoco", scenes, out) == summary and not again


def test_a_signal_stops_it_where_answers_are_whole(scenes, tmp_path, monkeypatch):
    answer = run._Answering.answer

    def signaled(self, batch):
        os.kill(os.getpid(), 15)
        return answer(self, batch)

    monkeypatch.setattr(run._Answering, "answer", signaled)
    with pytest.raises(Stopped):
        run_of("refcoco", scenes, tmp_path / "out", batch_size=4)
    assert 0 < len(read_answers(tmp_path / "out")) <= 4


def test_an_evaluation_of_something_else_is_not_gone_on_with(scenes, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run_of("refcoco", scenes, out, limit=1)
    for message, more in (
        ("holds another evaluation: limit is 1 there and 2 here. Choose another --out", {"limit": 2}),
        ("model.weights is '0' there and '1' here", {"limit": 1, "identity": {"weights": "1"}}),
    ):
        with pytest.raises(DataError, match=message):
            run_of("refcoco", scenes, out, **more)
    with pytest.raises(
        DataError, match="holds another evaluation: suite is 'refcoco' there and 'depth' here"
    ):
        run_of("depth", scenes, out, limit=1)
    monkeypatch.setattr(run.torch, "__version__", "0.1")
    with pytest.raises(DataError, match=r"versions.torch is '.*' there and '0.1' here"):
        run_of("refcoco", scenes, out, limit=1)
    monkeypatch.undo()
    other = scenes_folder(tmp_path / "test", count=1, split=Split.VALIDATION)
    with pytest.raises(DataError, match=r"data.test.questions is|data.test.sha256 is"):
        run_of("refcoco", other, out, limit=1)
    lines = (out / ANSWERS).read_text().splitlines(keepends=True)
    for swapped in ([lines[1], lines[0], *lines[2:]], ["[]\n", *lines[1:]]):
        (out / ANSWERS).write_text("".join(swapped))
        with pytest.raises(
            DataError,
            match=r"answers\.jsonl line 1 is not the answer to '.*' of the sample '.*' of test, which",
        ):
            run_of("refcoco", scenes, out, limit=1)
    (out / ANSWERS).write_text("".join(lines * 2))
    with pytest.raises(DataError, match=r"has [\d,]+ answers to [\d,]+ questions: choose another --out"):
        run_of("refcoco", scenes, out, limit=1)
    (out / "summary.json").write_text("{}")
    with pytest.raises(DataError, match=r"summary\.json is not the summary of a suite"):
        run_of("refcoco", scenes, out, limit=1)
    (out / "summary.json").unlink()
    with pytest.raises(DataError, match=r"holds answers\.jsonl of an evaluation without a suite"):
        run_of("refcoco", scenes, out, limit=1)


def flipped(held):
    """The content of a file with a bit in its middle changed."""
    middle = len(held) // 2
    return held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :]


def other_answer(held):
    return held.replace(b'"(A)"', b'"(B)"', 1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("refcoco", {"images/*": flipped, "masks/*": flipped}),
        ("depth", {"images/*": flipped, "depth/*": flipped}),
        ("hardblink", {"images/blink3pointscenter/0.png": flipped, "answers/*": other_answer}),
        ("cv-bench", {"img/2D/0.png": flipped, "test_2d.jsonl": other_answer}),
        ("blink-depth", {"image_1": {"bytes": png(9), "path": None}, "answer": "(A)"}),
    ],
)
def test_truth_that_changed_is_other_data(name, changes, tmp_path):
    """A picture, or what answers are measured against, changes beneath an evaluation that is gone on with."""
    place, out = tmp_path / "data", tmp_path / "out"
    make = {"hardblink": hardblink, "cv-bench": cv_bench, "blink-depth": blink}.get(name, scenes_folder)
    make(place)
    limit = None if name == "refcoco" else 2
    first = run_of(name, place, out, limit=limit)
    for where, change in changes.items():
        (file, *_) = sorted(place.glob("*/*.parquet" if name == "blink-depth" else where))
        before = file.read_bytes()
        if name == "blink-depth":
            row, *others = blink_rows()
            write_parquet(file, [row | {where: change}, *others])
        else:
            file.write_bytes(change(before))
        with pytest.raises(DataError, match=r"data\.data\.sha256 is '.* there and '.* here. Choose another"):
            run_of(name, place, out, limit=limit)
        file.write_bytes(before)
    assert run_of(name, place, out, limit=limit) == first


def test_splits_in_a_folder_have_figures_of_their_own(tmp_path):
    for split in ("validation", "test"):
        scenes_folder(tmp_path / "sets" / split, count=2, split=Split(split))
    summary = run_of("refcoco", tmp_path / "sets", tmp_path / "out")
    assert list(summary["figures"]) == ["test", "validation"]
    assert {one.data for one in read_answers(tmp_path / "out")} == {"test", "validation"}
    suite, model = suite_named("depth")(), model_of()
    same = tmp_path / "other" / "test"
    scenes_folder(same, count=1)
    assert set(open_all(suite, [tmp_path / "sets" / "test", same], model)) == {
        str(tmp_path / "sets" / "test"),
        str(same),
    }


def test_relative_depth_is_aligned(scenes, tmp_path):
    relative = attrs.evolve(small_recipe().stream("depth").tokenizer, convention=DepthConvention())
    model = build_model(small_recipe().with_stream("depth", tokenizer=relative)).eval()
    found = run_of("depth", scenes, tmp_path / "out", model)["figures"]["test"]
    assert found["alignment"] == "least_squares" and found["absrel"] > 0
    with pytest.raises(InputError, match="'depth' writes relative depth, which has no metres"):
        run_of("depth", scenes, tmp_path / "none", model, settings={"alignment": "none"})


def test_a_crop_is_a_setting_and_truth_that_cannot_be_measured_is_named(scenes, tmp_path):
    whole = run_of("depth", scenes, tmp_path / "whole")
    cropped = run_of("depth", scenes, tmp_path / "out", settings={"crop": "garg"})
    assert cropped["figures"]["test"]["absrel"] != whole["figures"]["test"]["absrel"]
    with pytest.raises(
        DataError, match=r"samples\.jsonl line 1 \('.*'\): The crop eigen_nyu is of NYUv2's maps"
    ):
        run_of("depth", scenes, tmp_path / "nyu", settings={"crop": "eigen_nyu"})
    with pytest.raises(InputError, match="max_depth is 0: it must be above 0"):
        suite_named("depth")(max_depth=0)


def test_a_model_that_lacks_what_a_suite_needs(scenes, tmp_path):
    depth_alone = model_of(streams=(small_recipe().stream("depth"),), losses=())
    with pytest.raises(
        InputError, match="refcoco needs a model that writes masks .*, and this one writes depth"
    ):
        run_of("refcoco", scenes, tmp_path / "out", depth_alone)
    nothing = model_of(streams=(), heads={}, answer_format="direct", losses=small_recipe().losses[:1])
    with pytest.raises(
        InputError, match="depth needs a model that writes depth maps, and this one writes no stream"
    ):
        run_of("depth", scenes, tmp_path / "out", nothing)


def test_data_that_a_suite_cannot_use(scenes, tmp_path):
    def lines(folder, change):
        path = folder / "samples.jsonl"
        path.write_text("".join(json.dumps(change(json.loads(line))) + "\n" for line in path.open()))

    folder = scenes_folder(tmp_path / "scenes", count=1)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"depth": {"unit": "disparity", "scale": 0.1}}))
    with pytest.raises(
        DataError, match="has depth in disparity, and the suite depth measures against .* metres"
    ):
        run_of("depth", folder, tmp_path / "out")
    (folder / "dataset.json").write_text(json.dumps(info))
    lines(folder, lambda line: {key: held for key, held in line.items() if key != "depth"})
    with pytest.raises(DataError, match="No sample of .* has depth"):
        run_of("depth", folder, tmp_path / "out")

    def without_masks(line):
        turns = [{k: v for k, v in turn.items() if k != "objects"} for turn in line["turns"]]
        return {key: held for key, held in line.items() if key != "masks"} | {"turns": turns}

    lines(folder, without_masks)
    with pytest.raises(
        DataError, match="has referring expressions and no masks to measure answers by: make one of"
    ):
        run_of("refcoco", folder, tmp_path / "out")
    lines(folder, lambda line: line | {"turns": [t for t in line["turns"] if t["task"] == "attribute"]})
    with pytest.raises(DataError, match="has no question of the task 'referring'"):
        run_of("refcoco", folder, tmp_path / "out")
    with pytest.raises(
        DataError, match="no question of the task 'relative_depth', nor of 'drawn_points', about marked"
    ):
        run_of("hardblink", folder, tmp_path / "out")


def test_a_missing_picture_is_named(tmp_path):
    folder = scenes_folder(tmp_path / "scenes", count=2)
    next(iter(sorted((folder / "images").iterdir()))).unlink()
    with pytest.raises(DataError, match=r"\.png cannot be read \(.*\): `perceptio data check` lists"):
        run_of("refcoco", folder, tmp_path / "out")
    assert not (tmp_path / "out" / ANSWERS).exists()


def test_an_unknown_suite():
    with pytest.raises(UnknownNameError, match="no suite 'hardblnk'; did you mean 'hardblink'"):
        suite_named("hardblnk")


def test_two_processes_go_on_to_what_one_writes(scenes, tmp_path):
    """Two go on after five answers and a torn one, with batches of four, so that each has several."""
    model_of().save_pretrained(tmp_path / "model")

    def evaluated(*start):
        command = (
            "-m",
            "perceptio.cli.main",
            "eval",
            tmp_path / "model",
            "--suite",
            "refcoco",
            "--data",
            scenes,
        )
        options = ("--out", tmp_path / "out", "--batch-size", "4", "--device", "cpu")
        done = subprocess.run(
            [sys.executable, *start, *map(str, command), *map(str, options)],
            env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert done.returncode == 0, done.stderr
        return [(tmp_path / "out" / file).read_bytes() for file in (ANSWERS, "summary.json")]

    answers, summary = evaluated()
    lines = answers.splitlines(keepends=True)
    (tmp_path / "out" / ANSWERS).write_bytes(b"".join(lines[:5]) + lines[5][:20])
    both = evaluated("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert both == [answers, summary] and len(lines) > 13


def test_points_of_published_pictures_are_looked_at_alone(tmp_path):
    summary = run_of("hardblink", hardblink(tmp_path / "hardblink"), tmp_path / "out")
    answers = read_answers(tmp_path / "out")
    assert summary["figures"]["hardblink"]["count"] == 9 and {one.points for one in answers} == {()}
