import os
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from perceptio.errors import DataError
from perceptio.ops import files
from perceptio.ops.files import (
    check_replaceable,
    disk_errors,
    folder_lock,
    is_free,
    new_file,
    new_folder,
    recover,
    whole,
)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_folder(place, **contents):
    with new_folder(place) as new:
        for name, text in contents.items():
            (new / name).write_text(text)


@pytest.fixture(params=["renamed", "mount point"])
def place(request, tmp_path, monkeypatch):
    """A folder to replace: one that can be renamed, and one that a volume is mounted on."""
    folder = tmp_path / "run"
    if request.param == "mount point":
        folder.mkdir()
        monkeypatch.setattr(files.os.path, "ismount", lambda path: os.fspath(path) == os.fspath(folder))
    return folder


def test_a_folder_is_replaced_whole_and_nothing_is_left_beside_it(place):
    write_folder(place, a="1", b="2")
    write_folder(place, b="3", c="4")
    assert tree(place) == {"b": "3", "c": "4"}
    assert os.listdir(place.parent) == ["run"]


def test_an_error_leaves_what_was_there(place):
    write_folder(place, a="1")
    with pytest.raises(ZeroDivisionError), new_folder(place) as new:
        (new / "a").write_text("2")
        _ = 1 / 0
    assert tree(place) == {"a": "1"} and os.listdir(place.parent) == ["run"]


