"""Attention over packed samples: xformers' kernels and one SDPA call per length, against padding and a dense mask.

All four compute the same, forward and backward, and are checked against the float64 reference first. Every control
is at its strongest: the padded batch comes ready padded and needs no mask, since nobody sees the padding behind a
causal sample, and the dense mask is made once.

`long` and `demo` are small enough for a CPU; on a GPU they measure the host, which starts the kernels. `large` is a
batch as a pretrained model trains on it, where the kernels count, and is left to GPUs. Its dense mask would fill
several gigabytes and is left out.

Shapes: B samples, T packed positions, L positions of the longest sample, Q heads, G heads of keys and values,
E head width.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from support import Bench, Variant, relative_difference, run_benchmark
from torch import Tensor
from torch.nn import functional as F
from workload import LONG_LENGTHS, demo_conversations, demo_recipe, lengths_of

from perceptio.backbones.internvl import QWEN2_5_05B
from perceptio.data.collate import Collate
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.ops.attention import VARIABLE, attention, chosen_path, reference

ROUNDS = 15
LARGE_LENGTHS = (3300, 3180, 3420, 3250, 3350, 3290, 3310, 3400)
"""Conversations about images of a dozen tiles, 256 features each."""
ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
Inputs = tuple[Tensor, Tensor, Tensor]


def measure(bench: Bench) -> None:
    """Every case, forward and forward with backward."""
    recipe = demo_recipe(bench.quick)
    collate = Collate.of(recipe, recipe.language.build().text_tokenizer)
    batch = collate(demo_conversations(recipe, 2 if bench.quick else 16))
    decoder = recipe.language
    with path_restored():
        compare_paths(bench, "long", lengths_of(LONG_LENGTHS, bench.quick), (8, 4), 64)
        compare_paths(
            bench,
            "demo",
            batch.lengths,
            (decoder.num_heads, decoder.num_kv_heads),
            decoder.hidden_dim // decoder.num_heads,
        )
        if bench.quick or bench.device.type == "cuda":
            heads = (QWEN2_5_05B["num_attention_heads"], QWEN2_5_05B["num_key_value_heads"])
            width = QWEN2_5_05B["hidden_size"] // heads[0]
            compare_paths(bench, "large", lengths_of(LARGE_LENGTHS, bench.quick), heads, width, dense=False)


def compare_paths(
    bench: Bench, case: str, lengths: Sequence[int], heads: tuple[int, int], width: int, dense: bool = True
) -> None:
    """Check and time every path over samples of these lengths, that of the dense mask where `dense`."""
    device, total = bench.device, sum(lengths)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    q_k_v = tuple(
        torch.randn(1, total, count, width, device=device, dtype=dtype).requires_grad_()
        for count in (heads[0], heads[1], heads[1])
    )
    layout = SequenceLayout.packed(text_positions(0, total, 1).to(device), lengths)
    choose = partial(choose_path, device.type, dtype, width)
    shape = (len(lengths), max(lengths))
    real_T = torch.cat([torch.arange(n) + i * shape[1] for i, n in enumerate(lengths)]).to(device)
    padded = tuple(_padded(x, real_T, shape).requires_grad_() for x in q_k_v)

    def ours(inputs: Inputs) -> Tensor:
        return attention(*inputs, layout)

    paths: dict[str, tuple[Callable[[Inputs], Tensor], tuple[Tensor, ...], Callable[[], object]]] = {
        "segments": (ours, q_k_v, partial(choose, "sdpa")),
        "padded": (_causal, padded, lambda: None),
    }
    if dense:
        paths["dense_mask"] = (partial(_masked, _visible(lengths).to(device)), q_k_v, lambda: None)
    base = "segments"
    if choose(None) == "xformers":
        paths, base = {"xformers": (ours, q_k_v, partial(choose, "xformers")), **paths}, "xformers"
    bench.sizes[case] = {
        "lengths": list(lengths),
        "heads": list(heads),
        "head_width": width,
        "dtype": str(dtype).removeprefix("torch."),
        "path": base,
        "padding": round(1 - total / math.prod(shape), 3),
    }

    weights = torch.randn_like(q_k_v[0])
    truths = _truths(q_k_v, weights, lengths)
    variants: dict[str, dict[str, Variant]] = {"forward": {}, "forward_backward": {}}
    for name, (path, inputs, prepare) in paths.items():
        prepare()
        is_padded = name == "padded"
        weight = _padded(weights, real_T, shape) if is_padded else weights
        out = path(inputs)
        found = (out, *torch.autograd.grad((out * weight).sum(), inputs))
        if is_padded:
            found = tuple(x.flatten(0, 1)[real_T][None] for x in found)
        difference = max(relative_difference(mine, exact) for mine, exact in zip(found, truths, strict=True))
        bench.check(f"{case}.{name}", difference, ALLOWED[dtype])
        variants["forward"][name] = Variant(partial(_forward, path, inputs), prepare)
        variants["forward_backward"][name] = Variant(partial(_backward, path, inputs, weight), prepare)
    for direction, group in variants.items():
        pairs = [(name, base) for name in group if name != base]
        bench.compare(f"{case}.{direction}", group, pairs, ROUNDS)


def choose_path(device: str, dtype: torch.dtype, width: int, name: str | None) -> str:
    """Have `ops.attention` take a path, or the one it would choose itself; its choice, made outside the clock."""
    os.environ.pop(VARIABLE, None)
    if name is not None:
        os.environ[VARIABLE] = name
    chosen_path.cache_clear()
    return chosen_path(device, dtype, width)


@contextmanager
def path_restored() -> Iterator[None]:
    """Leave the choice of path as it was found."""
    before = os.environ.get(VARIABLE)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
        chosen_path.cache_clear()


def _truths(q_k_v_1THE: Inputs, weights_1THE: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """The float64 reference of every sample by itself: its output, and the gradients of q, k and v."""
    truths = []
    for q, k, v, weights in zip(
        *(x.split(tuple(lengths), 1) for x in (*q_k_v_1THE, weights_1THE)), strict=True
    ):
        exact = tuple(x.detach().double().requires_grad_() for x in (q, k, v))
        positions_AT = text_positions(0, q.shape[1], 1).to(q.device)
        out = reference(*exact, SequenceLayout.packed(positions_AT, (q.shape[1],)))
        truths.append((out.detach(), *torch.autograd.grad((out * weights).sum(), exact)))
    return [torch.cat(parts, 1) for parts in zip(*truths, strict=True)]


def _forward(path: Callable[[Inputs], Tensor], inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return path(inputs)


def _backward(path: Callable[[Inputs], Tensor], inputs: Inputs, weights: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(path(inputs), inputs, weights)


def _causal(q_k_v_BLHE: Inputs) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in q_k_v_BLHE)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)


def _masked(visible_TT: Tensor, q_k_v_1THE: Inputs) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in q_k_v_1THE)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible_TT, enable_gqa=True).transpose(1, 2)


def _padded(x_1THE: Tensor, real_T: Tensor, shape: tuple[int, int]) -> Tensor:
    """The samples, each filled up to the longest: [B, L, H, E], `shape` being (B, L)."""
    filled = x_1THE.new_zeros(shape[0] * shape[1], *x_1THE.shape[2:])
    return filled.index_copy(0, real_T, x_1THE.detach()[0]).unflatten(0, shape)


def _visible(lengths: Sequence[int]) -> Tensor:
    """Which slot sees which in one packed row: boolean [T, T]."""
    return torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("attention", "Attention over packed samples.", measure, arguments)


if __name__ == "__main__":
    main()
