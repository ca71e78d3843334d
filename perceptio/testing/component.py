"""Tests that apply to components of every kind, and helpers that the tests of all kinds share."""

import pickle
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.interfaces import (
    INTERFACE_VERSION,
    CodeGroup,
    ComponentConfig,
    Continuous,
    DepthConvention,
    DepthSpec,
    Kind,
    LanguageSpec,
    ModelSpecs,
    PerceptionSpec,
    SegmentationSpec,
    SpecialTokens,
    StreamSpec,
    StreamSpecs,
    TokenBlock,
    TokenSpan,
    VisionSpec,
)
from perceptio.registry import Registry
from perceptio.serialize import from_json, to_json

BLOCK = TokenBlock(
    opening=20,
    closing=21,
    codebooks=(TokenSpan(start=22, size=8),),
    groups=(CodeGroup.on_grid((2, 2)),),
    steps=(1, 1, 1, 1),
    grid=(2, 2),
)
PIXELS = 16
WIDTH = 6


def special_tokens(name: str, first_id: int, count: int, target: str) -> StreamSpecs:
    """Return a stream that is written once per image, as `count` special tokens with the same name."""
    written = Continuous(tokens=(f"<{name}>",) * count, width=WIDTH)
    return StreamSpecs(
        tokenizer=PerceptionSpec(stream=StreamSpec(written=written, target=target)),
        tokens=SpecialTokens(ids=(first_id,) * count),
    )


MODEL = ModelSpecs(
    vision=VisionSpec(feature_dim=WIDTH, image_size=(PIXELS, PIXELS)),
    language=LanguageSpec(vocab_size=19, hidden_dim=WIDTH, position_axes=1),
    streams={
        "segmentation": StreamSpecs(
            tokenizer=SegmentationSpec(
                prompt_dim=WIDTH, image_size=(PIXELS, PIXELS), mask_size=(PIXELS // 2, PIXELS // 2)
            ),
            tokens=SpecialTokens(ids=(19,), per="object"),
        ),
        "depth": StreamSpecs(
            tokenizer=DepthSpec(
                codebook_size=8, grid=(2, 2), image_size=(PIXELS, PIXELS), convention=DepthConvention()
            ),
            tokens=BLOCK,
        ),
        "edges": special_tokens("edges", 34, 2, "edges"),
        "features": special_tokens("features", 35, 2, "image"),
        "objects": special_tokens("objects", 36, 3, "objects"),
    },
    locations=TokenSpan(start=30, size=4),
    vocab_size=37,
    heads=("depth",),
)
"""The small model in which losses and heads are tested.

Its streams are `segmentation`, masks of objects; `depth`, four codes with a codebook of eight; and three streams of
special tokens once per image: `edges`, a map; `features`, two rows of a teacher's features; `objects`, three masks.
"""


class ComponentConformance:
    """Tests of what a config declares about itself; set `config` in the subclass."""

    config: ClassVar[Any]
    kind: ClassVar[Kind]

    def test_the_config_is_frozen_and_states_what_it_is(self) -> None:
        """Name, kind and interface version are class variables; settings cannot be changed in place."""
        config = self.config
        assert isinstance(config, ComponentConfig)
        assert config.kind is self.kind
        assert config.name and "/" not in config.name
        assert config.interface[0] == INTERFACE_VERSION[0] and config.interface[1] <= INTERFACE_VERSION[1]
        for field in attrs.fields(type(config)):
            try:
                setattr(config, field.name, getattr(config, field.name))
            except attrs.exceptions.FrozenInstanceError:
                continue
            raise AssertionError(f"{field.name} can be changed in place: use @attrs.frozen(kw_only=True).")

    def test_the_config_survives_json(self) -> None:
        """A checkpoint restores the same config, found by its registered name."""
        registry = Registry.discover()
        assert from_json(to_json(self.config, registry), registry) == self.config

    def test_the_config_survives_pickling(self) -> None:
        """Configs are sent to other processes, such as those that load data."""
        assert pickle.loads(pickle.dumps(self.config)) == self.config

    def fresh(self) -> nn.Module:
        """Return the component as its config builds it."""
        return self.config.build()

    def test_its_outline_can_be_built_on_the_meta_device(self) -> None:
        """Names, shapes and types are available without values or files, as `perceptio explain` needs them."""
        with torch.device("meta"):
            outline = self.fresh()
        outlined, held = (
            {name: (value.shape, value.dtype) for name, value in part.state_dict().items()}
            for part in (outline.train(), self.fresh())
        )
        assert outlined == held
        assert all(parameter.is_meta for parameter in outline.parameters() if parameter.numel() > 10_000)


def seeded(seed: int = 0) -> torch.Generator:
    """Return a new, seeded random number generator."""
    return torch.Generator().manual_seed(seed)


def frozen_copy(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def assert_unchanged(module: nn.Module, before: dict[str, Tensor], by: str) -> None:
    """Assert that no parameter or buffer has changed."""
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert not changed, f"{by} changed {', '.join(changed)}."


def assert_near(one: Tensor, other: Tensor, what: str) -> None:
    """Assert equality up to float32 rounding from a different order of operations."""
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text: f"{what}: {text}")
