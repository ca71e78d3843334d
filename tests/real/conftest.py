"""The real weights that `make real` has made folders of; without them these tests are skipped."""

from pathlib import Path

import pytest

DEFAULT = Path(__file__).parents[2] / "build" / "real" / "weights"


def folder(request, name):
    held = Path(request.config.getoption("--real-weights") or DEFAULT) / name
    if not held.is_dir():
        pytest.skip(f"there are no real weights at {held}: make real")
    return held


@pytest.fixture(scope="session")
def smollm2(request):
    return folder(request, "smollm2-135m")


@pytest.fixture(scope="session")
def dinov2(request):
    return folder(request, "dinov2-small")
