"""Matching at the least cost, against all matchings there are."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptio.ops.assignment import assigned


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), workers=st.integers(1, 5), data=st.data())
def test_no_matching_costs_less(seed, workers, data):
    jobs = data.draw(st.integers(0, workers))
    generator = torch.Generator().manual_seed(seed)
    cost = torch.randn(3, workers, jobs, generator=generator)
    real = torch.rand(3, jobs, generator=generator) > 0.3
    for cost_nk, real_k, job_n in zip(
        cost.tolist(), real.tolist(), assigned(cost, real).tolist(), strict=True
    ):
        to_do = [job for job in range(jobs) if real_k[job]]
        assert sorted(job for job in job_n if job >= 0) == to_do
        found = sum(cost_nk[worker][job] for worker, job in enumerate(job_n) if job >= 0)
        every = (
            sum(cost_nk[worker][job] for worker, job in zip(chosen, to_do, strict=True))
            for chosen in permutations(range(workers), len(to_do))
        )
        assert found == pytest.approx(min(every), abs=1e-5)


def test_costs_that_are_no_numbers_give_a_matching_all_the_same():
    """Training then sees its loss become NaN, and no index out of range on the device."""
    assert assigned(torch.full((1, 3, 2), torch.nan), torch.ones(1, 2, dtype=torch.bool)).shape == (1, 3)
