import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptio.errors import InputError
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.ops import attention as module
from perceptio.ops.attention import attention, chosen_path, reference

GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def forget_the_choice():
    chosen_path.cache_clear()
    yield
    chosen_path.cache_clear()


def random(*shape):
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


def packed(lengths):
    return SequenceLayout.packed(text_positions(0, sum(lengths), 1), lengths)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    groups=st.sampled_from([(4, 4), (4, 2), (6, 1)]),
)
def test_packed_segments_agree_with_the_reference_and_so_do_gradients(lengths, groups):
    heads, shared = groups
    inputs = [random(1, sum(lengths), count, 8).requires_grad_() for count in (heads, shared, shared)]
    weights = random(1, sum(lengths), heads, 8)
    layout, results = packed(lengths), []
    for path in (attention, reference):
        out = path(*inputs, layout)
        results.append((out, *torch.autograd.grad((out * weights).sum(), inputs)))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


def test_a_packed_sample_is_the_sample_alone():
    q, k, v = (random(1, 9, 2, 8) for _ in range(3))
    together = attention(q, k, v, packed((4, 5)))
    alone = attention(q[:, 4:], k[:, 4:], v[:, 4:], packed((5,)))
    torch.testing.assert_close(together[:, 4:], alone, rtol=1e-10, atol=1e-10)


def test_a_cached_row_sees_its_past_and_nothing_beyond_itself():
    q, k, v = random(2, 2, 4, 8), random(2, 12, 2, 8), random(2, 12, 2, 8)
    past = torch.tensor([1, 6])
    layout = SequenceLayout.cached(torch.zeros(1, 2, 2), past, max_keys=8)
    out = attention(q, k, v, layout)
    torch.testing.assert_close(out, reference(q, k[:, :8], v[:, :8], layout), rtol=1e-10, atol=1e-10)
    for row, length in enumerate(past.tolist()):
        whole = torch.cat([random(1, length, 4, 8), q[row : row + 1]], 1)
        alone = reference(
            whole, k[row : row + 1, : length + 2], v[row : row + 1, : length + 2], packed((length + 2,))
        )
        torch.testing.assert_close(out[row], alone[0, length:], rtol=1e-10, atol=1e-10)


def test_the_first_slot_sees_itself_alone():
    q, k, v = (random(1, 3, 1, 8) for _ in range(3))
    torch.testing.assert_close(attention(q, k, v, packed((3,)))[:, 0], v[:, 0])


def test_the_path_can_be_named(monkeypatch, caplog):
    monkeypatch.setenv("PERCEPTIO_ATTENTION", "reference")
    with caplog.at_level("INFO"):
        assert chosen_path("cpu", torch.float32, 8) == "reference"
    assert "reference (PERCEPTIO_ATTENTION asks for it)" in caplog.text


def test_without_cuda_the_choice_says_why(caplog):
    with caplog.at_level("INFO"):
        assert chosen_path("cpu", torch.float32, 8) == "sdpa"
    assert "xformers has no kernel for cpu" in caplog.text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("flash", "the attention paths are xformers, sdpa, reference"),
        ("xformers", "xformers has no kernel for cpu"),
    ],
)
def test_a_path_that_cannot_be_is_refused(monkeypatch, asked, message):
    monkeypatch.setenv("PERCEPTIO_ATTENTION", asked)
    with pytest.raises(InputError, match=message):
        chosen_path("cpu", torch.float32, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="xformers' wheels are for Linux")
def test_xformers_extension_loads_whatever_cuda_torch_was_built_for():
    code = (
        "from perceptio.ops.attention import _import_fmha\n"
        "_import_fmha()\n"
        "from xformers import _cpp_lib\n"
        "assert _cpp_lib._built_with_cuda, _cpp_lib._cpp_library_load_exception\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_mask_given_to_xformers_means_what_the_reference_does(monkeypatch):
    """Its kernels need CUDA; its own slow reference reads the same mask."""
    xformers_ops = pytest.importorskip("xformers.ops")
    from xformers.attn_bias_utils import ref_attention_bmhk

    monkeypatch.setattr(
        xformers_ops,
        "memory_efficient_attention",
        lambda q, k, v, attn_bias: ref_attention_bmhk(q, k, v, attn_bias),
    )
    q, k, v = (random(1, 9, heads, 8).float() for heads in (4, 2, 2))
    layout = packed((4, 5))
    torch.testing.assert_close(module._xformers(q, k, v, layout), reference(q, k, v, layout))


def fake_op(name, layout, *against):
    return SimpleNamespace(
        NAME=name, VARLEN_LSE_PACKED=layout, not_supported_reasons=lambda inputs: list(against)
    )


@pytest.mark.parametrize(
    ("forward", "backward", "obstacle"),
    [
        ([fake_op("f", True)], [fake_op("b", True)], None),
        ([fake_op("f", True, "no")], [fake_op("b", True)], "f: no"),
        ([fake_op("f", True)], [fake_op("b", True, "too old", "no")], "b: too old, no"),
        ([fake_op("f", True)], [fake_op("b", False)], "no forward and backward kernel that fit each other"),
        ([fake_op("f", True, "no"), fake_op("g", False)], [fake_op("b", False)], None),
    ],
)
def test_xformers_serves_where_a_forward_kernel_has_a_backward_one(forward, backward, obstacle):
    bias = SimpleNamespace(BlockDiagonalCausalMask=SimpleNamespace(from_seqlens=lambda *a, **k: None))
    fmha = SimpleNamespace(ALL_FW_OPS=forward, ALL_BW_OPS=backward, Inputs=SimpleNamespace, attn_bias=bias)
    found = module._kernel_obstacle(fmha, torch.empty(1, 16, 1, 8))
    assert found is None if obstacle is None else obstacle in found
