"""Python files by path: executed once, under a name of their own, with what lies beside them."""

import pickle
import sys

import pytest

from perceptio import python_files
from perceptio.errors import PerceptioError
from perceptio.python_files import module_of

CLASSES = """
from __future__ import annotations
import dataclasses

@dataclasses.dataclass
class Point:
    x: int = 3
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    python_files._warn_of_change.cache_clear()


def test_a_file_is_one_module_however_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "points.py").write_text(CLASSES)
    first = module_of(tmp_path / "points.py")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.py").symlink_to("points.py")
    assert all(
        module_of(tmp_path.joinpath(other)) is first
        for other in ("points.py", "../" + tmp_path.name + "/link.py")
    )
    assert pickle.loads(pickle.dumps(first.Point())) == first.Point()


def test_two_files_of_one_stem_are_two_modules_and_odd_names_are_names(tmp_path):
    made = []
    for folder in ("a.b", "100%2e", "a:b/ü"):
        (tmp_path / folder).mkdir(parents=True)
        file = tmp_path / folder / "points.py"
        file.write_text(f"{CLASSES}\n\nFOLDER = {folder!r}\n")
        made.append(module_of(file))
    assert [module.FOLDER for module in made] == ["a.b", "100%2e", "a:b/ü"]
    for module in made:
        sys.modules.pop(module.__name__)
        assert pickle.loads(pickle.dumps(module_of(tmp_path / module.FOLDER / "points.py").Point())).x == 3


def test_a_process_that_was_never_told_finds_the_file_by_the_pickle(tmp_path):
    (tmp_path / "points.py").write_text(CLASSES)
    module = module_of(tmp_path / "points.py")
    written = pickle.dumps(module.Point(x=5))
    del sys.modules[module.__name__]
    assert pickle.loads(written).x == 5


def test_a_file_that_has_changed_is_executed_again_only_where_that_is_asked_for(tmp_path, caplog):
    file = tmp_path / "points.py"
    file.write_text("VALUE = 1\n")
    first = module_of(file)
    file.write_text("VALUE = 2\n")  # Of the same size, in the same second.
    assert module_of(file) is first and module_of(file).VALUE == 1
    assert [record.message for record in caplog.records] == [
        f"{file} has changed since it was executed; this process goes on with what it read. Start a new one."
    ]
    renewed = module_of(file, renew=True)
    assert renewed.VALUE == 2 and module_of(file) is renewed
    assert not list(tmp_path.rglob("*.pyc"))
    file.write_text("VALUE = 1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        module_of(file, renew=True)
    assert sys.modules[renewed.__name__] is renewed


@pytest.mark.parametrize(("line", "named"), [("from . import near", "NAME"), ("from .near import x", "near")])
def test_a_file_is_in_no_package(tmp_path, line, named):
    (tmp_path / "near.py").write_text("x = 1\n")
    (tmp_path / "far.py").write_text(f"{line}\n")
    with pytest.raises(
        PerceptioError, match=f"far.py imports from .*is in no package.*such as import {named}\\."
    ):
        module_of(tmp_path / "far.py")


def test_a_file_that_fails_leaves_no_half_of_a_module(tmp_path):
    (tmp_path / "half.py").write_text("VALUE = 1\nraise RuntimeError('half')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="half"):
            module_of(tmp_path / "half.py")


def test_modules_beside_a_file_are_imported_and_hidden_ones_are_refused(tmp_path):
    for folder, value in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a_module_beside.py").write_text(f"VALUE = {value}\n")
        (tmp_path / folder / "main.py").write_text("from a_module_beside import VALUE\n")
    assert module_of(tmp_path / "one" / "main.py").VALUE == 1
    with pytest.raises(
        PerceptioError, match="the a_module_beside beside it is hidden by .*/one/a_module_beside.py: rename"
    ):
        module_of(tmp_path / "two" / "main.py")
    (tmp_path / "two" / "attrs.py").write_text("")
    (tmp_path / "two" / "third.py").write_text("import attrs\n")
    with pytest.raises(PerceptioError, match="imports attrs, and the attrs beside it is hidden by"):
        module_of(tmp_path / "two" / "third.py")
    del sys.modules["a_module_beside"]


@pytest.mark.parametrize("name", ["missing.py", "folder", "text.txt"])
def test_what_is_no_python_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("VALUE = 1\n")
    with pytest.raises(
        PerceptioError, match=f"{name} is no Python file: give the path of a file that ends in .py"
    ):
        module_of(tmp_path / name)
