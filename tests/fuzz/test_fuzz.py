"""Every mutant of a valid file is read, or refused in a sentence: nothing raw, nothing endless, nothing enormous.

A few mutants of each format run with the other tests, and many with `make fuzz`, which sets PERCEPTIO_FUZZ.
"""

import os
import re
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from formats import FORMATS
from hypothesis import HealthCheck, Phase, given, settings

from perceptio.errors import PerceptioError

EXAMPLES = int(os.environ.get("PERCEPTIO_FUZZ", "25"))
SECONDS = 20
"""Longest that a file may keep its reader, on a busy machine."""
GIBIBYTES = 1.5
"""Most memory that a file of some kilobytes may cost."""


class EndlessError(BaseException):
    """A reader that has not come to its end."""


@contextmanager
def bounds():
    """Limits of time and memory around a reader."""

    def stop(*_):
        raise EndlessError

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(GIBIBYTES * 2**30), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def memory_was_asked_for(error):
    """Whether a refusal came of an allocation, and not of a look at the size."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded as Linux does it")
@pytest.mark.parametrize("name", FORMATS)
def test_a_mutant_is_read_or_refused(name, tmp_path, counts):
    chosen = FORMATS[name]
    file = chosen.prepare(tmp_path)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(chosen.mutants)
    def read(mutant):
        file.write_bytes(mutant)
        try:
            with bounds():
                chosen.read(file)
        except PerceptioError as error:
            counts["refused"] += 1
            said = str(error)
            assert chosen.refuses, said
            assert said and len(said) < 5000, said
            assert all(re.match(r"  \d+\. ", line) for line in said.split("\n")[1:]), said
            assert str(tmp_path) in said or (chosen.part and said.startswith(chosen.part)), said
            assert not memory_was_asked_for(error), said
        else:
            counts["read"] += 1

    read()
    assert counts["read"] and (counts["refused"] or not chosen.refuses), counts
