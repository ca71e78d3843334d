import pytest
import torch

from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.ops.attention import attention, chosen_path, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="xformers' kernels need CUDA, and there is none"
    ),
]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float32, 1e-4)]
)
def test_xformers_agrees_with_the_reference_forward_and_backward(dtype, tolerance):
    assert chosen_path("cuda", dtype, 64) == "xformers"
    generator = torch.Generator(device="cuda").manual_seed(0)
    lengths = (37, 5, 128, 1)
    shapes = [(1, sum(lengths), heads, 64) for heads in (8, 2, 2)]
    inputs = [
        torch.randn(s, generator=generator, device="cuda", dtype=dtype).requires_grad_() for s in shapes
    ]
    weights = torch.randn(shapes[0], generator=generator, device="cuda", dtype=dtype)
    layout = SequenceLayout.packed(text_positions(0, sum(lengths), 1).cuda(), lengths)
    fast = attention(*inputs, layout)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    slow = reference(*exact, layout)
    pairs = [(fast, slow)]
    pairs += zip(
        torch.autograd.grad((fast * weights).sum(), inputs),
        torch.autograd.grad((slow * weights).sum(), exact),
        strict=True,
    )
    for mine, truth in pairs:
        assert (mine.double() - truth).abs().max() <= tolerance * truth.abs().max()
