"""A small decoder: RMSNorm, rotary positions on several axes, grouped-query attention, SwiGLU and a cache.

Shapes: B rows, T new slots, S cached keys, A position axes, D hidden width, Q heads, G heads of keys and values,
E head width, F rotary frequencies (E / 2), M width of the feed-forward layer.
"""

from typing import ClassVar, NamedTuple

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.backbones.language.words import WordsTokenizer, vocabulary_size
from perceptio.errors import RecipeError
from perceptio.interfaces import Kind, LanguageBackbone, LanguageBackboneConfig, LanguageSpec, SequenceLayout
from perceptio.ops.attention import attention
from perceptio.ops.kv_cache import KeyValueCache
from perceptio.ops.rms_norm import RMSNorm

INITIAL_SCALE = 1.0
"""The initial standard deviation of a weight, times the square root of its input width (ours)."""


class Rotation(NamedTuple):
    """The cosines and sines of every slot's angles, each [B, T, 1, E]; the sines of the first half are negated."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x_BTQE: Tensor) -> Tensor:
        """Rotate the two halves of each head against each other (RoPE, arXiv 2104.09864)."""
        cos, sin = self.cos.to(x_BTQE.dtype), self.sin.to(x_BTQE.dtype)
        return torch.addcmul(x_BTQE * cos, x_BTQE.roll(x_BTQE.shape[-1] // 2, -1), sin)


class RotaryPositions(nn.Module):
    """Converts coordinates to rotations. The axes alternate among the pairs of a head and share their frequencies.

    The alternation is that of Qwen3-VL. The multimodal RoPE of Qwen2-VL instead gives each axis its own band of
    frequencies.
    """

    def __init__(self, head_dim: int, axes: int, base: float, fastest: float = 1.0) -> None:
        super().__init__()
        self.base, self.fastest = base, fastest
        self.turn_F: Tensor
        self.axis_F: Tensor
        index_F = torch.arange(head_dim // 2)
        self.register_buffer("turn_F", index_F // axes * axes, persistent=False)
        self.register_buffer("axis_F", index_F % axes, persistent=False)

    @property
    def frequency_F(self) -> Tensor:
        """The radians per unit of the axis, computed from integers, which `.to(torch.bfloat16)` does not round."""
        return self.fastest * self.base ** (-self.turn_F / len(self.turn_F))

    def forward(self, positions_ABT: Tensor) -> Rotation:
        """Return the rotation of every slot, in float32."""
        angles_BTF = positions_ABT.float()[self.axis_F].permute(1, 2, 0) * self.frequency_F
        cos_BTF, sin_BTF = angles_BTF.cos(), angles_BTF.sin()
        return Rotation(
            torch.cat([cos_BTF, cos_BTF], -1)[:, :, None], torch.cat([-sin_BTF, sin_BTF], -1)[:, :, None]
        )


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each with a norm before it and a residual connection."""

    RESIDUAL = ("attention_out", "down")
    """The layers that write into the residual stream."""

    def __init__(self, hidden_dim: int, num_heads: int, num_kv_heads: int, feed_forward_dim: int) -> None:
        super().__init__()
        self.heads = (num_heads, num_kv_heads, num_kv_heads)
        self.head_dim = hidden_dim // num_heads
        self.attention_norm = RMSNorm(hidden_dim)
        self.query_key_value = nn.Linear(hidden_dim, sum(self.heads) * self.head_dim, bias=False)
        self.attention_out = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.feed_forward_norm = RMSNorm(hidden_dim)
        self.gate_up = nn.Linear(hidden_dim, 2 * feed_forward_dim, bias=False)
        self.down = nn.Linear(feed_forward_dim, hidden_dim, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        layout: SequenceLayout,
        rotate_query: Rotation,
        rotate_key: Rotation,
        layer: int,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """Return the output of the block; `layer` is the index of its keys and values in the cache."""
        q_k_v = self.query_key_value(self.attention_norm(x_BTD)).unflatten(-1, (-1, self.head_dim))
        q_BTQE, k_BSGE, v_BSGE = q_k_v.split(self.heads, 2)
        q_BTQE, k_BSGE = rotate_query(q_BTQE), rotate_key(k_BSGE)
        if cache is not None:
            k_BSGE, v_BSGE = cache.write(layer, k_BSGE, v_BSGE, layout)
        k_BSGE, v_BSGE = (x.to(q_BTQE.dtype) for x in (k_BSGE, v_BSGE))
        attended_BTQE = attention(q_BTQE, k_BSGE, v_BSGE, layout)
        x_BTD = x_BTD + self.attention_out(attended_BTQE.flatten(2))
        gate_BTM, up_BTM = self.gate_up(self.feed_forward_norm(x_BTD)).chunk(2, -1)
        return x_BTD + self.down(F.silu(gate_BTM) * up_BTM)


class Decoder(LanguageBackbone):
    """A decoder with tied input and output embeddings."""

    def __init__(
        self,
        spec: LanguageSpec,
        text_tokenizer: WordsTokenizer,
        blocks: list[Block],
        rotary: RotaryPositions,
    ) -> None:
        super().__init__()
        self.spec = spec
        self._text_tokenizer = text_tokenizer
        self.embedding = nn.Embedding(spec.vocab_size, spec.hidden_dim)
        self.rotary = rotary
        self.blocks = nn.ModuleList(blocks)
        self.norm = RMSNorm(spec.hidden_dim)
        self._initialize()

    def _initialize(self) -> None:
        """Initialize weights; those that write to the residual stream shrink with the number of layers (GPT-2)."""
        nn.init.normal_(self.embedding.weight, std=self.spec.hidden_dim**-0.5)
        residual_scale = (2 * len(self.blocks)) ** -0.5
        for name, layer in self.blocks.named_modules():
            if isinstance(layer, nn.Linear):
                scale = residual_scale if name.endswith(Block.RESIDUAL) else 1.0
                nn.init.normal_(layer.weight, std=scale * INITIAL_SCALE * layer.in_features**-0.5)

    @property
    def text_tokenizer(self) -> WordsTokenizer:
        """See `LanguageBackbone.text_tokenizer`."""
        return self._text_tokenizer

    def embed(self, ids: Tensor) -> Tensor:
        """See `LanguageBackbone.embed`."""
        return self.embedding(ids) * self.spec.hidden_dim**0.5

    def forward(
        self, inputs_BTD: Tensor, layout: SequenceLayout, cache: KeyValueCache | None = None
    ) -> Tensor:
        """See `LanguageBackbone.forward`."""
        rotate_key = self.rotary(layout.positions_ABT)
        looks_ABT = layout.query_positions_ABT
        rotate_query = rotate_key if looks_ABT is None else self.rotary(looks_ABT)
        x_BTD = inputs_BTD
        for number, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, layout, rotate_query, rotate_key, number, cache)
        return self.norm(x_BTD)

    def logits(self, hidden: Tensor) -> Tensor:
        """See `LanguageBackbone.logits`."""
        return F.linear(hidden, self.embedding.weight)

    def resize_vocabulary(self, size: int) -> None:
        """See `LanguageBackbone.resize_vocabulary`."""
        old_VD = self.embedding.weight.data
        new_ND = torch.randn_like(old_VD[:1].expand(size - len(old_VD), -1)) * old_VD.std(0) + old_VD.mean(0)
        self.embedding = nn.Embedding.from_pretrained(torch.cat([old_VD, new_ND]), freeze=False)

    def initialize_rows(self, ids: Tensor, rows_ND: Tensor) -> None:
        """See `LanguageBackbone.initialize_rows`."""
        self.embedding.weight.data[ids] = rows_ND.to(self.embedding.weight) * self.spec.hidden_dim**-0.5

    def new_cache(self, batch_size: int, max_length: int) -> KeyValueCache:
        """See `LanguageBackbone.new_cache`."""
        return KeyValueCache(batch_size, max_length)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups `vocabulary`, the embeddings of all ids, and `trunk`, all other parameters."""
        rows = self.embedding.get_parameter("weight")
        return {"vocabulary": [rows], "trunk": [p for p in self.parameters() if p is not rows]}


@attrs.frozen(kw_only=True)
class DecoderConfig(LanguageBackboneConfig):
    """A small decoder, trained from random weights.

    Attributes:
        words: The words that its text tokenizer encodes as single ids, besides bytes and printable ASCII.
        hidden_dim: The width of the residual stream, a multiple of twice `num_heads`.
        num_layers: The number of layers.
        num_heads: The number of query heads, a multiple of `num_kv_heads`.
        num_kv_heads: The number of heads of keys and values.
        feed_forward_dim: The width of the feed-forward layers. None: three times `hidden_dim`.
        position_axes: 3 for (time, row, column), 1 for time only.
        rope_base: About how many times slower the slowest rotation is than the fastest. 100 suits sequences of some
            hundred slots and grids of ten cells (ours).
        rope_fastest: The radians by which the fastest rotation turns from one slot, or cell, to the next. Language
            models use 1. With larger values a model learns earlier to distinguish neighboring cells (ours).

    Raises:
        RecipeError: A value is out of range, or the sizes do not fit together.
    """

    name: ClassVar[str] = "decoder"
    kind: ClassVar[Kind] = Kind.LANGUAGE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    words: tuple[str, ...] = ()
    hidden_dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    feed_forward_dim: int | None = None
    position_axes: int = 3
    rope_base: float = 100.0
    rope_fastest: float = 1.0

    def __attrs_post_init__(self) -> None:
        sizes = {
            name: getattr(self, name) for name in ("hidden_dim", "num_layers", "num_heads", "num_kv_heads")
        }
        if self.feed_forward_dim is not None:
            sizes["feed_forward_dim"] = self.feed_forward_dim
        for name, size in sizes.items():
            if size < 1:
                raise RecipeError(f"decoder: {name} is {size}; it must be at least 1.")
        if self.num_heads % self.num_kv_heads:
            raise RecipeError(
                f"decoder: num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})."
            )
        if self.hidden_dim % (2 * self.num_heads):
            raise RecipeError(
                f"decoder: hidden_dim ({self.hidden_dim}) must be a multiple of twice num_heads ({self.num_heads}), "
                "so that rotary positions find halves to rotate."
            )
        if self.position_axes not in (1, 3):
            raise RecipeError(
                f"decoder: position_axes is {self.position_axes}; it is 1 (time) or 3 (time, row, column)."
            )
        if self.rope_base <= 1 or self.rope_fastest <= 0:
            raise RecipeError(
                f"decoder: rope_base ({self.rope_base}) must be above 1, and rope_fastest ({self.rope_fastest}) "
                "above 0."
            )

    @property
    def spec(self) -> LanguageSpec:
        """See `LanguageBackboneConfig.spec`."""
        return LanguageSpec(
            vocab_size=vocabulary_size(self.words),
            hidden_dim=self.hidden_dim,
            position_axes=self.position_axes,
        )

    def build(self) -> Decoder:
        """See `LanguageBackboneConfig.build`."""
        feed_forward_dim = self.feed_forward_dim or 3 * self.hidden_dim
        blocks = [
            Block(self.hidden_dim, self.num_heads, self.num_kv_heads, feed_forward_dim)
            for _ in range(self.num_layers)
        ]
        rotary = RotaryPositions(
            self.hidden_dim // self.num_heads, self.position_axes, self.rope_base, self.rope_fastest
        )
        return Decoder(self.spec, WordsTokenizer(self.words), blocks, rotary)
