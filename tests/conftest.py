"""The same random numbers in every run: each fixture and each test starts from one seed, whatever ran before it.

`pytest --seed 7` asks whether a test holds for other random numbers, too.
"""

import random

import numpy as np
import pytest
import torch
from hypothesis import settings

# The same examples in every run, however slow the machine.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="Where random numbers of every test start.")
    parser.addoption("--kills", type=int, default=4, help="How many trainings test_kills.py kills.")
    parser.addoption("--real-weights", help="Where tests/real finds what benchmarks/real/weights.py made.")
    parser.addoption("--device", default="cuda", help="Where tests/gpu run; cpu rehearses them.")


def start_from(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(request):
    start_from(request.config.getoption("--seed"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    start_from(item.config.getoption("--seed"))
