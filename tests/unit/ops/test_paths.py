"""Paths in files stay in their folder."""

import pytest

from perceptio.errors import DataError
from perceptio.ops.paths import resolved_inside, why_not_inside


@pytest.mark.parametrize("path", ["a.png", "images/a b.png", "images/深度.png", "a" * 255, "./a", "…"])
def test_a_path_in_the_folder_is_taken(path, tmp_path):
    assert why_not_inside(path) is None
    assert resolved_inside(tmp_path, path, DataError) == tmp_path / path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../a", "must be a path inside"),
        ("a/../b", "must be a path inside"),
        ("/a", "must be a path inside"),
        ("a\\b", "must be a path inside"),
        ("a" * 256, "has a name longer than 255 bytes"),
        ("深" * 86, "has a name longer than 255 bytes"),
        ("a/" * 3000, "is longer than 4000"),
        ("a\0b", "has a character that no name can have"),
        ("a\nb", "has a character that no name can have"),
        ("\udce9", "has characters that are not UTF-8"),
        ("", "is not a path"),
        (None, "is not a path"),
        (7, "is not a path"),
    ],
)
def test_any_other_is_said(path, why):
    assert why in why_not_inside(path)


def test_a_link_is_followed_inside_and_nowhere_else(tmp_path):
    folder, outside = tmp_path / "data", tmp_path / "outside"
    (folder / "images").mkdir(parents=True)
    outside.write_text("secret")
    (folder / "images" / "a").write_text("a")
    (folder / "inner").symlink_to("images/a")
    (folder / "outer").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    (tmp_path / "data-link").symlink_to(folder)
    assert resolved_inside(tmp_path / "data-link", "inner", DataError).read_text() == "a"
    with pytest.raises(DataError, match="outer leads out of .*data to .*outside: put the file itself there"):
        resolved_inside(folder, "outer", DataError)
    with pytest.raises(DataError, match="loop is a symbolic link that leads nowhere"):
        resolved_inside(folder, "loop", DataError)
