"""Muon: orthogonal steps, PyTorch's own Muon as the oracle, and kernels of convolutions as matrices."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.interfaces.maps import iou
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig
from perceptio.training.muon import COEFFICIENTS, STEPS, Muon, orthogonalized


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_singular_values_come_near_one(shape):
    scales = torch.tensor([1.0, 1e-3, 1e3])[:, None, None]
    matrices = torch.randn(3, *shape) * scales
    values = torch.linalg.svdvals(orthogonalized(matrices))
    assert values.min() > 0.3 and values.max() < 1.3


@pytest.mark.parametrize("shape", [(1, 12, 12), (2, 8, 72), (2, 72, 8)])
def test_iterating_on_the_gram_matrix_computes_what_iterating_on_the_matrix_does(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.logspace(0, -6, shape[-1])
    a, b, c = COEFFICIENTS
    x = matrices.double()
    x = x / x.norm(dim=(-2, -1), keepdim=True)
    for _ in range(sum(STEPS)):
        gram = x @ x.mT
        x = a * x + b * gram @ x + c * gram @ gram @ x
    torch.testing.assert_close(orthogonalized(matrices).double(), x, rtol=0, atol=2e-5)
    torch.testing.assert_close(orthogonalized(matrices.double()), x, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("by_muon", [True, False])
def test_it_tells_objects_apart_whose_hidden_states_have_most_in_common(by_muon):
    """As those of a pretrained language model have, from which AdamW learns, so soon, that all masks are empty."""
    torch.manual_seed(0)
    common_D, own_4D = torch.randn(64), torch.randn(4, 64)
    hidden_4D = 2.4 * (common_D + 0.16 * own_4D)
    colors_43 = torch.tensor([[0.7, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.7], [0.4, 0.4, 0.0]])
    masks = PixelFeaturesConfig(image_size=(16, 16), widths=(8, 8), feature_dim=8).build()
    head = PromptMLPConfig().build(64, 9, None)
    parameters = [*head.parameters(), *masks.parameters()]
    matrices, vectors = ([p for p in parameters if (p.ndim >= 2) is kind] for kind in (True, False))
    optimizers = [Muon([{"params": matrices}], lr=0.02) if by_muon else torch.optim.AdamW(matrices, lr=1e-3)]
    optimizers.append(torch.optim.AdamW(vectors, lr=1e-3))
    found = []
    for step in range(60):
        places = torch.zeros(4, 2, 2)
        places[torch.randperm(4), [0, 0, 1, 1], [0, 1, 0, 1]] = (
            1  # Each object fills a quarter of the picture.
        )
        covered_4HW = places.repeat_interleave(8, 1).repeat_interleave(8, 2)
        pixels_3HW = 0.3 * torch.rand(3, 16, 16) + torch.einsum("kc,khw->chw", colors_43, covered_4HW)
        asked = torch.randperm(4)[:2]
        prompts_21P = head(hidden_4D[asked])[:, None]
        features = masks.encode_image(pixels_3HW[None])
        logits_2hw = masks.decode(features, prompts_21P, torch.tensor([0, 0])).logits_Nhw
        targets_2hw = F.max_pool2d(covered_4HW[asked], 2)
        F.binary_cross_entropy_with_logits(logits_2hw, targets_2hw).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step >= 50:
            found.append(iou((logits_2hw > 0).flatten(1), (targets_2hw > 0.5).flatten(1)).mean().item())
    assert (sum(found) / len(found) > 0.15) is by_muon
    assert by_muon or max(found) < 0.05
