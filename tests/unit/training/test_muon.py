"""Muon: orthogonal steps, PyTorch's own Muon as the oracle, and kernels of convolutions as matrices."""

import pytest
import torch
from torch import nn

from perceptio.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_singular_values_come_near_one(shape):
    scales = torch.tensor([1.0, 1e-3, 1e3])[:, None, None]
    matrices = torch.randn(3, *shape) * scales
    values = torch.linalg.svdvals(orthogonalized(matrices))
    assert values.min() > 0.3 and values.max() < 1.3


def test_a_matrix_of_zeros_stays_where_it_is():
    matrix = nn.Parameter(torch.ones(2, 3))
    matrix.grad = torch.zeros(2, 3)
    Muon([matrix], lr=0.1).step()
    assert torch.equal(matrix, torch.ones(2, 3))


def test_it_agrees_with_pytorch_up_to_bfloat16():
    start = torch.randn(8, 4)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = Muon([ours], lr=0.1, weight_decay=0.1), torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        ours.grad = torch.randn(8, 4)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).abs().max()
    assert (ours - theirs).abs().max() < 0.02 * moved


def test_a_kernel_moves_as_the_matrix_that_it_is():
    start, gradient = torch.randn(5, 2, 3, 3), torch.randn(5, 2, 3, 3)
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1))
    kernel.grad, matrix.grad = gradient, gradient.flatten(1)
    Muon([kernel, matrix], lr=0.1).step()
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=0)
