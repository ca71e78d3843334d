"""Stages: a run that starts from another takes what both have, goes on with it, and says what is new."""

import attrs
import pytest
import torch
from pretrained import PLUGIN, PretrainedVisionConfig, write_base
from small import scenes_folder, small_recipe

from perceptio.data.collate import Collate
from perceptio.data.folder import FolderDataset
from perceptio.errors import CheckpointError
from perceptio.interfaces import Turn
from perceptio.losses.code_tokens import TokenConfig
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.perception_model import build_model, load
from perceptio.recipe import Stream, TokenizerTraining, WeightedLoss
from perceptio.settings import with_settings
from perceptio.tokenizers.perception.map import MapVQVAEConfig
from perceptio.training.start import Start
from perceptio.training.trainer import train

EDGES = Stream(
    name="edges",
    tokenizer=MapVQVAEConfig(
        map="edges",
        codebook_size=8,
        grid=(2, 2),
        image_size=(8, 8),
        widths=(4, 8),
        residual_blocks=1,
        latent_dim=4,
    ),
    training=TokenizerTraining(steps=4, batch_size=4, warmup_steps=1, unquantized=0.0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


@pytest.fixture(scope="module")
def first(folder, tmp_path_factory):
    """The run of stage one: masks and depth."""
    run = tmp_path_factory.mktemp("first") / "run"
    train(small_recipe(folder), run)
    return run


def second_stage(folder, first):
    """Edges are added before the other streams, so that all ids of theirs move."""
    base = small_recipe(folder)
    return attrs.evolve(
        base,
        name="second",
        streams=(EDGES, *base.streams),
        losses=(*base.losses, WeightedLoss(loss=TokenConfig(stream="edges"))),
        start_from=str(first),
        readout="depth",
    )


def logits_by_name(model, folder):
    """What a model predicts after an answer with masks and depth, by the names of tokens."""
    recipe = small_recipe(folder)
    dataset = FolderDataset(folder)
    codes = torch.arange(16) % 8
    sample = next(one for one in dataset if any(turn.masks for turn in one.turns))
    asked = next(turn for turn in sample.turns if turn.masks)
    turn = Turn(
        question="Which",
        answer="red",
        task="referring",
        masks=asked.masks,
        perceive=tuple(stream.name for stream in recipe.streams),
    )
    sample = attrs.evolve(sample, turns=(turn,), codes={"depth": codes})
    batch = model.with_targets(Collate.of(model.recipe, model.language.text_tokenizer)([sample]))
    with torch.no_grad():
        output = model.eval()(
            batch, ["text_logits_RV", "streams.depth.logits_NXV", "streams.segmentation.rows_NmP"]
        )
    rows = {}
    for what, logits in (("text", output.text_logits_RV), ("depth", output.streams["depth"].logits_NXV)):
        rows[what, "text ids"] = logits[..., : model.plan.base_vocab]
        for name, span in model.plan.names:
            if "edges" not in name:
                rows[what, name] = logits[..., span.slice]
    return rows | {("masks", "rows"): output.streams["segmentation"].rows_NmP}


def test_what_stage_one_writes_is_unchanged_before_the_first_step_of_stage_two(folder, first):
    torch.manual_seed(7)
    recipe = second_stage(folder, first)
    model = build_model(recipe)
    moved = model.plan.streams["depth"].opening != load(first).plan.streams["depth"].opening
    said = Start(str(first)).give(model)
    before, after = logits_by_name(load(first), folder), logits_by_name(model, folder)
    assert moved and before.keys() == after.keys() and len(before) >= 10
    for name, logits in before.items():
        torch.testing.assert_close(after[name], logits, atol=1e-5, rtol=1e-5, msg=str(name))
    assert said[0].startswith(f"Starting from {first} (small): ")
    assert said[1] == "New tokens, which start as built: <edges_start>, <edges_end>, <edges_*>."
    assert said[2] == "New parts, which start as built: streams.edges.tokenizer."


def test_stage_two_goes_on_from_stage_one_and_is_resumed_without_it(folder, first, tmp_path):
    recipe, said = second_stage(folder, first), []

    def stop_at_four(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    whole = train(recipe, tmp_path / "whole", say=said.append)
    assert not (tmp_path / "whole" / "tokenizers" / "depth").exists()  # It is taken from stage one.
    assert (tmp_path / "whole" / "tokenizers" / "edges").exists()
    assert any("tensors are taken" in one for one in said)
    taken, own = (load(run).stream("depth").tokenizer.state_dict() for run in (first, tmp_path / "whole"))
    assert all(torch.equal(value, own[name]) for name, value in taken.items())

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=stop_at_four)
    elsewhere = attrs.evolve(recipe, start_from=str(tmp_path / "gone"))
    resumed = train(elsewhere, tmp_path / "cut", resume=True, say=(again := []).append)
    assert not any("tensors are taken" in one for one in again)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_another_stage_one_does_not_resume(folder, first, tmp_path):
    train(with_settings(small_recipe(folder), {"train.seed": 1}), tmp_path / "other")
    recipe = second_stage(folder, first)
    train(recipe, tmp_path / "run")
    changed = attrs.evolve(recipe, start_from=str(tmp_path / "other"))
    with pytest.raises(CheckpointError, match="cannot be resumed so: start_from was '[0-9a-f]{64}' and is '"):
        train(changed, tmp_path / "run", resume=True)
    moved = first.rename(tmp_path / "moved")
    try:
        train(attrs.evolve(recipe, start_from=str(moved)), tmp_path / "run", resume=True)
    finally:
        moved.rename(first)


def test_tensors_of_another_shape_are_said(folder, first):
    base = small_recipe(folder)
    wider = attrs.evolve(base.stream("depth").tokenizer, codebook_size=16)
    model = build_model(base.with_stream("depth", tokenizer=wider))
    start = Start(str(first))
    assert start.has_tokenizer(base.stream("depth")) and not start.has_tokenizer(model.recipe.stream("depth"))
    said = start.give(model)
    assert said[1] == "New tokens, which start as built: <depth_*>."
    assert said[2].startswith("Of another shape, so that they start as built: streams.depth.tokenizer.")


def test_what_is_no_model_is_refused(folder, tmp_path):
    config = small_recipe().stream("depth").tokenizer
    save(config.build(), tmp_path / "part", config=config)
    for place, message in (
        (tmp_path / "nothing", "start_from: .*nothing holds no checkpoint"),
        (tmp_path / "part", "start_from: .*part holds a AutoencoderDepthTokenizer and no model: name a run"),
    ):
        recipe = attrs.evolve(small_recipe(folder), start_from=str(place))
        with pytest.raises(CheckpointError, match=message):
            train(recipe, tmp_path / "run")


def test_a_model_of_other_parts_is_refused(folder, first):
    start = Start(str(first))
    start.tensors = {f"other.{name}": value for name, value in start.tensors.items()}
    with pytest.raises(CheckpointError, match="which has no tensor of the name and shape of one of small"):
        start.give(build_model(small_recipe(folder)))


def test_what_stage_one_trained_is_not_left_out_of_checkpoints(folder, first, tmp_path, monkeypatch):
    """Frozen in stage two, it would be read again from the pretrained weights, which hold other values."""
    (tmp_path / "acme.py").write_text(PLUGIN)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "acme.py"))
    vision = PretrainedVisionConfig(weights=write_base(tmp_path / "base")["vision"])
    base = small_recipe(folder, vision=vision)
    train(with_settings(base, {"train.steps": 2}), tmp_path / "one")
    trained = tuple(name for name in base.train.train if name != "vision")
    changes = {"train.train": list(trained), "train.save_pretrained_weights": False}
    recipe = attrs.evolve(with_settings(base, changes), start_from=str(tmp_path / "one"))
    with pytest.raises(
        CheckpointError, match=r"one trained vision, which train.train freezes and .*set it to"
    ):
        train(recipe, tmp_path / "two")
