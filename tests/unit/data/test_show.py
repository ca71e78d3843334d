"""The page of a data folder counts what is there, shows it, and takes no text of it for HTML."""

import json
import re

import numpy as np
import pytest
from balanced_html import _Balance
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.data.show import FolderPage, _distribution, _spread

EVIL = '<script>alert("x")<script> & "quotes"'  # Without a slash, which stands in names of plugins' tasks.


@pytest.fixture
def folder(tmp_path):
    folder = scenes_folder(tmp_path / "data", count=3)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[1]["id"] = EVIL
    lines[1]["turns"][0] = {"task": EVIL, "question": EVIL, "answer": EVIL}
    lines.append(
        {"id": "talk", "ordered": True, "turns": [{"task": "chat", "question": "?", "answer": "one two"}]}
    )
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_page_counts_and_shows_and_escapes(folder):
    seen = []
    html = FolderPage(folder, recipe=small_recipe(folder), progress=lambda *at: seen.append(at)).html()
    balance = _Balance()
    balance.feed(re.sub(r"<img [^>]*>", "", html))
    assert balance.open == [] and seen[-1] == (4, 4)
    assert "4 samples." in html and "<script" not in html and html.count("&lt;script&gt;") >= 4
    dataset = FolderDataset(folder)
    turns = [turn for record in dataset.records for turn in record.turns]
    for task in ("referring", "relative_depth", "chat"):
        count = sum(turn.task == task for turn in turns)
        assert f'<tr><td>{task}</td><td class="number">{count}</td>' in html
    assert '<td>picture</td><td class="number">3</td>' in html
    images = re.findall(r'<img src="data:image/jpeg;base64,[^"]+" alt="([^"]*)"', html)
    assert len(images) == 6 and all(images), "each picture and its depth, with words for who sees none"
    assert "No picture." in html and "Lengths for small" in html and "http" not in html


def test_what_cannot_be_read_is_said_in_the_page(folder):
    (folder / FolderDataset(folder).records[0].image).write_bytes(b"no picture")
    html = FolderPage(folder).html()
    assert "Files that cannot be read" in html and "is no image that can be read" in html


def test_shares_of_a_distribution_add_up():
    values = [*range(1, 101), 5000]
    html = _distribution("Words", values)
    shares = [float(one) for one in re.findall(r"<span>([\d.]+)%</span>", html)]
    assert abs(sum(shares) - 100) < 0.6 and len(shares) <= 10 and "most 5,000" in html
    assert _distribution("Words", []) == "" and "100.0%" in _distribution("Words", [3, 3])


def test_numbers_are_spread_from_the_first_to_the_last():
    assert _spread(5, 12) == [0, 1, 2, 3, 4] and _spread(0, 3) == []
    spread = _spread(665_000, 300)
    assert (spread[0], spread[-1], len(spread)) == (0, 664_999, 300) and (np.diff(spread) > 0).all()
