"""A disk that refuses is one sentence; an error about another file is its own."""

import errno

import pytest

from perceptio.cli.files import open_folder, writing
from perceptio.errors import DataError


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
    with (
        pytest.raises(DataError, match="out/run could not be written .*make room, or choose another --out"),
        writing(tmp_path / "out" / "run"),
    ):
        raise error


def test_an_error_about_another_file_is_raised_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out"):
        (tmp_path / "mine.json").read_text()


def test_a_folder_is_opened_or_refused(tmp_path):
    open_folder(tmp_path / "new" / "run")
    assert (tmp_path / "new" / "run").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/run could not be written"):
        open_folder(tmp_path / "file" / "run")
