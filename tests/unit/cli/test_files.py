"""A place that cannot be written is one sentence, before the work whose results it is for."""

import errno
import os
from pathlib import Path

import pytest

from perceptio.cli.files import check_free, open_folder, path, writing
from perceptio.errors import CheckpointError, DataError, InputError


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("16 requested and 0 written"),
        PermissionError(errno.EACCES, "Permission denied", "out/run"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "out"),
    ],
    ids=lambda error: str(error),
)
def test_what_could_not_be_written_is_a_sentence(tmp_path, monkeypatch, error):
    monkeypatch.chdir(tmp_path)
    sentence = "out/run could not be written .*: (make room|choose another place). What was there"
    with pytest.raises(DataError, match=sentence), writing(tmp_path / "out" / "run"):
        raise error


def test_an_error_about_another_file_is_raised_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out"):
        (tmp_path / "mine.json").read_text()


@pytest.mark.parametrize("replacing", [False, True])
def test_a_folder_is_opened_or_refused(tmp_path, replacing):
    open_folder(tmp_path / "new" / "run", replacing=replacing)
    assert (tmp_path / "new" / "run").is_dir() is not replacing
    assert not any(tmp_path.rglob(".*"))
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(DataError, match="could not be written .*: choose another place"):
            open_folder(place, replacing=replacing)


def test_a_folder_that_is_to_be_written_whole_is_empty(tmp_path):
    check_free(tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(CheckpointError, match="is not empty: choose another --out, or remove it"):
        check_free(tmp_path)
    assert os.listdir(tmp_path) == ["mine"]


def test_an_empty_path_is_refused():
    with pytest.raises(InputError, match="A path is empty, .* shell's variable"):
        path("")


def test_a_path_knows_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert path("~/x") == Path("/home/me/x") and path("~nobody-has-this-name") == Path(
        "~nobody-has-this-name"
    )
