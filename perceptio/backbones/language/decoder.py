"""Stop-gap decoder."""
from typing import ClassVar, Any
import attrs, torch
from torch import nn, Tensor
from torch.nn import functional as F
from perceptio.interfaces import Kind, LanguageBackbone, LanguageBackboneConfig, LanguageSpec, SequenceLayout
from perceptio.ops.attention import attention
from perceptio.backbones.language.words import WordsTokenizer

def rotate(x_BTQE, cs):
    cos, sin = cs
    a, b = x_BTQE.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

class Block(nn.Module):
    def __init__(self, d, h, g, f):
        super().__init__()
        self.h, self.g, self.e = h, g, d // h
        self.n1, self.n2 = nn.RMSNorm(d), nn.RMSNorm(d)
        self.qkv = nn.Linear(d, (h + 2 * g) * self.e, bias=False)
        self.o = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 2 * f, bias=False)
        self.down = nn.Linear(f, d, bias=False)
    def forward(self, x, layout, rq, rk, cache):
        b, t, d = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, -1, self.e).split([self.h, self.g, self.g], 2)
        q, k = rotate(q, rq), rotate(k, rk)
        if cache is not None:
            ck, cv = cache
            idx = layout.past_B[:, None] + torch.arange(t)
            rows = torch.arange(b)[:, None]
            ck[rows, idx] = k; cv[rows, idx] = v
            k, v = ck, cv
        x = x + self.o(attention(q, k, v, layout).reshape(b, t, d))
        a, g = self.up(self.n2(x)).chunk(2, -1)
        return x + self.down(F.silu(g) * a)

class Decoder(LanguageBackbone):
    def __init__(self, words, spec, layers, h, g, f, base):
        super().__init__()
        self.spec = spec; self._text = WordsTokenizer(words); d = spec.hidden_dim
        self.g, self.e = g, d // h
        self.embedding = nn.Embedding(spec.vocab_size, d); nn.init.normal_(self.embedding.weight, std=0.02 ** 0 * 0.5 / 1)
        nn.init.normal_(self.embedding.weight, std=d ** -0.5)
        self.blocks = nn.ModuleList(Block(d, h, g, f) for _ in range(layers))
        self.norm = nn.RMSNorm(d)
        half = self.e // 2
        self.register_buffer("freq", base ** (-torch.arange(half) / half), persistent=False)
        self.register_buffer("axis", torch.arange(half) % spec.position_axes, persistent=False)
    @property
    def text_tokenizer(self): return self._text
    def embed(self, ids): return self.embedding(ids) * self.spec.hidden_dim ** 0.5
    def _cs(self, p_ABT):
        ang = p_ABT[self.axis].permute(1, 2, 0) * self.freq
        return ang.cos()[:, :, None], ang.sin()[:, :, None]
    def forward(self, x, layout, cache=None):
        rk = self._cs(layout.positions_ABT)
        rq = rk if layout.query_positions_ABT is None else self._cs(layout.query_positions_ABT)
        for i, blk in enumerate(self.blocks):
            x = blk(x, layout, rq, rk, None if cache is None else cache[i])
        return self.norm(x)
    def logits(self, h): return F.linear(h, self.embedding.weight)
    def resize_vocabulary(self, size):
        old = self.embedding.weight.data
        new = torch.randn(size - len(old), old.shape[1]) * old.std() + old.mean(0)
        self.embedding = nn.Embedding.from_pretrained(torch.cat([old, new]), freeze=False)
    def initialize_rows(self, ids, rows):
        with torch.no_grad(): self.embedding.weight[ids] = rows * self.spec.hidden_dim ** -0.5
    def new_cache(self, b, n):
        return [(torch.zeros(b, n, self.g, self.e), torch.zeros(b, n, self.g, self.e)) for _ in self.blocks]
    def parameter_groups(self): return {"vocabulary": [self.embedding.weight], "trunk": [p for n, p in self.named_parameters() if n != "embedding.weight"]}

@attrs.frozen(kw_only=True)
class DecoderConfig(LanguageBackboneConfig):
    """Stop-gap."""
    name: ClassVar[str] = "decoder"; kind: ClassVar[Kind] = Kind.LANGUAGE; interface: ClassVar[tuple[int, int]] = (1, 0)
    words: tuple[str, ...] = ()
    hidden_dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    ffn: int = 3
    position_axes: int = 3
    rope_base: float = 100.0
    @property
    def spec(self):
        return LanguageSpec(vocab_size=len(WordsTokenizer(self.words).pieces), hidden_dim=self.hidden_dim, position_axes=self.position_axes)
    def build(self):
        return Decoder(self.words, self.spec, self.num_layers, self.num_heads, self.num_kv_heads, self.hidden_dim * self.ffn, self.rope_base)
