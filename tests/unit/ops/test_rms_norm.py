"""RMSNorm on a CPU, against PyTorch's and against numerical gradients."""

import pytest
import torch
from torch.nn import functional as F

from perceptio.ops.rms_norm import RMSNorm, rms_norm


def outcome(norm, x, weight, gradient):
    """The output and both gradients."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = norm(x, weight)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), gradient)]


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [(torch.float32, 1e-5, 1e-6), (torch.float64, 1e-12, 1e-12), (torch.bfloat16, 0.02, 0.02)],
)
@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 4, 8)])
def test_it_computes_what_pytorch_does(dtype, rtol, atol, shape):
    torch.manual_seed(0)
    x, gradient = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    weight = torch.rand(8, dtype=dtype) + 0.5
    ours = outcome(rms_norm, x, weight, gradient)
    theirs = outcome(lambda x, w: F.rms_norm(x, w.shape, w), x, weight, gradient)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_its_gradients_are_those_of_its_output():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=torch.float64).transpose(0, 1).requires_grad_()
    weight = torch.rand(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-6), (x, weight))


def test_zeros_stay_zeros_and_have_finite_gradients():
    y, *gradients = outcome(rms_norm, torch.zeros(2, 4), torch.ones(4), torch.ones(2, 4))
    assert not y.any() and all(gradient.isfinite().all() for gradient in gradients)


def test_a_float32_weight_serves_bfloat16_vectors():
    norm = RMSNorm(8)
    y = norm(torch.randn(3, 8, dtype=torch.bfloat16))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and norm.weight.grad.dtype == torch.float32
