"""What a verb prints is what it was given, in any terminal."""

import io
import sys

import pytest
from rich.table import Table

from perceptio.cli.console import command, console, never_fail_to_print, progress, say

ODD = "runs/[lr=2e-3]/[/red]x :smile: [link=a]"


def test_brackets_are_text_everywhere(capsys):
    shown = console(width=100)
    say(shown, ODD)
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    shown.print(table)
    with progress(shown, "note") as bar:
        bar.add_task(ODD, total=1, note=ODD)
    assert capsys.readouterr().out.count(ODD) == 6


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
