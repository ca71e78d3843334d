"""What a packed batch holds, and that nothing is padded, cut or mixed between conversations."""

import attrs
import numpy as np
import pytest
import torch
from fakes import FakeMaskCodesConfig, tiny_recipe

from perceptio.data.packing import Packer
from perceptio.errors import DataError
from perceptio.interfaces import DepthMap, Sample, Turn
from perceptio.model.perception_model import build_model
from perceptio.vocabulary import TokenPlan

LEFT = np.zeros((16, 16), dtype=bool)
LEFT[:, :8] = True
RAMP = np.linspace(1.0, 15.0, 256, dtype=np.float32).reshape(16, 16)


def sample(*turns: Turn, image: bool = True) -> Sample:
    depth = DepthMap(values_HW=RAMP, unit="metres") if image else None
    pixels = torch.rand(3, 16, 16) if image else None
    return Sample(turns=turns, image_3HW=pixels, depth=depth, depth_codes_L=torch.arange(16) % 8)


def code_ids(plan: TokenPlan) -> range:
    assert plan.depth is not None
    return range(plan.depth.codes.start, plan.depth.codes.start + plan.depth.codes.size)


SEGMENTS = Turn(
    question="segment",
    answer="Sure",
    task="referring",
    masks=(LEFT, ~LEFT),
    perceive=("segmentation", "depth"),
)
MARKED = Turn(
    question="Which", answer="(A)", task="relative_depth", points=((0.1, 0.1), (0.6, 0.6)), readout=True
)


def test_rows_point_at_their_own_conversation() -> None:
    model = build_model(tiny_recipe(codes_per_step=4))
    samples = [sample(MARKED, image=False), sample(SEGMENTS, MARKED), sample(SEGMENTS)]
    packer = Packer(model)

    batch = packer.pack(samples)
    alone = [packer.pack([one]) for one in samples]

    assert batch.lengths == tuple(one.lengths[0] for one in alone)
    assert sum(batch.lengths) == len(batch.ids_T) == batch.positions_AT.shape[1]
    starts = [0, batch.lengths[0], batch.lengths[0] + batch.lengths[1]]
    for name in ("text_rows_R", "block_rows_SN", "prompt_rows_Ns", "vision_rows_M"):
        shifted = [getattr(one, name) + start for one, start in zip(alone, starts, strict=True)]
        assert torch.equal(getattr(batch, name), torch.cat(shifted)), name
    assert len(batch.images) == 2
    assert batch.block_image_S.tolist() == [0, 1]
    assert batch.mask_image_N.tolist() == [0, 0, 1, 1]
    assert torch.equal(batch.masks_NHW[0], torch.from_numpy(LEFT))
    assert torch.equal(batch.to("cpu").masks_NHW[0], torch.from_numpy(LEFT).float())
    assert (batch.image_codes_BL == torch.arange(16) % 8).all()


def test_text_targets_are_the_next_input() -> None:
    batch = Packer(build_model(tiny_recipe())).pack([sample(SEGMENTS, MARKED)])

    assert len(batch.text_rows_R) > 8
    assert torch.equal(batch.ids_T[batch.text_rows_R + 1], batch.text_targets_R)


def test_a_batch_without_images_masks_or_depth_is_legal() -> None:
    batch = Packer(build_model(tiny_recipe())).pack([sample(MARKED, image=False)])

    assert batch.images == ()
    assert batch.block_rows_SN.shape == (0, 18)
    assert batch.prompt_rows_Ns.shape == (0, 1)
    assert batch.masks_NHW.shape == (0, 16, 16)
    assert batch.depth_B1HW.shape == (0, 1, 16, 16)


def test_unknown_depth_is_nan_in_the_target() -> None:
    holed = RAMP.copy()
    holed[:4] = np.nan
    one = attrs.evolve(sample(SEGMENTS), depth=DepthMap(values_HW=holed, unit="metres"))

    batch = Packer(build_model(tiny_recipe())).pack([one])

    assert bool(batch.depth_B1HW[0, 0, :4].isnan().all())
    assert not bool(batch.depth_B1HW[0, 0, 4:].isnan().any())


