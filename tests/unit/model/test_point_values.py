"""Levels that are looked up: what stands in context is what decoding says, computed here by hand."""

from typing import Any

import attrs
import numpy as np
import pytest
import torch
from fakes import FakeDepthConfig, tiny_recipe
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from perceptio.data.collate import Collate
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.interfaces import Batch, DepthConvention, DepthMap, GenerationSettings, Sample, Turn
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.model.inference.generated import Generated
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.model.point_values import levels_at, with_own_levels
from perceptio.recipe import DataConfig, PointValues, Recipe, WeightedLoss

POINTS = ((0.1, 0.2), (0.7, 0.9), (0.4, 0.4))
TURNS = (
    Turn(question="Which point is closest?", answer="", task="", points=POINTS),
    Turn(question="Please segment the red sphere", answer="", task=""),
    Turn(question="is", answer="", task="", points=((0.9, 0.1),)),
)
FORCED = GenerationSettings(streams=("depth",), force=("depth",))
LEVELS = 5


def recipe(answer_format: Any = "lookup", **values: Any) -> Recipe:
    base = tiny_recipe(
        answer_format=answer_format,
        point_values=PointValues(levels=LEVELS, **values),
        heads={"depth": MLPHeadConfig()},
    )
    return attrs.evolve(base, losses=(*base.losses, WeightedLoss(loss=CellCodesConfig(stream="depth"))))


def model_of(**values: Any) -> PerceptionModel:
    torch.manual_seed(0)
    model = build_model(recipe(**values)).eval()
    with torch.no_grad():  # Random rows are small: larger ones make every choice clear of rounding.
        for parameter in (*model.language.parameters(), *model.heads.parameters()):
            parameter.mul_(1.5)
    return model


