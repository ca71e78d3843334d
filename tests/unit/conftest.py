"""What several tests of commands share."""

import sys

import pytest

from perceptio.cli import main as command


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a verb in this process: its exit status, and what it printed to stdout and stderr."""

    def run(*arguments, columns=200):
        monkeypatch.setattr(sys, "argv", ["perceptio", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as stopped:
            command.main()
        printed = capsys.readouterr()
        return stopped.value.code or 0, printed.out, printed.err

    return run
