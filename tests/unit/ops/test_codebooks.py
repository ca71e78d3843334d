"""How a codebook is used, by hand."""

import pytest
import torch

from perceptio.ops.codebooks import code_usage


@pytest.mark.parametrize(
    ("counts", "used", "perplexity"), [([2, 0, 0, 2], 2, 2.0), ([1, 1, 1, 1], 4, 4.0), ([0, 7], 1, 1.0)]
)
def test_code_usage(counts, used, perplexity):
    usage = code_usage(torch.tensor(counts))
    assert usage == {"codes_used": used, "perplexity": pytest.approx(perplexity)}
