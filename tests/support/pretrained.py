"""Parts that read pretrained weights, one of them with adapters; `PLUGIN` is the text of a plugin that offers them.

Shapes: R rank, I width in, O width out.
"""

from pathlib import Path
from typing import ClassVar

import attrs
import torch
from fakes import WORDS
from torch import Tensor, nn

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.interfaces import (
    Kind,
    LanguageBackbone,
    LanguageBackboneConfig,
    LanguageSpec,
    VisionEncoder,
    VisionEncoderConfig,
    VisionSpec,
)
from perceptio.ops.weights import load_tensors, tensors_of, write_weights

PLUGIN = """
from perceptio.hookspecs import hookimpl
from pretrained import AdaptedLanguageConfig, PretrainedVisionConfig

@hookimpl
def register_language_backbones():
    return [AdaptedLanguageConfig]

@hookimpl
def register_vision_encoders():
    return [PretrainedVisionConfig]
"""

PLAIN_LANGUAGE = DecoderConfig(words=WORDS, hidden_dim=32, num_layers=1, num_heads=2, num_kv_heads=1)
PLAIN_VISION = ConvVisionConfig(image_size=(16, 16), widths=(8, 8, 8))


def write_base(folder: Path, seed: int = 0) -> dict[str, str]:
    """Pretrained weights of both parts: where they lie, by part."""
    torch.manual_seed(seed)
    places = {}
    for part, config in (("language", PLAIN_LANGUAGE), ("vision", PLAIN_VISION)):
        places[part] = str(folder / part)
        (folder / part).mkdir(parents=True)
        write_weights(tensors_of(config.build()), folder / part)
    return places


@attrs.frozen(kw_only=True)
class PretrainedVisionConfig(VisionEncoderConfig):
    """A small encoder with trained weights."""

    name: ClassVar[str] = "pretrained"
    kind: ClassVar[Kind] = Kind.VISION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    @property
    def spec(self) -> VisionSpec:
        return PLAIN_VISION.spec

    def centers(self, height: int, width: int) -> Tensor:
        return PLAIN_VISION.centers(height, width)

    def build(self) -> VisionEncoder:
        return PLAIN_VISION.build()

    def load_weights(self, module: nn.Module) -> bool:
        if self.weights is not None:
            load_tensors(module, Path(self.weights))
        return self.weights is not None


class Adapted(nn.Module):
    """A linear layer with a low-rank change beside it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down_RI = nn.Parameter(torch.randn(rank, base.in_features))
        self.up_OR = nn.Parameter(torch.randn(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down_RI.T @ self.up_OR.T


class AdaptedLanguage(LanguageBackbone):
    """A decoder, the first of whose blocks is adapted."""

    ADAPTED = "blocks.0.down"

    def __init__(self, spec: LanguageSpec, rank: int | None) -> None:
        super().__init__()
        self.spec = spec
        self.inner = PLAIN_LANGUAGE.build()
        if rank is not None:
            self.inner.set_submodule(self.ADAPTED, Adapted(self.inner.get_submodule(self.ADAPTED), rank))

    @property
    def text_tokenizer(self):
        return self.inner.text_tokenizer

    def embed(self, ids):
        return self.inner.embed(ids)

    def forward(self, inputs_BTD, layout, cache=None):
        return self.inner(inputs_BTD, layout, cache)

    def logits(self, hidden):
        return self.inner.logits(hidden)

    def resize_vocabulary(self, size):
        self.inner.resize_vocabulary(size)

    def initialize_rows(self, ids, rows_ND):
        self.inner.initialize_rows(ids, rows_ND)

    def new_cache(self, batch_size, max_length):
        return self.inner.new_cache(batch_size, max_length)

    def parameter_groups(self):
        named = dict(self.named_parameters())
        lora = [p for name, p in named.items() if name.endswith(("down_RI", "up_OR"))]
        rows = [p for name, p in named.items() if name == "inner.embedding.weight"]
        known = {id(p) for p in (*lora, *rows)}
        groups = {"vocabulary": rows, "trunk": [p for p in named.values() if id(p) not in known]}
        return groups | ({"lora": lora} if lora else {})

    @torch.no_grad()
    def merge(self):
        adapted = self.inner.get_submodule(self.ADAPTED)
        adapted.base.weight += adapted.up_OR @ adapted.down_RI
        self.inner.set_submodule(self.ADAPTED, adapted.base)


@attrs.frozen(kw_only=True)
class AdaptedLanguageConfig(LanguageBackboneConfig):
    """A decoder with trained weights and adapters."""

    name: ClassVar[str] = "adapted"
    kind: ClassVar[Kind] = Kind.LANGUAGE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    lora: int | None = 2
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    @property
    def spec(self) -> LanguageSpec:
        return PLAIN_LANGUAGE.spec

    def build(self) -> AdaptedLanguage:
        return AdaptedLanguage(self.spec, self.lora)

    def load_weights(self, module: nn.Module) -> bool:
        if self.weights is None:
            return False
        base = f"{AdaptedLanguage.ADAPTED}.weight"
        named = f"{AdaptedLanguage.ADAPTED}.base.weight" if self.lora else base
        load_tensors(
            module,
            Path(self.weights),
            lambda name: f"inner.{named if name == base else name}",
            elsewhere=[name for name in module.state_dict() if name.endswith(("down_RI", "up_OR"))],
        )
        return True