def images(count: int) -> list[Tensor]:
    return list(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


@torch.inference_mode()
def run(model: PerceptionModel, settings: GenerationSettings = FORCED, **given: Any) -> Generated:
    return generate(model, TURNS, images(3), range(3), settings, **given)


def level_by_hand(depth_HW: Tensor, x: float, y: float) -> int:
    """1 is far in a metric convention, and the last level is near."""
    nearness = 1 - float(depth_HW[int(y * 16), int(x * 16)].detach())
    return min(int(nearness * LEVELS), LEVELS - 1)


def by_hand(model: PerceptionModel, depth_B1HW: Tensor) -> list[list[int]]:
    return [
        [level_by_hand(depth_1HW[0], *point) for point in turn.points] + [-1] * (3 - len(turn.points))
        for turn, depth_1HW in zip(TURNS, depth_B1HW, strict=True)
    ]


def test_levels_are_even_and_the_last_is_the_nearest() -> None:
    """Depth 0 to 1 down the rows, of metres far at 1, and of disparity near at 1."""
    depth_11HW = torch.linspace(0, 1, 16)[None, None, :, None].expand(1, 1, 16, 16)
    points_1P2 = torch.tensor([[[0.5, row / 16 + 0.03] for row in range(16)]])
    for convention, levels in (
        (DepthConvention(near_m=1.0, far_m=16.0), [3] * 4 + [2] * 4 + [1] * 4 + [0] * 4),
        (DepthConvention(), [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4),
    ):
        tokenizer = FakeDepthConfig().build()
        tokenizer.spec = attrs.evolve(tokenizer.spec, convention=convention)
        assert levels_at(tokenizer, depth_11HW, points_1P2, 4).tolist() == [levels]


@pytest.mark.parametrize("decoding", ["hard", "soft"])
def test_what_the_written_block_decodes_to_is_given_in_context(decoding: str) -> None:
    model = model_of(decoding=decoding)

    written = run(model)

    made, span = written.streams["depth"], model.plan.levels
    tokenizer = model.stream("depth").tokenizer
    depth_B1HW = tokenizer.from_codes(made.codes_BOL[:, 0])
    if decoding == "soft":
        depth_B1HW = tokenizer.from_probabilities([torch.cat(made.logits, 2)[:, 0].softmax(-1)])
    assert written.readout_BP.tolist() == by_hand(model, depth_B1HW)
    assert span is not None
    for row, turn in enumerate(TURNS):
        ids = [token for token in written.written_BW[row].tolist() if token >= 0]
        after = ids[ids.index(model.plan.readout_block.closing) + 1 :]
        said = [level + span.start for level in written.readout_BP[row].tolist() if level >= 0]
        assert after[2 : 3 * len(turn.points) : 3] == said


def test_all_points_are_looked_up_for_one_pass_and_the_host_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Waits(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += operation.overloadpacket.__name__ in (
                "is_nonzero",
                "_local_scalar_dense",
                "nonzero",
            )
            return operation(*args, **(kwargs or {}))

    model, passes, waits = model_of(), [], []
    forward = model.language.forward
    monkeypatch.setattr(model.language, "forward", lambda *given: passes.append(1) or forward(*given))
    for readout in (False, True):
        passes.clear()
        with Waits() as counted:
            run(model, attrs.evolve(FORCED, readout=readout))
        waits.append((len(passes), counted.count))
    (passes_before, waits_before), (passes_after, waits_after) = waits
    assert passes_after == passes_before + 1 and waits_after == waits_before


def test_given_codes_are_what_is_looked_up() -> None:
    model, codes_BL = model_of(decoding="soft"), torch.arange(48).reshape(3, 16) % 8
    written = run(model, given_codes={"depth": codes_BL})
    assert written.readout_BP.tolist() == by_hand(model, model.stream("depth").tokenizer.from_codes(codes_BL))


def test_without_a_whole_block_nothing_is_looked_up() -> None:
    model = model_of()
    for settings, given in (
        (attrs.evolve(FORCED, streams=(), force=()), {}),
        (attrs.evolve(FORCED, grammar=False), {}),
        (FORCED, {"depth": torch.zeros(3, 0, dtype=torch.long)}),
    ):
        written = run(model, settings, given_codes=given)
        assert not written.streams["depth"].whole_BO.any()
        assert (written.readout_BP == -1).all()
        assert not model.plan.levels.contains(written.written_BW).any() or not settings.grammar


def test_the_vision_head_s_map_needs_no_token() -> None:
    model = model_of(source="vision_head")
    written = run(model, GenerationSettings(streams=()))

    features = model.encode_vision(images(3))
    logits_BMK = model.heads["depth"](features.features_MD).unflatten(0, (3, -1))
    # 2x2 features for 4x4 codes: each answers for the four codes that it is nearest to.
    grid_BhwK = logits_BMK.unflatten(1, (2, 2)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    codes_BL = grid_BhwK.argmax(-1).flatten(1)
    depth_B1HW = model.stream("depth").tokenizer.from_codes(codes_BL)
    assert written.readout_BP.tolist() == by_hand(model, depth_B1HW)
    assert not written.streams["depth"].opened_BO.any()


def test_read_out_levels_are_the_model_s_choice_among_them() -> None:
    torch.manual_seed(0)
    model = build_model(recipe("readout")).eval()
    written = run(model)
    assert written.readout_BP[0].min() >= 0 and written.readout_BP.max() < LEVELS
    assert written.readout_BP[1].tolist() == [-1, -1, -1]


# -- training ------------------------------------------------------------------------------------------------------


def batch_of(model: PerceptionModel) -> Batch:
    depth = DepthMap(values_HW=np.linspace(1.0, 15.0, 256, dtype=np.float32).reshape(16, 16), unit="metres")
    codes = {"depth": torch.arange(16) % 8}
    marked = Turn(
        question="Which point is closest?",
        answer="(A)",
        task="relative_depth",
        points=POINTS,
        perceive=("depth",) if model.recipe.looks_up_what_is_written else (),
        readout=True,
        levels=(0, 1, 2),
    )
    one = attrs.evolve(marked, points=POINTS[:1], levels=(3,), perceive=marked.perceive)
    lesson = Sample(turns=(attrs.evolve(one, perceive=()),), codes=codes)
    shown = [
        Sample(turns=(turn,), image_3HW=picture, depth=depth, codes=codes)
        for turn, picture in zip((marked, one), images(2), strict=True)
    ]
    collate = Collate.of(model.recipe, model.language.text_tokenizer)
    return model.with_targets(collate([shown[0], lesson, shown[1]]))


def levels_in(model: PerceptionModel, batch: Batch) -> list[int]:
    assert model.plan.levels is not None
    return [
        token - model.plan.levels.start
        for token in batch.ids_T.tolist()
        if bool(model.plan.levels.contains(torch.tensor(token)))
    ]


def test_looked_up_levels_are_excluded_from_the_loss() -> None:
    model = model_of()
    batch = batch_of(model)
    assert levels_in(model, batch) == [0, 1, 2, 3, 3]
    assert not model.plan.levels.contains(batch.text_targets_R).any()
    assert batch.ids_T[batch.level_rows_BQ[0]].sub(model.plan.levels.start).tolist() == [0, 1, 2]
    assert batch.level_rows_BQ[1].tolist()[1:] == [-1, -1]
    assert with_own_levels(model, batch) is batch


@pytest.mark.parametrize("decoding", ["hard", "soft"])
@pytest.mark.parametrize("source", ["written", "vision_head"])
def test_a_model_is_trained_with_the_levels_of_its_own_codes(source: str, decoding: str) -> None:
    model = model_of(source=source, decoding=decoding, trained_with="own_codes")
    batch = batch_of(model)

    changed = with_own_levels(model, batch)

    if source == "written":
        output = model(batch, ("streams.depth.logits_NXV",)).streams["depth"]
        logits_BLK = output.logits_NXV[:, 1:-1, model.plan.readout_block.codebooks[0].slice]
    else:
        vision = model.encode_vision(batch.images)
        logits_BLK = model.heads["depth"](vision.features_MD)[
            vision.nearest_to(torch.tensor(model.plan.readout_block.centers))
        ]
    tokenizer = model.stream("depth").tokenizer
    depth_B1HW = (
        tokenizer.from_codes(logits_BLK.argmax(-1))
        if decoding == "hard"
        else tokenizer.from_probabilities([logits_BLK.softmax(-1)])
    )
    own = [level_by_hand(depth_B1HW[0, 0], *point) for point in POINTS]
    last = level_by_hand(depth_B1HW[1, 0], *POINTS[0])
    # The lesson in the middle shows no image and keeps what it has.
    assert levels_in(model, changed) == [*own, 3, last]
    rows = batch.level_rows_BQ[batch.level_rows_BQ >= 0]
    same = torch.ones(len(batch.ids_T), dtype=torch.bool)
    same[rows] = False
    assert torch.equal(changed.ids_T[same], batch.ids_T[same]) and not changed.ids_T.requires_grad


def test_a_recipe_without_levels_has_none_and_data_config_is_untouched() -> None:
    plain = tiny_recipe()
    assert plain.plan.levels is None and plain.specs.levels_of is None and DataConfig() == plain.data
    assert recipe().specs.levels_of == "depth"
