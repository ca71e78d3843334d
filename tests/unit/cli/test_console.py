"""What a verb prints is what it was given, in any terminal."""

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from perceptio.cli.console import Bars, command, console, never_fail_to_print, say

ODD = "runs/[lr=2e-3]/[/red]x :smile: [link=a]"


def test_brackets_are_text_everywhere(capsys):
    shown = console(width=100)
    say(shown, ODD)
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    shown.print(table)
    with Bars(shown) as bars:
        bars.update(bars.add_task(ODD, total=1, note=ODD), completed=1)
    assert capsys.readouterr().out.count(ODD) == 6


def test_figures_leave_the_bars_their_place_in_a_narrow_terminal():
    shown = Console(file=io.StringIO(), force_terminal=True, width=60, markup=False)
    figures = "  ".join(f"figure_{number} 0.123" for number in range(8))
    with Bars(shown) as bars:
        bars.update(bars.add_task("depth codes of training data", total=40), completed=10)
        bars.update(bars.add_task("mine", total=40), completed=10, note=figures)
    last = shown.file.getvalue().rpartition("\x1b[2K")[2]
    assert last.count("10/40") == 2
    assert "".join(last.split()).count("figure_") == 8


def test_without_a_terminal_progress_is_a_line_now_and_then_and_one_at_the_end(monkeypatch, capsys):
    seconds = iter([0.0, 10.0, 15.0, 16.0, 31.0, 32.0])
    monkeypatch.setattr("perceptio.cli.console.time.monotonic", lambda: next(seconds))
    with Bars(console()) as bars:
        task = bars.add_task("mine", total=6)
        for step in range(1, 7):
            bars.update(task, completed=step, note=f"loss {step}")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ·")[2] for line in lines] == [" loss 3", " loss 5", " loss 6"]
    assert lines[0].startswith("mine: 3 of 6") and lines[2] == "mine: 6 of 6 · loss 6"


def test_a_long_line_is_left_whole(capsys):
    say(console(width=20), "word " * 20)
    assert capsys.readouterr().out == "word " * 20 + "\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    never_fail_to_print()
    say(console(), "深 \udce9")
    stream.flush()
    assert b"\\udce9" in stream.buffer.getvalue()


def test_a_command_in_a_hint_is_one_that_a_shell_takes():
    assert command("ask", "my runs/$a", "IMAGE") == "perceptio ask 'my runs/$a' IMAGE"


def test_control_characters_of_a_model_do_not_reach_the_terminal(capsys):
    say(console(), "a\x16\x1b[2Jb\x9b\tc\nd")
    assert capsys.readouterr().out.split() == [r"a\x16\x1b[2Jb\x9b", "c", "d"]
