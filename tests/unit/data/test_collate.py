"""What a packed batch holds, and that nothing is padded, cut or mixed between conversations."""

import pickle

import attrs
import numpy as np
import pytest
import torch
from fakes import FakeDepthConfig, FakeMaskCodesConfig, tiny_recipe

from perceptio.data.collate import Collate
from perceptio.errors import DataError
from perceptio.interfaces import Batch, DepthMap, Sample, TokenBlock, Turn
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.recipe import Recipe, Stream

LEFT = np.zeros((16, 16), dtype=bool)
LEFT[:, :8] = True
RAMP = np.linspace(1.0, 15.0, 256, dtype=np.float32).reshape(16, 16)


def sample(*turns: Turn, image: bool = True) -> Sample:
    depth = DepthMap(values_HW=RAMP, unit="metres") if image else None
    pixels = torch.rand(3, 16, 16) if image else None
    return Sample(turns=turns, image_3HW=pixels, depth=depth, codes={"depth": torch.arange(16) % 8})


def collated(recipe: Recipe, *samples: Sample) -> Batch:
    model = build_model(recipe)
    return Collate.of(recipe, model.language.text_tokenizer)(samples)


def block_of(recipe: Recipe, stream: str = "depth") -> TokenBlock:
    block = recipe.plan.streams[stream]
    assert isinstance(block, TokenBlock)
    return block


def code_ids(recipe: Recipe) -> range:
    span = block_of(recipe).codebooks[0]
    return range(span.start, span.start + span.size)


def mask_codes() -> Recipe:
    streams = (
        Stream(name="segmentation", tokenizer=FakeMaskCodesConfig()),
        Stream(name="depth", tokenizer=FakeDepthConfig()),
    )
    return tiny_recipe(streams=streams, losses=())


def with_targets(recipe: Recipe, *samples: Sample) -> tuple[PerceptionModel, Batch]:
    model = build_model(recipe)
    return model, model.with_targets(Collate.of(recipe, model.language.text_tokenizer)(samples))


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
    recipe = tiny_recipe().with_stream("depth", codes_per_step=4)
    samples = [sample(MARKED, image=False), sample(SEGMENTS, MARKED), sample(SEGMENTS)]

    batch = collated(recipe, *samples)
    alone = [collated(recipe, one) for one in samples]

    assert batch.lengths == tuple(one.lengths[0] for one in alone)
    assert sum(batch.lengths) == len(batch.ids_T) == batch.positions_AT.shape[1]
    starts = [0, batch.lengths[0], batch.lengths[0] + batch.lengths[1]]
    for name in ("text_rows_R", "vision_rows_M"):
        shifted = [getattr(one, name) + start for one, start in zip(alone, starts, strict=True)]
        assert torch.equal(getattr(batch, name), torch.cat(shifted)), name
    for stream in ("depth", "segmentation"):
        for name in ("rows_NX", "slots_NY"):
            shifted = [
                getattr(one.streams[stream], name) + start for one, start in zip(alone, starts, strict=True)
            ]
            assert torch.equal(getattr(batch.streams[stream], name), torch.cat(shifted)), (stream, name)
    assert len(batch.images) == 2
    assert batch.streams["depth"].image_N.tolist() == batch.streams["depth"].target_N.tolist() == [0, 1]
    assert batch.streams["segmentation"].image_N.tolist() == [0, 0, 1, 1]
    assert batch.streams["segmentation"].target_N.tolist() == [0, 1, 2, 3]
    assert (batch.streams["depth"].image_codes_BL == torch.arange(16) % 8).all()
    assert batch.streams["depth"].coded == (True, True)


def test_targets_are_what_the_tokenizers_make_of_them() -> None:
    holed = RAMP.copy()
    holed[:4] = np.nan
    one = attrs.evolve(sample(SEGMENTS), depth=DepthMap(values_HW=holed, unit="metres"))

    _, batch = with_targets(tiny_recipe(), one, sample(attrs.evolve(SEGMENTS, perceive=())))

    masks_NHW, depth_B1HW = batch.streams["segmentation"].targets, batch.streams["depth"].targets
    assert torch.equal(masks_NHW, torch.from_numpy(np.stack([LEFT, ~LEFT])))
    assert bool(depth_B1HW[0, 0, :4].isnan().all())
    assert not bool(depth_B1HW[0, 0, 4:].isnan().any())
    assert batch.streams["depth"].images == (0,) and batch.streams["depth"].known == (True,)
    assert collated(tiny_recipe(), sample(MARKED, image=False)).streams["depth"].known == ()


def test_only_what_is_written_has_targets() -> None:
    other = attrs.evolve(SEGMENTS, perceive=("segmentation",))
    batch = collated(tiny_recipe(), sample(), sample(other), sample(SEGMENTS))

    depth, masks = batch.streams["depth"], batch.streams["segmentation"]
    assert len(batch.images) == 3 and (depth.images, masks.images) == ((1,), (0, 1))
    assert len(depth.raw) == 1 and depth.image_N.tolist() == depth.target_N.tolist() == [0]
    assert len(masks.raw) == 4 and masks.image_N.tolist() == [0, 0, 1, 1]


