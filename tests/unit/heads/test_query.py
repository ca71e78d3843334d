"""The query head, beside torch's own attention put together as CoVT describes it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.heads.query import QueryHeadConfig
from perceptio.testing.component import MODEL

IN, OUT = 12, 16


def reference(head, states_Nnd, num_heads, dim):
    """The same map by `nn.MultiheadAttention`, given the head's weights."""
    attention = nn.MultiheadAttention(OUT, num_heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([head.query.weight, head.key.weight, head.value.weight]))
        attention.in_proj_bias.copy_(torch.cat([head.query.bias, head.key.bias, head.value.bias]))
        attention.out_proj.load_state_dict(head.out.state_dict())
    mapped = states_Nnd @ head.project.weight.T + head.project.bias
    mapped = mapped / mapped.square().sum(dim, keepdim=True).sqrt().clamp_min(1e-12)
    rows, _ = attention(head.queries.expand(len(states_Nnd), -1, -1), mapped, mapped)
    return rows


@pytest.mark.parametrize(("over", "dim"), [("states", 1), ("width", 2)])
@pytest.mark.parametrize(("num_queries", "num_heads"), [(5, 8), (4, 4), (1, 1)])
def test_it_is_cross_attention_of_learned_queries(over, dim, num_queries, num_heads):
    config = QueryHeadConfig(num_queries=num_queries, num_heads=num_heads, normalize_over=over)
    head = config.build(IN, OUT, MODEL)
    for linear in (head.query, head.key, head.value):
        nn.init.normal_(linear.bias)
    states_Nnd = torch.randn(3, 4, IN) * torch.tensor([0.1, 1.0, 30.0])[:, None, None]
    rows_NmD = head(states_Nnd)
    assert rows_NmD.shape == (3, config.num_rows(4), OUT) == (3, num_queries, OUT)
    torch.testing.assert_close(rows_NmD, reference(head, states_Nnd, num_heads, dim), atol=1e-5, rtol=1e-5)


def test_normalizing_is_what_functional_normalize_does_by_default():
    """Which dimension CoVT's code divides by is torch's to say."""
    head = QueryHeadConfig(num_queries=2, num_heads=2).build(IN, OUT, MODEL)
    states_Nnd = torch.randn(2, 3, IN)
    seen = []
    head.key.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(states_Nnd)
    torch.testing.assert_close(seen[0], F.normalize(head.project(states_Nnd)))


def test_heads_that_do_not_divide_a_row_are_refused():
    with pytest.raises(RecipeError, match=r"num_heads is 8, which does not divide .* row, 60; set it to 6"):
        QueryHeadConfig(num_queries=4).build(IN, 60, MODEL)
    with pytest.raises(RecipeError, match=r"num_queries \(0\) and num_heads \(8\) must be at least 1"):
        QueryHeadConfig(num_queries=0)
