"""The suite is itself tested: each planted bug must fail it, and the part without the bug must pass."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import pytest
import torch
from fakes import (
    FakeCentersConfig,
    FakeDepthConfig,
    FakeMaskCodesConfig,
    FakeMultiMapConfig,
    FakeTeacherConfig,
)
from torch import nn

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.query import QueryHeadConfig
from perceptio.interfaces import LETTERS, GenerationSettings, SequenceLayout, Turn
from perceptio.losses.code_tokens import Token, TokenConfig
from perceptio.losses.matched_masks import MatchedMasksConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.tasks.maps import MapTaskConfig
from perceptio.tasks.relative_depth import RelativeDepthTaskConfig
from perceptio.testing import (
    DepthTokenizerConformance,
    HeadConformance,
    LanguageBackboneConformance,
    LossConformance,
    PerceptionTokenizerConformance,
    RowHeadConformance,
    SegmentationTokenizerConformance,
    TaskConformance,
    TeacherConformance,
    VisionEncoderConformance,
)
from perceptio.testing.component import BLOCK
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapVQVAEConfig
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig

VQVAE = VQVAEDepthConfig(
    codebook_size=10, grid=(3, 2), image_size=(12, 8), widths=(4, 8), residual_blocks=1, latent_dim=6
)
MAP = MapVQVAEConfig(
    map="edges",
    codebook_size=10,
    grid=(3, 2),
    image_size=(12, 8),
    widths=(4, 8),
    residual_blocks=1,
    latent_dim=6,
)
MASK_CODES = MaskCodesConfig(
    bins=32, codebook_size=10, grid=(2, 2), image_size=(8, 8), widths=(4, 8), latent_dim=6, residual_blocks=1
)
FEATURES = FeaturesConfig(teacher=ConvVisionConfig(image_size=(16, 24), widths=(4, 6)))
PIXELS = PixelFeaturesConfig(image_size=(16, 24), widths=(8, 8), feature_dim=8)
CONV = ConvVisionConfig(image_size=(16, 24), widths=(4, 6))
DECODER = DecoderConfig(words=("point",), hidden_dim=32, num_layers=2)


def failures(suite: type, config: Any) -> list[str]:
    """The names of the tests of a suite that a config fails, but for JSON and pickling: no stand-in survives them."""
    tests = type("Tests", (suite,), {"config": config})()
    failed = []
    for name, test in inspect.getmembers(tests, callable):
        if not name.startswith("test_") or name.startswith("test_the_config_survives_"):
            continue
        arguments = (40,) if "extra" in inspect.signature(test).parameters else ()
        try:
            test(*arguments)
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception):
            failed.append(name)
    return failed


def broken(config: Any, harm: Callable[[Any], None]) -> Any:
    """The same config, whose part is harmed where it is built, or loaded as a teacher is."""
    made_by = "build" if hasattr(config, "build") else "load"

    def make(self: Any, *arguments: Any, **named: Any) -> Any:
        part = getattr(type(config), made_by)(self, *arguments, **named)
        harm(part)
        return part

    mutant = type("Mutant", (type(config),), {made_by: make})
    return mutant(**{field.name: getattr(config, field.name) for field in attrs.fields(type(config))})


def wrapped(name: str, change: Callable[..., Any]) -> Callable[[Any], None]:
    """Harm: replace a method by one that gets the original first."""

    def harm(part: Any) -> None:
        original = getattr(part, name)
        object.__setattr__(part, name, lambda *given, **named: change(part, original, *given, **named))

    return harm


def darkened_picture(teacher, prepare, image):
    return prepare(image.mul_(0.9))


def seen_otherwise_each_time(teacher, prepare, image):
    return prepare(image) + 1e-3 * next(NUMBERS)


def scaled_by_the_batch(teacher, depth, seen):
    return depth(seen) / depth(seen).max()


def depth_otherwise_each_time(teacher, depth, seen):
    return depth(seen) + 1e-3 * next(NUMBERS)


def seen_changed(teacher, depth, seen):
    return depth(seen.mul_(0.9))


def depth_with_gradient(teacher, depth, seen):
    return depth(seen) * torch.ones(1, requires_grad=True)


def depth_with_a_hole(teacher, depth, seen):
    return depth(seen).log()


def depth_of_the_first(teacher, depth, seen):
    return depth(seen)[:1].expand(len(seen), -1, -1)


def off_by_one(part, encode, depth):
    return (encode(depth) + 1).clamp_max(part.spec.codebook_size - 1)


def batch_scaled(part, encode, depth):
    return encode(depth / depth.nan_to_num(0).amax().clamp_min(1e-6))


def moving_buffer(part, encode, depth):
    part.quantizer.vq.codebook = part.quantizer.vq.codebook + 1e-3
    return encode(depth)


def detached(part, soft_decode, probabilities):
    return soft_decode(probabilities).detach()


def sharpened(part, soft_decode, probabilities):
    return soft_decode(0.9 * probabilities + 0.1 / probabilities.shape[-1])


def unclipped(part, decode, codes):
    return decode(codes) * 3 - 1


def nan_kept(part, encode, depth):
    if bool(depth.isnan().flatten(1).all(1).any()):
        return encode(depth.nan_to_num(0.0))
    return encode(depth)


def clipped_depth(part, encode, depth):
    return encode(depth.clamp(0, 1))


def clipped_codes(part, decode, codes):
    return decode(codes.clamp(0, part.spec.codebook_size - 1))


def first_image(part, decode, features, prompts, index):
    return decode(features, prompts, torch.zeros_like(index))


def company(part, decode, features, prompts, index):
    return decode(features, prompts - prompts.mean(0), index)


def needs_one(part, decode, features, prompts, index):
    assert len(prompts), "no object"
    return decode(features, prompts, index)


def no_gradient(part, decode, features, prompts, index):
    return decode(features, prompts.detach(), index)


def any_size(part, encode_masks, masks):
    stretched = nn.functional.interpolate(masks[:, None].float(), size=part.spec.image_size)
    return encode_masks(stretched[:, 0] >= 0.5)


def future(part, forward, inputs, layout, cache=None):
    return forward(inputs + 0.1 * inputs.flip(1), layout, cache)


def leaking(part, forward, inputs, layout, cache=None):
    if layout.lengths is not None:
        layout = SequenceLayout(positions_ABT=layout.positions_ABT, lengths=(sum(layout.lengths),))
    return forward(inputs, layout, cache)


def late_cache(part, forward, inputs, layout, cache=None):
    if cache is not None and inputs.shape[1] == 1:
        layout = attrs.evolve(layout, positions_ABT=layout.positions_ABT + 1)
    return forward(inputs, layout, cache)


def crossed_rows(part, new_cache, batch_size, max_length):
    cache = new_cache(batch_size, max_length)
    select = cache.select
    cache.select = lambda rows: select(rows.flip(0).sort().values)
    return cache


def no_positions(part, forward, inputs, layout, cache=None):
    return forward(inputs, attrs.evolve(layout, positions_ABT=layout.positions_ABT * 0), cache)


def alike(part, resize, size):
    resize(size)
    rows = part.embedding.weight.data
    rows[part.spec.vocab_size :] = rows[: part.spec.vocab_size].mean(0)


def touched(part, resize, size):
    resize(size)
    part.embedding.weight.data[0] += 1e-3


def normalized_over_batch(part, forward, images):
    out = forward(images)
    return attrs.evolve(out, features_MD=out.features_MD - out.features_MD.mean(0))


def float_images(part, forward, images):
    """Forgets that weights may be of half precision."""
    if next(part.parameters()).dtype != torch.float32:
        raise RuntimeError("expected scalar type Float but found BFloat16")
    return forward(images)


def misplaced(part, forward, images):
    out = forward(images)
    return attrs.evolve(out, centers_M2=out.centers_M2.flip(1))


def mixed(part, forward, x):
    return forward(x) + (x.mean() if x.numel() else 0.0)


def averaged(part, forward, output, batch):
    value = forward(output, batch)
    return attrs.evolve(value, count=value.count + 1)


def greedy_reader(part, forward, output, batch):
    value = forward(output, batch)
    return attrs.evolve(value, total=value.total + 0.1 * output.streams["depth"].logits_NXV.square().mean())


def low_precision(part, forward, output, batch):
    value = forward(output, batch)
    return attrs.evolve(value, total=value.total.to(output.text_logits_RV.dtype).float())


def filling(part, forward, output, batch):
    """Fills what is unknown in the batch itself."""
    value = forward(output, batch)
    batch.streams[part.stream].targets.nan_to_num_(0.0)
    return value


def changing(part, forward, output, batch):
    batch.text_targets_R.zero_()
    return forward(output, batch)


def width_first(part, to_codes, targets):
    return to_codes(targets)[:, [1, 0, 3, 2]]


def company_of_targets(part, targets, raw):
    made = targets(raw)
    return made - made.mean(0) if len(made) else made


def zero_where_unknown(part, targets, raw):
    return targets(raw).nan_to_num(0.0)


def known_rows_alone(part, compare, decoded, targets):
    return {name: values_N[~values_N.isnan()] for name, values_N in compare(decoded, targets).items()}


def clamped_codes(part, from_codes, codes, *pictures):
    return from_codes(codes.long().clamp(0, part.spec.stream.written.codebook_sizes[0] - 1), *pictures)


def one_codebook_detached(part, from_probabilities, probabilities, *pictures):
    return from_probabilities([probabilities[0].detach(), *probabilities[1:]], *pictures)


def blurred(part, from_probabilities, probabilities, *pictures):
    return from_probabilities([0.9 * p + 0.1 / p.shape[-1] for p in probabilities], *pictures)


def on_the_device(part, shown, decoded, sizes):
    return list(decoded)


def half_shown(part, shown, decoded, sizes):
    """Forgets that weights may be of half precision, of which NumPy knows nothing."""
    return list(decoded.detach().cpu().numpy())


def one_meaning(part, code_meanings):
    return code_meanings()[:1]


def metric_meaning(part, code_meanings):
    return tuple(attrs.evolve(one, values_KV=one.values_KV * 224) for one in code_meanings())


def moving_codebook(part, to_codes, targets):
    part.quantizer.vq.codebook = part.quantizer.vq.codebook + 1e-3
    return to_codes(targets)


def mirrored_in_place(part, mirrored, targets):
    targets.copy_(mirrored(targets))
    return targets


def not_mirrored(part, mirrored, targets):
    return targets


def no_gradient_of_values(part, reconstruct, targets, quantize=True):
    made = reconstruct(targets, quantize=quantize)
    return attrs.evolve(made, values=made.values.detach())


def half_frozen(part, freeze):
    freeze()
    part.requires_grad_(True)


def thawed_teacher(part, targets, raw):
    part.teacher.requires_grad_(True)
    return targets(raw)


def crossed_points(part, values_at, decoded, points):
    return values_at(decoded, points.flip(-1))


def first_map(part, values_at, decoded, points):
    return values_at(decoded[:1].expand_as(decoded), points)


def signed_values(part, values_at, decoded, points):
    return 2 * values_at(decoded, points) - 1


def averaged_rows(part, from_rows, rows, *pictures):
    return from_rows(rows.mean(1, keepdim=True).expand_as(rows), *pictures)


def whole_rows(part, target_rows, targets):
    return target_rows(targets).mean(1)


def first_picture(part, from_rows, rows, features, index):
    return from_rows(rows, features, torch.zeros_like(index))


def rows_of_company(part, from_rows, rows, features, index):
    return from_rows(rows - rows.mean(0), features, index)


def rows_detached(part, from_rows, rows, features, index):
    return from_rows(rows.detach(), features, index)


def some_rows(part, from_rows, rows, features, index):
    assert len(rows), "no object"
    return from_rows(rows, features, index)


def points_alone(task, shuffled, turn, random):
    return attrs.evolve(shuffled(turn, random), answer=turn.answer)


def other_way_around(task, shuffled, turn, random):
    made = shuffled(turn, random)
    moved = turn.points.index(made.points[LETTERS.index(turn.answer[1])])
    return attrs.evolve(made, answer=f"({LETTERS[moved]})")


def scores_nothing(task, passes, name, data):
    made = passes(name, data)
    for one in made:
        one.score = lambda reply: None
    return made


def keeps_under_another_name(task, passes, name, data):
    made = passes(name, data)
    for one in made:
        one.score = lambda reply, score=one.score: {"mine": (score(reply) or {}).get(name, {})}
    return made


def any_stream(task, passes, name, data):
    made = passes(name, data)
    for one in made:
        one.settings = lambda questions: GenerationSettings(max_new_tokens=1)
    return made


def nobodys_turn(task, own_turn, name, sample):
    return attrs.evolve(own_turn(name, sample), task="depth_map")


NUMBERS = itertools.count()


def another_turn_each_time(task, own_turn, name, sample):
    return attrs.evolve(own_turn(name, sample), question=str(next(NUMBERS)))


class PromisedBox(PerceptionTokenizerConformance):
    promised: ClassVar = {"iou": (0.99, 1.0)}


class PromisedFeatures(PerceptionTokenizerConformance):
    promised: ClassVar = {"mse": (0.0, 0.0)}


class MarkedPoints(TaskConformance):
    turns = (Turn(question="Closest?", answer="(B)", task="", points=((0.2, 0.9), (0.5, 0.1), (0.9, 0.5))),)


class FaithfulDepth(DepthTokenizerConformance):
    """A tokenizer that needs no training promises how well maps come back."""

    fidelity = 0.07


MUTANTS = [
    (FaithfulDepth, FakeDepthConfig(), "encode", off_by_one),
    (DepthTokenizerConformance, FakeDepthConfig(), "encode", batch_scaled),
    (DepthTokenizerConformance, VQVAE, "encode", moving_buffer),
    (DepthTokenizerConformance, VQVAE, "encode", nan_kept),
    (DepthTokenizerConformance, VQVAE, "soft_decode", detached),
    (DepthTokenizerConformance, VQVAE, "soft_decode", sharpened),
    (DepthTokenizerConformance, FakeDepthConfig(), "decode", unclipped),
    (DepthTokenizerConformance, FakeDepthConfig(), "encode", clipped_depth),
    (DepthTokenizerConformance, FakeDepthConfig(), "decode", clipped_codes),
    (DepthTokenizerConformance, FakeDepthConfig(), "values_at", crossed_points),
    (DepthTokenizerConformance, VQVAE, "values_at", first_map),
    (PerceptionTokenizerConformance, MAP, "values_at", crossed_points),
    (PerceptionTokenizerConformance, MAP, "values_at", signed_values),
    (SegmentationTokenizerConformance, PIXELS, "decode", first_image),
    (SegmentationTokenizerConformance, PIXELS, "decode", company),
    (SegmentationTokenizerConformance, PIXELS, "decode", needs_one),
    (SegmentationTokenizerConformance, FakeMultiMapConfig(), "decode", no_gradient),
    (SegmentationTokenizerConformance, FakeMaskCodesConfig(), "encode_masks", any_size),
    (PromisedBox, BoxConfig(), "to_codes", width_first),
    (PromisedBox, BoxConfig(), "targets", company_of_targets),
    (PromisedBox, BoxConfig(), "from_codes", clamped_codes),
    (PromisedBox, BoxConfig(), "from_probabilities", blurred),
    (PromisedBox, BoxConfig(), "shown", on_the_device),
    (PromisedBox, BoxConfig(), "code_meanings", metric_meaning),
    (PerceptionTokenizerConformance, MASK_CODES, "from_probabilities", one_codebook_detached),
    (PerceptionTokenizerConformance, MASK_CODES, "code_meanings", one_meaning),
    (PerceptionTokenizerConformance, MAP, "targets", zero_where_unknown),
    (PerceptionTokenizerConformance, MAP, "compare", known_rows_alone),
    (PerceptionTokenizerConformance, MAP, "to_codes", moving_codebook),
    (PerceptionTokenizerConformance, MAP, "shown", half_shown),
    (PerceptionTokenizerConformance, MAP, "mirrored", mirrored_in_place),
    (PerceptionTokenizerConformance, MAP, "mirrored", not_mirrored),
    (PerceptionTokenizerConformance, MAP, "reconstruct", no_gradient_of_values),
    (PerceptionTokenizerConformance, MAP, "freeze", half_frozen),
    (PromisedFeatures, FEATURES, "targets", thawed_teacher),
    (PromisedFeatures, FEATURES, "from_rows", averaged_rows),
    (PromisedFeatures, FEATURES, "target_rows", whole_rows),
    (PerceptionTokenizerConformance, FakeCentersConfig(), "from_rows", first_picture),
    (PerceptionTokenizerConformance, FakeCentersConfig(), "from_rows", rows_of_company),
    (PerceptionTokenizerConformance, FakeCentersConfig(), "from_rows", rows_detached),
    (PerceptionTokenizerConformance, FakeCentersConfig(), "from_rows", some_rows),
    (LanguageBackboneConformance, DECODER, "forward", future),
    (LanguageBackboneConformance, DECODER, "forward", leaking),
    (LanguageBackboneConformance, DECODER, "forward", late_cache),
    (LanguageBackboneConformance, DECODER, "new_cache", crossed_rows),
    (LanguageBackboneConformance, DECODER, "forward", no_positions),
    (LanguageBackboneConformance, DECODER, "resize_vocabulary", alike),
    (LanguageBackboneConformance, DECODER, "resize_vocabulary", touched),
    (VisionEncoderConformance, CONV, "forward", normalized_over_batch),
    (VisionEncoderConformance, CONV, "forward", float_images),
    (VisionEncoderConformance, CONV, "forward", misplaced),
    (HeadConformance, MLPHeadConfig(), "forward", mixed),
    (RowHeadConformance, QueryHeadConfig(num_queries=3, num_heads=5), "forward", mixed),
    (LossConformance, NextTokenConfig(), "forward", averaged),
    (LossConformance, NextTokenConfig(), "forward", greedy_reader),
    (LossConformance, NextTokenConfig(), "forward", low_precision),
    (LossConformance, NextTokenConfig(), "forward", changing),
    (LossConformance, MatchedMasksConfig(stream="objects"), "forward", filling),
    (MarkedPoints, RelativeDepthTaskConfig(), "with_points_shuffled", points_alone),
    (MarkedPoints, RelativeDepthTaskConfig(), "with_points_shuffled", other_way_around),
    (MarkedPoints, RelativeDepthTaskConfig(), "passes", any_stream),
    (TaskConformance, MapTaskConfig(stream="depth"), "own_turn", nobodys_turn),
    (TaskConformance, MapTaskConfig(stream="depth"), "own_turn", another_turn_each_time),
    (TaskConformance, MapTaskConfig(stream="edges"), "passes", scores_nothing),
    (TaskConformance, MapTaskConfig(stream="edges"), "passes", keeps_under_another_name),
    (TeacherConformance, FakeTeacherConfig(), "prepare", darkened_picture),
    (TeacherConformance, FakeTeacherConfig(), "prepare", seen_otherwise_each_time),
    (TeacherConformance, FakeTeacherConfig(), "depth", scaled_by_the_batch),
    (TeacherConformance, FakeTeacherConfig(), "depth", depth_otherwise_each_time),
    (TeacherConformance, FakeTeacherConfig(), "depth", seen_changed),
    (TeacherConformance, FakeTeacherConfig(), "depth", depth_with_gradient),
    (TeacherConformance, FakeTeacherConfig(), "depth", depth_with_a_hole),
    (TeacherConformance, FakeTeacherConfig(), "depth", depth_of_the_first),
]


@pytest.mark.parametrize(
    ("suite", "config"), {config.name: (suite, config) for suite, config, *_ in MUTANTS}.values()
)
def test_the_part_without_a_bug_passes(suite, config):
    assert failures(suite, config) == []


@pytest.mark.parametrize(
    ("suite", "config", "method", "change"), MUTANTS, ids=[f"{m[1].name}-{m[3].__name__}" for m in MUTANTS]
)
def test_a_planted_bug_fails_the_suite(suite, config, method, change):
    assert failures(suite, broken(config, wrapped(method, change))) != []


@attrs.frozen(kw_only=True)
class MirroredCentersConfig(ConvVisionConfig):
    """An encoder whose config says other centers than its features have."""

    def centers(self, height, width):
        return 1 - super().centers(height, width)


@attrs.frozen(kw_only=True)
class MovingCentersConfig(ConvVisionConfig):
    """An encoder whose config says other centers at every call."""

    def centers(self, height, width):
        return torch.rand_like(super().centers(height, width))


@attrs.frozen(kw_only=True)
class MiscountedConfig(ConvVisionConfig):
    """An encoder whose config counts the features in another way than it places them."""

    def num_features(self, height, width):
        return super().num_features(height, width) + 1


@pytest.mark.parametrize(
    ("mutant", "failed"),
    [
        (MirroredCentersConfig, {"test_features_are_counted_and_placed_as_announced"}),
        (
            MovingCentersConfig,
            {
                "test_features_are_counted_and_placed_as_announced",
                "test_centers_are_said_the_same_at_every_call",
            },
        ),
        (MiscountedConfig, {"test_features_are_counted_and_placed_as_announced"}),
    ],
)
def test_a_config_that_says_other_features_than_are_made_fails_the_suite(mutant, failed):
    assert set(failures(VisionEncoderConformance, mutant(**attrs.asdict(CONV)))) == failed


@attrs.frozen(kw_only=True)
class AnyModelConfig(TokenConfig):
    """A loss that is built for a model without what it needs, and fails in the first step."""

    def build(self, model):
        return Token(self.stream, BLOCK, 0.0)


def test_a_loss_that_takes_any_model_fails_the_suite():
    assert failures(LossConformance, TokenConfig(stream="depth")) == []
    assert failures(LossConformance, AnyModelConfig(stream="depth")) == [
        "test_it_refuses_a_model_without_what_it_needs"
    ]
