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


def test_samples_of_one_length_share_a_call(monkeypatch):
    calls = []
    sdpa = module._sdpa
    monkeypatch.setattr(module, "_sdpa", lambda *inputs: calls.append(inputs[0].shape) or sdpa(*inputs))
    layout = packed((3, 5, 3, 2, 5, 3))
    inputs = [random(1, 21, heads, 8) for heads in (4, 2, 2)]
    shared = attention(*inputs, layout)
    assert calls == [(3, 3, 4, 8), (2, 5, 4, 8), (1, 2, 4, 8)]
    torch.testing.assert_close(shared, reference(*inputs, layout), rtol=1e-10, atol=1e-10)


def test_a_cpu_computes_bfloat16_in_float32_under_autocast_too():
    q, k, v = (random(1, 64, 2, 16).bfloat16() for _ in range(3))
    layout = packed((40, 24))
    plain = attention(q, k, v, layout)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = attention(q, k, v, layout)
    assert plain.dtype == autocast.dtype == torch.bfloat16
    assert autocast.equal(plain)
    exact = reference(q.float(), k.float(), v.float(), layout)
    torch.testing.assert_close(plain.float(), exact, rtol=2**-8, atol=1e-4)


def test_each_path_prepares_what_it_needs_of_a_layout():
    layout = packed((2, 2))
    assert module._once_per_layout(layout, module._samples_by_length) == [[0, 1]]
    assert module._once_per_layout(layout, module._visible).shape == (1, 4, 4)
    again = module._once_per_layout(layout, module._samples_by_length)
    assert again is module._once_per_layout(layout, module._samples_by_length)


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
        lambda q, k, v, attn_bias, op: ref_attention_bmhk(q, k, v, attn_bias),
    )
    q, k, v = (random(1, 9, heads, 8).float() for heads in (4, 2, 2))
    layout = packed((4, 5))
    torch.testing.assert_close(module._xformers(q, k, v, layout), reference(q, k, v, layout))


def kind(name, forward=(), backward=()):
    """Kernels of a kind, and what they have against every input."""
    ops = {
        part: SimpleNamespace(NAME=name + part[0], not_supported_reasons=lambda inputs, why=why: list(why))
        for part, why in {"FwOp": forward, "BwOp": backward}.items()
    }
    return SimpleNamespace(**ops)


@pytest.mark.parametrize(
    ("fa2", "cutlass", "chosen", "said"),
    [
        (kind("fa2"), kind("cutlass"), "fa2", "xformers has fa2F and fa2B"),
        (kind("fa2", ["no"]), kind("cutlass"), "cutlass", "xformers has cutlassF and cutlassB"),
        (kind("fa2", [], ["too old", "no"]), kind("cutlass"), "cutlass", "cutlassB"),
        (
            kind("fa2", [], ["too old", "no"]),
            kind("cutlass", ["new"]),
            None,
            "fa2B: too old, no; cutlassF: new",
        ),
    ],
)
def test_xformers_serves_with_the_first_kind_that_goes_both_ways(fa2, cutlass, chosen, said):
    bias = SimpleNamespace(BlockDiagonalCausalMask=SimpleNamespace(from_seqlens=lambda *a, **k: None))
    none = kind("none", ["not built"])
    fmha = SimpleNamespace(
        flash3=none, flash=fa2, cutlass=cutlass, ck=none, Inputs=SimpleNamespace, attn_bias=bias
    )
    found, why = module._fitting_kernels(fmha, torch.empty(1, 16, 2, 8))
    assert found == {"fa2": (fa2.FwOp, fa2.BwOp), "cutlass": (cutlass.FwOp, cutlass.BwOp), None: None}[chosen]
    assert said in why


@pytest.mark.skipif(sys.platform != "linux", reason="xformers' wheels are for Linux")
def test_every_kind_that_xformers_has_keeps_its_sums_one_way():
    """The kernels by their own word: a pair whose layouts differ would raise at the first backward pass."""
    fmha = module._import_fmha()
    kinds = [fmha.flash3, fmha.flash, fmha.cutlass, fmha.ck]
    assert all(kind.FwOp.VARLEN_LSE_PACKED == kind.BwOp.VARLEN_LSE_PACKED for kind in kinds)
    found, why = module._fitting_kernels(fmha, torch.empty(1, 16, 2, 64))
    assert found is None and all(f"{kind.FwOp.NAME}: device=cpu" in why for kind in kinds[1:3])
