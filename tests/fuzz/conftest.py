"""How many mutants of each format were read and refused: the table at the end of `make fuzz`."""

import os
from collections import Counter

import pytest

COUNTS = pytest.StashKey[dict[str, Counter]]()


@pytest.fixture
def counts(request):
    """What becomes of the mutants of a test."""
    held = request.config.stash.setdefault(COUNTS, {})
    return held.setdefault(request.node.callspec.id, Counter())


def pytest_terminal_summary(terminalreporter, config):
    if "PERCEPTIO_FUZZ" not in os.environ:
        return
    counts = config.stash.get(COUNTS, {})
    terminalreporter.section("mutants")
    for name, one in (*counts.items(), ("all", sum(counts.values(), Counter()))):
        terminalreporter.write_line(f"{name:26}{one['read']:8,} read{one['refused']:8,} refused")
