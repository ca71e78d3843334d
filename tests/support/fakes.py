"""Small parts for tests: stand-ins for the real ones that the interfaces must be able to carry.

Shapes: B images, N objects, S special tokens, P prompt width, L codes, K codebook size, C latent width, h w cells.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.interfaces import (
    CodebookDepthTokenizer,
    Continuous,
    DepthConvention,
    DepthSpec,
    DepthTokenizerConfig,
    GenerationSettings,
    Kind,
    MaskCodes,
    MaskPrediction,
    ModelSpecs,
    Pass,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    Question,
    Reply,
    Sample,
    SegmentationSpec,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
    StreamSpec,
    Task,
    TaskConfig,
    TaskData,
    Teacher,
    TeacherConfig,
    TeacherSpec,
    Turn,
    fill_unknown,
)
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig, PointSampling
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.recipe import Recipe, Stream, WeightedLoss

WORDS = (
    "Please",
    "segment",
    "the",
    "red",
    "sphere",
    "in",
    "this",
    "image",
    "Sure",
    "Which",
    "point",
    "is",
    "closest",
)
EVERY_CELL = PointSampling(num_points=None)


class FakeDepth(CodebookDepthTokenizer):
    """Each cell's mean depth in K levels: what it encodes can be worked out by hand."""

    def __init__(self, spec: DepthSpec) -> None:
        super().__init__()
        self.spec = spec
        levels_K = (torch.arange(spec.codebook_size) + 0.5) / spec.codebook_size
        self.levels_K1 = nn.Parameter(levels_K[:, None], requires_grad=False)

    @property
    def codebook_KC(self) -> Tensor:
        return self.levels_K1

    def encode(self, depth_B1HW: Tensor) -> Tensor:
        filled_B1HW, _ = fill_unknown(depth_B1HW)
        cells_BL = nn.functional.adaptive_avg_pool2d(filled_B1HW, self.spec.grid).flatten(1)
        return (cells_BL * self.spec.codebook_size).long().clamp(0, self.spec.codebook_size - 1)

    def decode_latents(self, latents_BChw: Tensor) -> Tensor:
        return nn.functional.interpolate(latents_BChw, size=self.spec.image_size)


@attrs.frozen(kw_only=True)
class FakeDepthConfig(DepthTokenizerConfig):
    """Depth in levels."""

    name: ClassVar[str] = "fake_levels"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)

    codebook_size: int = 8
    grid: tuple[int, int] = (4, 4)
    image_size: tuple[int, int] = (16, 16)

    @property
    def spec(self) -> DepthSpec:
        return DepthSpec(
            codebook_size=self.codebook_size,
            grid=self.grid,
            image_size=self.image_size,
            convention=DepthConvention(near_m=1.0, far_m=16.0),
        )

    def build(self) -> FakeDepth:
        return FakeDepth(self.spec)


class FakeCenters(PerceptionTokenizer):
    """Where an object lies, as the row of one special token, moved by the color of its picture."""

    def __init__(self, spec: PerceptionSpec) -> None:
        super().__init__()
        self.spec = spec

    def targets(self, raw: Sequence[Any]) -> Tensor:
        centers = [torch.as_tensor(mask_HW).nonzero().float().mean(0) for mask_HW in raw]
        return torch.stack(centers) if centers else torch.zeros(0, 2)

    def encode_image(self, pixels_B3HW: Tensor) -> Tensor:
        return pixels_B3HW.mean((2, 3))[:, :2]

    def from_rows(self, rows_NmP: Tensor, features: Any = None, image_index_N: Any = None) -> Tensor:
        return rows_NmP[:, 0].float() + features[image_index_N]

    def shown(self, decoded: Tensor, sizes: Sequence[Any]) -> list[Any]:
        return [tuple(one) for one in decoded.tolist()]

    def compare(self, decoded: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"pixels": (decoded - targets).norm(dim=1)}


@attrs.frozen(kw_only=True)
class FakeCentersConfig(PerceptionTokenizerConfig):
    """Special tokens once per object, decoded with features of the picture."""

    name: ClassVar[str] = "fake_centers"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    @property
    def spec(self) -> PerceptionSpec:
        written = Continuous(tokens=("[CENTER]",), width=2)
        return PerceptionSpec(
            stream=StreamSpec(written=written, per="object", target="masks", image_size=(8, 8))
        )

    def build(self) -> FakeCenters:
        return FakeCenters(self.spec)


