"""Shards of a pass: what each does, that one killed is done again to the same bytes, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shard_passes import OfBatch

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.check import check_folder
from perceptio.data.teachers.shards import FOLDER, Shard, claim, one_at_a_time
from perceptio.data.teachers.targets import write_depth_targets
from perceptio.errors import DataError, InputError

SUPPORT = Path(__file__).parents[2] / "support"
PICTURES = 18
BOUND_S = 120
"""Far more than it takes on a busy machine."""


@pytest.fixture
def photos(tmp_path):
    """Pictures of one size; the red of the first pixel is the number of each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        pixels[0, 0, 0] = number
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def run(photos, out, **settings):
    return write_depth_targets(photos, out, OfBatch(), **({"batch_size": 2, "workers": 1} | settings))


def held(folder):
    """What a data folder holds, by path."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 4))
def test_shards_are_a_partition_and_so_are_shards_of_a_shard(items, outer, inner):
    listed = list(range(items))
    whole = [item for number in range(1, outer + 1) for item in Shard(number, outer).of(listed)]
    assert sorted(whole) == listed
    nested = [
        Shard(rank, inner).within(Shard(number, outer))
        for number in range(1, outer + 1)
        for rank in range(1, inner + 1)
    ]
    assert sorted(nested) == [Shard(number, outer * inner) for number in range(1, outer * inner + 1)]


def test_the_shard_of_a_process_that_torchrun_started():
    assert Shard.of_rank({}) == Shard(1, 1)
    assert Shard.of_rank({"RANK": "3", "WORLD_SIZE": "8"}) == Shard(4, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/3", "The shard 0/3 is none: shards are counted from 1/3 to 3/3"),
        ("4/3", "The shard 4/3 is none: shards are counted from 1/3 to 3/3"),
        ("1/0", "The shard 1/0 is none"),
        ("two", "--shard is 'two'; write which of how many it is, such as 2/8"),
        ("1/2/3", "--shard is '1/2/3'; write which"),
    ],
)
def test_what_is_no_shard(text, message):
    with pytest.raises(InputError, match=message):
        Shard.parse(text)


def test_the_last_shard_to_end_completes_the_folder(photos, tmp_path):
    out = tmp_path / "out"
    first = run(photos, out, shard=Shard(1, 3))
    assert (first.made, [str(one) for one in first.waits_for]) == (6, ["2/3", "3/3"])
    third = run(photos, out, shard=Shard(3, 3))
    assert (third.made, [str(one) for one in third.waits_for]) == (6, ["2/3"])
    with pytest.raises(DataError, match="no dataset.json"):
        FolderDataset(out)
    assert run(photos, out, shard=Shard(2, 3)).waits_for == ()
    assert len(FolderDataset(out)) == PICTURES and not check_folder(out).problems
    assert not (out / FOLDER).exists()
    again = run(photos, out, shard=Shard(2, 3))
    assert (again.made, again.kept, again.waits_for) == (0, 6, ())


def test_more_shards_than_pictures(tmp_path, photos):
    for picture in sorted(photos.iterdir())[2:]:
        picture.unlink()
    reports = [run(photos, tmp_path / "out", shard=Shard(number, 4)) for number in (4, 3, 2, 1)]
    assert [report.made for report in reports] == [0, 0, 1, 1] and reports[-1].waits_for == ()


def test_what_one_shard_cannot_read_the_last_one_leaves_out_and_names(photos, tmp_path):
    (photos / "00.png").write_bytes(b"no picture")
    assert len(run(photos, tmp_path / "out", shard=Shard(1, 2)).broken) == 1
    report = run(photos, tmp_path / "out", shard=Shard(2, 2))
    assert list(report.broken) == [str(photos / "00.png")] and report.waits_for == ()
    assert len(FolderDataset(tmp_path / "out")) == PICTURES - 1


def test_a_pass_without_shards_does_what_shards_have_left(photos, tmp_path):
    run(photos, tmp_path / "out", shard=Shard(2, 3))
    report = run(photos, tmp_path / "out")
    assert (report.made, report.kept, report.waits_for) == (12, 6, ())
    assert len(FolderDataset(tmp_path / "out")) == PICTURES


def test_three_processes_at_once_of_which_one_is_killed(photos, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(SUPPORT), str(Path.cwd())))}
    command = [sys.executable, str(SUPPORT / "shard_passes.py"), str(photos), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BOUND_S)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["statuses"] == [0, -9, 0, 0] and seen["incomplete"], done.stderr
    said = {number: one["waits_for"] for number, one in seen["said"].items()}
    assert "2/3" in said["1"] and "2/3" in said["3"] and said["2"] == []
    assert 2 <= seen["said"]["2"]["kept"] < 6
    for number in (1, 2, 3):
        run(photos, alone, shard=Shard(number, 3))
    assert held(out) == held(alone) and not check_folder(out).problems
    computed = [(tmp_path / f"computed.{number}").read_text().split() for number in (1, 2, 3)]
    own = [list(map(str, Shard(number, 3).of(range(PICTURES)))) for number in (1, 2, 3)]
    assert sorted(computed[0]) == sorted(own[0]) and sorted(computed[2]) == sorted(own[2])
    assert set(computed[1]) == set(own[1]) and len(computed[1]) <= 6 + 2 * 2  # The batches that it died in.


def test_a_pass_that_was_stopped_goes_on_with_the_same_batches(photos, tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for number in range(5):  # Of other sizes, which wait for company.
        Image.new("RGB", (11 + number, 9)).save(photos / f"{3 * number:02}b.png")

    def stop(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, stopped, batch_size=3, progress=stop)
    made = sorted((stopped / "depth").iterdir())
    made[1].unlink()  # As if it had been stopped between two pictures of a batch.
    with (stopped / FOLDER / "1-of-1.batches").open("a") as log:
        log.write('["17.p')  # And in the middle of a line.
    run(photos, stopped, batch_size=3)
    run(photos, whole, batch_size=3)
    assert held(stopped) == held(whole)


def test_what_is_refused_while_another_process_is_at_it(photos, tmp_path):
    out = tmp_path / "out"
    run(photos, out, shard=Shard(1, 3))
    with one_at_a_time(out):
        stack = claim(Shard(2, 3), out)
        stack.__enter__()
    with pytest.raises(DataError, match=r"another process is at shard 2/3 of it; wait for that, or end it"):
        run(photos, out, shard=Shard(2, 3))
    with pytest.raises(DataError, match=r"another process is at shard 2/3 of it"):
        run(photos, out)
    with pytest.raises(DataError, match=r"another process is at shard 2/3 of it"):
        run(photos, out, shard=Shard(1, 2))
    stack.__exit__(None, None, None)
    with one_at_a_time(out):
        stack = claim(Shard(), out)
        stack.__enter__()
    with pytest.raises(DataError, match=r"another process is at it; wait for that, or end it"):
        run(photos, out, shard=Shard(3, 3))
    stack.__exit__(None, None, None)


def test_shards_of_another_number_or_teacher_are_refused(photos, tmp_path):
    out = tmp_path / "out"
    run(photos, out, shard=Shard(1, 3))
    with pytest.raises(
        DataError, match=r"begun in 3 shards, and 2/4 is one of 4: give --shard 1/3 to 3/3, or none"
    ):
        run(photos, out, shard=Shard(2, 4))
    other = OfBatch()
    other.weights_hash = "other"
    with pytest.raises(
        DataError, match=r"made otherwise.*teacher.weights_sha256 \(there 'none', now 'other'\)"
    ):
        write_depth_targets(photos, out, other, shard=Shard(2, 3))


def test_a_shard_s_findings_that_cannot_be_read(photos, tmp_path):
    run(photos, tmp_path / "out", shard=Shard(1, 2))
    (tmp_path / "out" / FOLDER / "1-of-2.json").write_text("{}")
    with pytest.raises(DataError, match="1-of-2.json cannot be read .*: remove it, and run shard 1/2 again"):
        run(photos, tmp_path / "out", shard=Shard(2, 2))


def test_a_folder_that_another_process_keeps(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("perceptio.data.teachers.shards.PATIENCE_S", 0.0)
    with (
        one_at_a_time(tmp_path / "out"),
        pytest.raises(DataError, match="Another process has kept .*out for 0 sec"),
    ):
        run(photos, tmp_path / "out")