def test_a_volume_is_written_to(tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", volume], capture_output=True, check=False).returncode:
        pytest.skip("This user may not mount a volume here.")
    try:
        check_replaceable(volume)
        assert is_free(volume)
        write_folder(volume, a="1", b="2")
        write_folder(volume, b="3")
        assert tree(volume) == {"b": "3"} and os.listdir(volume) == ["b"] and not is_free(volume)
    finally:
        subprocess.run(["umount", volume], check=True)


@pytest.mark.parametrize("renames", range(1, 9))
def test_a_rename_that_fails_rolls_back(place, renames, monkeypatch):
    write_folder(place, a="1", b="2")
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == renames:
            raise PermissionError(1, "no", str(source))
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", failing)
    try:
        write_folder(place, a="3", c="4")
    except PermissionError:
        monkeypatch.undo()
        assert tree(place) == {"a": "1", "b": "2"}
    else:
        assert len(calls) < renames and tree(place) == {"a": "3", "c": "4"}


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from perceptio.ops import files
    place, at, mounted = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mount point"
    if mounted:
        os.path.ismount = lambda path: os.fspath(path) == os.fspath(place)
    rename, calls = os.rename, []
    def killed(source, target):
        rename(source, target)
        calls.append(source)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
    os.rename = killed
    with files.new_folder(place) as new:
        (new / "a").write_text("3")
        (new / "c").write_text("4")
"""


@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_between_renames_leaves_the_old_or_the_new(place, at):
    write_folder(place, a="1", b="2")
    kind = "mount point" if files.os.path.ismount(place) else "renamed"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(place), str(at), kind]
    killed = subprocess.run(command, check=False).returncode == -signal.SIGKILL
    recover(place)
    old, new = {"a": "1", "b": "2"}, {"a": "3", "c": "4"}
    assert tree(place) in ((old, new) if killed else (new,))
    write_folder(place, d="5")
    assert tree(place) == {"d": "5"} and os.listdir(place.parent) == ["run"]


def test_a_reader_finds_what_a_killed_writer_left_aside(tmp_path):
    write_folder(tmp_path / "run", a="1")
    assert whole(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").rename(tmp_path / ".run.old")
    assert tree(whole(tmp_path / "run")) == {"a": "1"}
    assert recover(tmp_path / "run") and tree(tmp_path / "run") == {"a": "1"}


def test_a_reader_of_entries_that_were_being_exchanged_finds_them_whole_or_is_told(tmp_path):
    old = tmp_path / ".entries.old"
    write_folder(old, a="1")
    (tmp_path / "c").write_text("half of the new")
    assert tree(whole(tmp_path)) == {"a": "1"}
    old.rename(tmp_path / ".entries.leaving")
    with pytest.raises(BlockingIOError, match="its writer was killed in that"):
        whole(tmp_path)
    assert recover(tmp_path) and whole(tmp_path) == tmp_path and (tmp_path / "a").exists()


def test_a_mount_that_does_not_look_like_one_keeps_its_place(tmp_path, monkeypatch):
    place, rename = tmp_path / "run", os.rename
    write_folder(place, a="1")
    number = place.stat().st_ino

    def busy(source, target):
        if source == place:
            raise OSError(16, "Device or resource busy", str(source))
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", busy)
    write_folder(place, b="2")
    assert tree(place) == {"b": "2"} and place.stat().st_ino == number
    assert os.listdir(place) == ["b"] and os.listdir(tmp_path) == ["run"]


def test_a_file_is_never_replaced_by_a_folder(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(NotADirectoryError, match="a file is there"), new_folder(tmp_path / "mine"):
        raise AssertionError("The block was entered.")
    assert tree(tmp_path) == {"mine": "x"}


@pytest.mark.parametrize("path", ["a\0b", "n" * 300])
def test_what_is_no_path_is_an_error_of_the_disk(path):
    with pytest.raises(DataError, match="could not be written"), disk_errors(path, DataError):
        check_replaceable(path)


def test_writers_of_one_file_never_mix(tmp_path):
    def write(number):
        for _ in range(40):
            with new_file(tmp_path / "file") as new:
                new.write_text(str(number) * 1000)
            assert len(set((tmp_path / "file").read_text())) == 1

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, range(8))) == [None] * 8
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    leftover, another = tmp_path / ".run.new-1", tmp_path / ".run.new-7"
    for folder in (leftover, another):
        folder.mkdir()
        (folder / "half").write_text("x")
    with new_folder(tmp_path / "run") as mine:
        assert mine == leftover and not list(mine.iterdir())
        with new_folder(tmp_path / "run") as other:
            assert other.name == ".run.new-2"
    assert os.listdir(tmp_path) == ["run"]


def test_modes_are_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with new_folder(tmp_path / "run") as new:
            (new / "weights").touch(0o600)
        with new_file(tmp_path / "file.txt") as new:
            new.write_text("x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"run": 0o750, "weights": 0o640, "file.txt": 0o640}


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    for name in ("file.txt", "run"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    with new_file(tmp_path / "file.txt") as new:
        new.write_text("x")
    write_folder(tmp_path / "run", a="1")
    assert (tmp_path / "file.txt").is_symlink() and (tmp_path / "run").is_symlink()
    assert tree(tmp_path / "real") == {"file.txt": "x", "run/a": "1"}


def test_the_working_folder_keeps_its_place(tmp_path, monkeypatch):
    (tmp_path / "old").touch()
    monkeypatch.chdir(tmp_path)
    number = os.stat(".").st_ino
    write_folder(".", a="1")
    assert os.stat(".").st_ino == number and os.listdir(".") == ["a"]


def test_the_longest_name_has_room_for_its_hidden_one(tmp_path):
    name = "n" * 251 + ".txt"
    with new_file(tmp_path / name) as new:
        new.write_text("x")
    assert os.listdir(tmp_path) == [name]


def test_a_folder_is_kept_for_one_process(tmp_path):
    refused = pytest.raises(DataError, match="another process is writing there")
    with folder_lock(tmp_path), refused, disk_errors(tmp_path, DataError), folder_lock(tmp_path):
        raise AssertionError("Two have the lock.")
    with folder_lock(tmp_path):
        assert (tmp_path / files.LOCK).exists()


def test_what_the_disk_refuses_is_a_sentence_and_what_it_did_not_is_left_alone(tmp_path):
    sentence = r"run could not be written \(the disk is full\): make room"
    with pytest.raises(DataError, match=sentence), disk_errors(tmp_path / "run", DataError):
        raise OSError(28, "No space left on device")
    with pytest.raises(DataError, match="disk is full"), disk_errors(tmp_path / "run", DataError):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(DataError, match="disk is full"), disk_errors(tmp_path / "run", DataError):
        raise OSError("16 requested and 0 written")
    with pytest.raises(ConnectionError), disk_errors(tmp_path / "run", DataError):
        raise ConnectionError("no route")
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path / "run", DataError):
        (tmp_path / "source" / "missing").read_text()
    with pytest.raises(ZeroDivisionError), disk_errors(tmp_path / "run", DataError):
        _ = 1 / 0


def test_it_is_said_beforehand_that_a_folder_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    sentence = "a file is there, and a folder is to be written"
    with pytest.raises(DataError, match=sentence), disk_errors(tmp_path / "file", DataError):
        check_replaceable(tmp_path / "file")
    check_replaceable(tmp_path / "new" / "run")
    assert os.listdir(tmp_path / "new") == []