class FakeMultiMap(SegmentationTokenizer):
    """As SAM2: features are several maps of different sizes, and the best of three masks is chosen."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__()
        self.spec = spec
        self.coarse = nn.Conv2d(3, spec.prompt_dim, 4, stride=4)
        self.fine = nn.Conv2d(3, 2, 2, stride=2)
        self.mixing = nn.Parameter(torch.randn(3, 3))

    def encode_image(self, pixels_B3HW: Tensor) -> dict[str, Any]:
        return {"coarse": self.coarse(pixels_B3HW), "high_resolution": [self.fine(pixels_B3HW)]}

    def decode(self, features: dict[str, Any], prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        coarse_NPhw = features["coarse"][image_index_N]
        fine_N2hw = features["high_resolution"][0][image_index_N]
        dot_N1hw = torch.einsum("nphw,nsp->nhw", coarse_NPhw, prompts_NSP)[:, None]
        dot_N1hw = nn.functional.interpolate(dot_N1hw, size=self.spec.mask_size)
        candidates_N3hw = torch.einsum("nchw,mc->nmhw", torch.cat([dot_N1hw, fine_N2hw], 1), self.mixing)
        quality_N3 = candidates_N3hw.sigmoid().flatten(2).mean(2)
        best_N = quality_N3.argmax(1)
        rows_N = torch.arange(len(best_N))
        return MaskPrediction(
            logits_Nhw=candidates_N3hw[rows_N, best_N],
            quality_N=quality_N3[rows_N, best_N],
            candidates_NMhw=candidates_N3hw,
        )


@attrs.frozen(kw_only=True)
class FakeMultiMapConfig(SegmentationTokenizerConfig):
    """Features of several maps."""

    name: ClassVar[str] = "fake_multi_map"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    special_tokens: tuple[str, ...] = ("[SEG]",)

    @property
    def spec(self) -> SegmentationSpec:
        return SegmentationSpec(
            special_tokens=self.special_tokens, prompt_dim=6, image_size=(16, 16), mask_size=(8, 8)
        )

    def build(self) -> FakeMultiMap:
        return FakeMultiMap(self.spec)


class FakeMaskCodes(SegmentationTokenizer):
    """Masks as discrete codes: each quadrant is covered (1) or not (0)."""

    def __init__(self, spec: SegmentationSpec) -> None:
        super().__init__()
        self.spec = spec
        self.bias = nn.Parameter(torch.zeros(()))

    def encode_image(self, pixels_B3HW: Tensor) -> Tensor:
        return pixels_B3HW

    def decode(self, features: Any, prompts_NSP: Tensor, image_index_N: Tensor) -> MaskPrediction:
        raise AssertionError("a tokenizer of codes is never prompted")

    def encode_masks(self, masks_NHW: Tensor) -> Tensor:
        return (nn.functional.adaptive_avg_pool2d(masks_NHW[:, None].float(), 2).flatten(1) >= 0.5).long()

    def decode_codes(self, features: Any, codes_NM: Tensor, image_index_N: Tensor) -> MaskPrediction:
        logits_N1hw = (codes_NM.float() * 2 - 1).reshape(-1, 1, 2, 2) + self.bias
        return MaskPrediction(
            logits_Nhw=nn.functional.interpolate(logits_N1hw, size=self.spec.mask_size)[:, 0]
        )


@attrs.frozen(kw_only=True)
class FakeMaskCodesConfig(SegmentationTokenizerConfig):
    """Masks as four codes."""

    name: ClassVar[str] = "fake_mask_codes"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    @property
    def spec(self) -> SegmentationSpec:
        return SegmentationSpec(
            prompt_dim=0,
            image_size=(16, 16),
            mask_size=(8, 8),
            codes=MaskCodes(codebook_size=2, length=4),
        )

    def build(self) -> FakeMaskCodes:
        return FakeMaskCodes(self.spec)


class FakeTeacher(Teacher):
    """A teacher that takes bright for near, and black for nothing."""

    name, weights_hash, spec = "brightness", "none", TeacherSpec()

    @property
    def preprocessing(self):
        return {}

    def prepare(self, image_3HW):
        return image_3HW

    def depth(self, seen_BChw):
        return (seen_BChw - seen_BChw.flatten(1).amin(1)[:, None, None, None]).amin(1)


@attrs.frozen(kw_only=True)
class FakeTeacherConfig(TeacherConfig):
    name: ClassVar[str] = "fake"
    kind: ClassVar[Kind] = Kind.TEACHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def load(self, device):
        return FakeTeacher()


class Brightness(Task):
    """How bright the picture is on average, in percent: written from the sample, without a turn in the data."""

    may_perceive = True
    writes_turns = True

    def own_turn(self, name: str, sample: Sample) -> Turn:
        assert sample.image_3HW is not None
        return Turn(question="is", answer=f"{float(sample.image_3HW.mean()):.0%}", task=name)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        return [AskedBrightness(name)]


class AskedBrightness(Pass):
    """Asked about every sample; the figures are what was asked and how often."""

    def __init__(self, task: str) -> None:
        super().__init__(task)
        self.answers = list[str]()

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        return GenerationSettings(max_new_tokens=1)

    def score(self, reply: Reply) -> None:
        self.answers.append(reply.question.turn.answer)

    def figures(self) -> dict[str, dict[str, Any]]:
        return {self.task: {"count": self.asked, "answers": self.answers}}


@attrs.frozen(kw_only=True)
class BrightnessConfig(TaskConfig):
    """Average brightness."""

    name: ClassVar[str] = "fake_brightness"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, model: ModelSpecs) -> Brightness:
        return Brightness()


def tiny_recipe(**changes: Any) -> Recipe:
    """A recipe that builds in milliseconds: 16-pixel images, 4x4 depth codes, two layers."""
    recipe = Recipe(
        name="tiny",
        vision=ConvVisionConfig(image_size=(16, 16), widths=(8, 8, 8)),
        vision_head=MLPHeadConfig(),
        language=DecoderConfig(words=WORDS, hidden_dim=32, num_layers=2, num_heads=2, num_kv_heads=1),
        streams=(
            Stream(name="segmentation", tokenizer=FakeMultiMapConfig(), head=PromptMLPConfig()),
            Stream(name="depth", tokenizer=FakeDepthConfig()),
        ),
        answer_format="readout",
        losses=(
            WeightedLoss(loss=NextTokenConfig()),
            WeightedLoss(loss=MarkerConfig(stream="depth")),
            WeightedLoss(loss=TokenConfig(stream="depth")),
            WeightedLoss(loss=CountConfig(stream="depth")),
            WeightedLoss(loss=SoftReconstructionConfig(stream="depth")),
            WeightedLoss(loss=MaskBCEConfig(stream="segmentation", sampling=EVERY_CELL), weight=2.0),
            WeightedLoss(loss=DiceConfig(stream="segmentation", sampling=EVERY_CELL), weight=0.5),
        ),
    )
    return attrs.evolve(recipe, **changes)