def test_mask_codes_are_written_after_their_special_token() -> None:
    model = build_model(tiny_recipe(segmentation=FakeMaskCodesConfig(), prompt_head=None, losses=()))
    batch = Packer(model).pack([sample(SEGMENTS)])

    seg, codes = model.plan.segmentation[0], model.plan.mask_codes
    assert codes is not None
    first = batch.ids_T.tolist().index(seg)
    # Quadrants row by row: the left half covers the first and the third.
    assert (batch.ids_T[first + 1 : first + 5] - codes.start).tolist() == [1, 0, 1, 0]


def test_pictures_without_words_come_last_and_take_no_rows() -> None:
    packer = Packer(build_model(tiny_recipe()))

    batch = packer.pack([sample(), sample(SEGMENTS)])
    alone = packer.pack([sample(SEGMENTS)])

    assert len(batch.images) == 2 and batch.image_codes_BL.shape == (2, 16)
    assert torch.equal(batch.ids_T, alone.ids_T)
    assert torch.equal(batch.vision_rows_M, alone.vision_rows_M)
    assert batch.block_image_S.tolist() == [0]


def test_without_an_image_the_block_is_given_and_what_is_read_from_it_learned() -> None:
    asked = attrs.evolve(MARKED, perceive=("depth",), readout=True)
    plan = (model := build_model(tiny_recipe())).plan

    batch = Packer(model).pack([sample(asked, image=False)])

    assert batch.block_rows_SN.shape[0] == 0
    codes = [plan.depth.codes.start + plan.cell_of(*point) % 8 for point in MARKED.points]
    assert [token for token in batch.text_targets_R.tolist() if token in code_ids(plan)] == codes


def test_without_image_and_block_readings_are_given() -> None:
    plan = (model := build_model(tiny_recipe())).plan

    batch = Packer(model).pack([sample(MARKED, image=False)])

    assert not any(token in code_ids(plan) for token in batch.text_targets_R.tolist())


def test_a_mask_s_codes_are_of_its_size_in_the_spec_whatever_the_picture_s() -> None:
    """A picture of 40x24: a strip of it covers no quadrant, its left half two."""
    model = build_model(tiny_recipe(segmentation=FakeMaskCodesConfig(), prompt_head=None, losses=()))
    strip, left = np.zeros((2, 40, 24), dtype=bool)
    strip[:, :3], left[:, :12] = True, True
    seen: list[torch.Tensor] = []
    encode = model.segmentation.encode_masks
    object.__setattr__(model.segmentation, "encode_masks", lambda masks: seen.append(masks) or encode(masks))
    one = attrs.evolve(
        sample(attrs.evolve(SEGMENTS, masks=(strip, left))), image_3HW=torch.rand(3, 40, 24), depth=None
    )

    batch = Packer(model).pack([one])

    assert [(masks.shape, masks.dtype) for masks in seen] == [((2, 16, 16), torch.bool)]
    span = model.plan.mask_codes
    assert span is not None
    written = batch.ids_T[span.contains(batch.ids_T)] - span.start
    assert written.tolist() == [0, 0, 0, 0, 1, 0, 1, 0]


def test_points_of_two_questions_are_never_drawn_on_one_image() -> None:
    packer = Packer(build_model(tiny_recipe(points="drawn")))
    unmarked = attrs.evolve(MARKED, points=(), readout=False, task="attribute")

    shown = packer.pack([sample(unmarked, MARKED)]).images[0]

    plain = packer.pack([sample(unmarked)])
    assert shown.shape == plain.images[0].shape
    with pytest.raises(DataError, match="2 questions of one conversation mark points"):
        packer.pack([sample(MARKED, MARKED)])
    assert packer.pack([sample(MARKED, MARKED, image=False)]).images == ()
