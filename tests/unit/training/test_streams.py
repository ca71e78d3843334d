"""Codebooks and codes of other streams than depth: a map of each image, and the masks of its objects."""

import json
import shutil

import attrs
import numpy as np
import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError, TrainingError, quoted
from perceptio.evaluation.tokenizers import evaluate_tokenizer
from perceptio.losses.code_tokens import TokenConfig
from perceptio.model.perception_model import load
from perceptio.recipe import DataFolder, Stream, TokenizerTraining, WeightedLoss
from perceptio.settings import with_settings
from perceptio.tokenizers.perception.map import MapVQVAEConfig
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig
from perceptio.training import codebook
from perceptio.training.codes import encode_targets, read_codes
from perceptio.training.target_maps import read_target_maps, read_training_maps
from perceptio.training.tokenizer import _draw, train_tokenizer
from perceptio.training.trainer import METRICS, train

SHORT = TokenizerTraining(steps=4, batch_size=4, warmup_steps=1, unquantized=0.0)
SIZES = {"grid": (2, 2), "image_size": (8, 8), "widths": (4, 8), "residual_blocks": 1, "latent_dim": 4}
NORMALS = MapVQVAEConfig(
    map="normals", channels=3, low=-1.0, high=1.0, unit_vectors=True, codebook_size=8, **SIZES
)
MASKS = MaskCodesConfig(bins=16, codebook_size=8, **SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def built(config):
    torch.manual_seed(0)
    return config.build()


def test_targets_of_objects_are_those_that_answers_are_about(folder):
    records = FolderDataset(folder).records
    maps = read_target_maps(folder, built(MASKS))
    assert maps.shape == (sum(len(record.objects) for record in records), 1, 8, 8) and len(maps) > 12
    assert maps.min() >= 0 and maps.max() == 1


def test_either_kind_is_trained_and_measured(folder):
    for config, figure in ((NORMALS, "angle_degrees"), (MASKS, "absolute_error")):
        tokenizer = built(config)
        maps = read_training_maps([DataFolder(path=str(folder))], tokenizer)
        (record,) = train_tokenizer(tokenizer, maps.training_NCHW, SHORT)
        assert record.codes_used >= 1 and not any(p.requires_grad for p in tokenizer.parameters())
        figures = evaluate_tokenizer(tokenizer, maps.held_out_MCHW)
        assert figures.keys() == {figure, "count", "codes_used", "perplexity"}
        assert figures["count"] == len(maps.held_out_MCHW)


def test_normals_are_mirrored_with_their_picture():
    tokenizer = built(NORMALS)
    maps = torch.zeros(1, 3, 8, 8)
    maps[:, 0, :, 0] = 1.0  # To the right, in the first column.
    drawn = _draw(tokenizer, maps, torch.ones(1), 64, torch.Generator().manual_seed(0))
    turned = drawn[:, 0, 0, -1] == -1
    assert 16 < int(turned.sum()) < 48
    assert torch.equal(drawn[turned][0, 0, :, -1], -torch.ones(8)) and not drawn[turned][0, 0, :, 0].any()
    assert torch.equal(drawn[~turned][0], maps[0])


def test_a_target_that_cannot_be_used_is_named_by_its_file(folder):
    wrong = built(attrs.evolve(NORMALS, channels=2, unit_vectors=False))
    with pytest.raises(DataError, match=r"maps/normals/.*: A map 'normals' has the shape \[32, 32, 3\]"):
        encode_targets(wrong, FolderDataset(folder))
    with pytest.raises(DataError, match=r"maps/normals/.*: A map 'normals' has the shape \[32, 32, 3\]"):
        read_target_maps(folder, wrong)


def test_a_run_trains_every_codebook_and_keeps_the_codes_of_images(folder, tmp_path):
    base = small_recipe(folder)
    recipe = attrs.evolve(
        base,
        streams=(
            *base.streams,
            Stream(name="normals", tokenizer=NORMALS, codes_per_step="group", training=SHORT),
            Stream(name="shapes", tokenizer=MASKS, codes_per_step="group", training=SHORT),
        ),
        losses=(*base.losses, WeightedLoss(loss=TokenConfig(stream="normals"))),
    )
    said = []
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", say=said.append, progress=stop_at_four)
    unlearned = [one for one in said if one.startswith("No loss is about the stream ")]
    assert unlearned == [
        "No loss is about the stream 'shapes': it is written, and nothing of it is learned; add one to losses."
    ]
    for name, loaded in (("depth", "vqvae"), ("normals", "map_vqvae"), ("shapes", "mask_codes")):
        assert (tmp_path / "run" / "tokenizers" / name / "component.json").exists()
        assert any(
            f"{loaded} of the stream {name!r}: it is trained first, for 4 steps" in one for one in said
        )
    assert sorted(path.name for path in (tmp_path / "run" / "codes").iterdir()) == ["depth", "normals"]
    line = json.loads((tmp_path / "run" / METRICS).read_text().splitlines()[-1])
    assert 1 < line["normals_codes.used"] <= 8 and "shapes_codes.used" not in line
    assert "normals_token" in line
    tokenizer = load(tmp_path / "run").stream("normals").tokenizer
    kept = tmp_path / "run" / "codes" / "normals" / "training-0"
    dataset = FolderDataset(folder)
    assert torch.equal(read_codes(kept, dataset, tokenizer), encode_targets(tokenizer, dataset))
    train(recipe, tmp_path / "run", resume=True)


def test_one_code_for_all_objects_is_refused_after_training(folder, tmp_path, monkeypatch):
    def collapsed(*arguments, **options):
        (record,) = train_tokenizer(*arguments, **options)
        return (attrs.evolve(record, codes_used=1),)

    monkeypatch.setattr(codebook, "train_tokenizer", collapsed)
    base = small_recipe(folder)
    shapes = Stream(name="shapes", tokenizer=MASKS, codes_per_step="group", training=SHORT)
    depth = base.with_stream("depth", training=attrs.evolve(SHORT, untrained=True))
    recipe = attrs.evolve(depth, streams=(*depth.streams, shapes))
    with pytest.raises(
        TrainingError, match="'shapes' says all [0-9]+ training targets with one code.*train it"
    ):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "tokenizers" / "shapes").exists()