def test_it_is_pickled_and_gives_the_same() -> None:
    recipe = tiny_recipe()
    collate = Collate.of(recipe, build_model(recipe).language.text_tokenizer)
    one = sample(SEGMENTS, MARKED)

    other = pickle.loads(pickle.dumps(collate))

    assert torch.equal(other([one]).ids_T, collate([one]).ids_T)
    assert torch.equal(other([one]).positions_AT, collate([one]).positions_AT)


def test_text_targets_are_the_next_input() -> None:
    batch = collated(tiny_recipe(), sample(SEGMENTS, MARKED))

    assert len(batch.text_rows_R) > 8
    assert torch.equal(batch.ids_T[batch.text_rows_R + 1], batch.text_targets_R)


def test_a_batch_without_images_masks_or_depth_is_legal() -> None:
    _, batch = with_targets(tiny_recipe(), sample(MARKED, image=False))

    assert batch.images == ()
    assert batch.streams["depth"].rows_NX.shape == (0, 18)
    assert batch.streams["segmentation"].rows_NX.shape == (0, 1)
    assert batch.streams["segmentation"].targets.shape == (0, 16, 16)
    assert batch.streams["depth"].targets.shape == (0, 1, 16, 16)


def test_the_codes_of_objects_are_those_of_their_targets() -> None:
    recipe = mask_codes()
    _, batch = with_targets(recipe, sample(SEGMENTS))

    block = block_of(recipe, "segmentation")
    held = batch.streams["segmentation"]
    # Quadrants row by row: the left half covers the first and the third.
    assert held.codes_NL.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    written = batch.ids_T[held.slots_NY]
    assert torch.equal(written - block.codebooks[0].start, held.codes_NL)
    assert (batch.ids_T[held.slots_NY[:, 0] - 1] == block.opening).all()
    assert (batch.ids_T[held.slots_NY[:, -1] + 1] == block.closing).all()


def test_pictures_without_words_come_last_and_take_no_rows() -> None:
    batch = collated(tiny_recipe(), sample(), sample(SEGMENTS))
    alone = collated(tiny_recipe(), sample(SEGMENTS))

    assert len(batch.images) == 2 and batch.streams["depth"].image_codes_BL.shape == (2, 16)
    assert torch.equal(batch.ids_T, alone.ids_T)
    assert torch.equal(batch.vision_rows_M, alone.vision_rows_M)
    assert batch.streams["depth"].image_N.tolist() == [0]


def test_an_image_out_of_context_takes_no_rows_and_is_what_its_mask_is_decoded_with() -> None:
    referring = attrs.evolve(SEGMENTS, perceive=("segmentation",))
    seen, unseen = sample(SEGMENTS), attrs.evolve(sample(referring), in_context=False)

    batch = collated(tiny_recipe(), sample(), unseen, seen)
    alone, words = (
        collated(tiny_recipe(), seen),
        collated(tiny_recipe(), attrs.evolve(seen, turns=(referring,))),
    )

    assert [image is one.image_3HW for image, one in zip(batch.images, (seen, unseen), strict=False)] == [
        True
    ] * 2
    assert len(batch.images) == 3
    assert torch.equal(batch.vision_rows_M, alone.vision_rows_M)
    assert batch.lengths == (*alone.lengths, words.lengths[0] - len(words.vision_rows_M))
    assert batch.streams["segmentation"].image_N.tolist() == [0, 0, 1, 1]


def test_without_an_image_the_block_is_given_and_what_is_read_from_it_learned() -> None:
    asked = attrs.evolve(MARKED, perceive=("depth",), readout=True)
    recipe = tiny_recipe()

    batch = collated(recipe, sample(asked, image=False))

    assert len(batch.streams["depth"]) == 0
    codes = [code_ids(recipe)[recipe.plan.cell_of(*point) % 8] for point in MARKED.points]
    assert [token for token in batch.text_targets_R.tolist() if token in code_ids(recipe)] == codes


def test_without_image_and_block_readings_are_given() -> None:
    recipe = tiny_recipe()

    batch = collated(recipe, sample(MARKED, image=False))

    assert not any(token in code_ids(recipe) for token in batch.text_targets_R.tolist())


def test_a_mask_s_codes_are_of_its_size_in_the_spec_whatever_the_picture_s() -> None:
    """A picture of 40x24: a strip of it covers no quadrant, its left half two."""
    strip, left = np.zeros((2, 40, 24), dtype=bool)
    strip[:, :3], left[:, :12] = True, True
    one = attrs.evolve(
        sample(attrs.evolve(SEGMENTS, masks=(strip, left))), image_3HW=torch.rand(3, 40, 24), depth=None
    )

    _, batch = with_targets(mask_codes(), one)

    held = batch.streams["segmentation"]
    assert held.targets.shape == (2, 16, 16) and held.targets.dtype == torch.bool
    assert held.codes_NL.tolist() == [[0, 0, 0, 0], [1, 0, 1, 0]]


def test_points_of_two_questions_are_never_drawn_on_one_image() -> None:
    recipe = tiny_recipe(points="drawn")
    unmarked = attrs.evolve(MARKED, points=(), readout=False, task="attribute")

    shown = collated(recipe, sample(unmarked, MARKED)).images[0]

    plain = collated(recipe, sample(unmarked))
    assert shown.shape == plain.images[0].shape
    with pytest.raises(DataError, match="2 questions of one conversation mark points"):
        collated(recipe, sample(MARKED, MARKED))
    assert collated(recipe, sample(MARKED, MARKED, image=False)).images == ()