def test_targets_are_read_by_their_names(folder):
    dataset = FolderDataset(folder)
    record, sample = dataset.records[0], dataset[0]
    assert record.target_file("normals").startswith("maps/normals/") and record.target_file("gloss") is None
    assert record.target_file("image") == record.image and record.target_file("depth") == record.depth
    assert record.target_file("masks") == record.target_file("objects") == record.masks
    for name in ("image", "normals", "objects"):
        assert np.array_equal(dataset.target(0, name), sample.target(name), equal_nan=True), name
    assert np.array_equal(dataset.target(0, "depth").values_HW, sample.depth.values_HW)
    assert dataset.target(0, "gloss") is None


def test_samples_without_a_target_are_said(folder, tmp_path):
    data = shutil.copytree(folder, tmp_path / "data")
    lines = [json.loads(line) for line in (data / "samples.jsonl").read_text().splitlines()]
    del lines[2]["depth"], lines[5]["depth"]
    (data / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = []
    train(with_settings(small_recipe(data), {"train.steps": 1}), tmp_path / "run", say=said.append)
    wanted = f"2 of 12 samples of {data} lack the target 'depth' of the stream 'depth', such as "
    assert any(one.startswith(f"{wanted}{quoted(lines[2]['id'])}:") for one in said), said


def stop_at_four(progress):
    if progress.step == 4:
        raise KeyboardInterrupt


def test_random_values_that_say_one_thing_are_refused_by_stream(folder, tmp_path):
    recipe = with_settings(small_recipe(folder), {"streams.depth.training.untrained": True})
    with pytest.raises(TrainingError, match=r"'depth' says all 12 .*leave streams.depth.training.untrained"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "tokenizers").exists()
