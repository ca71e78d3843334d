"""A transformers language model in a whole recipe: it is built, trained, asked, saved, loaded and exported."""

import shutil

import attrs
import pytest
import torch
from fakes import FakeDepthConfig
from small import scenes_folder, small_recipe
from tiny_hf import TEXT_VOCAB, official_model, write_checkpoint

from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.interfaces import GenerationSettings
from perceptio.model.perception_model import build_model, load
from perceptio.serialize import fingerprint
from perceptio.training.trainer import train

TRAINED = ("language.lora", "language.vocabulary", "vision_head", "streams.*.head")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("hf")
    return scenes_folder(root / "scenes"), write_checkpoint(root / "qwen", official_model("qwen2"))


def recipe_of(folders, **settings):
    scenes, checkpoint = folders
    recipe = small_recipe(scenes)
    return attrs.evolve(
        recipe,
        language=HFLanguageConfig.from_pretrained(checkpoint, lora=LoRA(rank=2), max_length=2048, **settings),
        data=attrs.evolve(recipe.data, turns=1),
        train=attrs.evolve(recipe.train, steps=2, micro_batch_size=1, save_every=2, train=TRAINED),
    )


def test_it_trains_answers_and_comes_back_without_the_folder_it_came_from(folders, tmp_path):
    recipe = recipe_of(folders, gradient_checkpointing=True)
    before = {name: value.clone() for name, value in build_model(recipe).language.official_tensors().items()}
    model = train(recipe, tmp_path / "run")
    for name, value in model.language.official_tensors().items():
        assert torch.equal(value, before[name]), f"{name} of the frozen checkpoint moved"
    assert all(bool(p.ne(0).any()) for p in model.language.parameter_groups()["lora"])

    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    question = (image, "Which point is closest?", [(0.2, 0.3), (0.8, 0.5)])
    short = GenerationSettings(max_new_tokens=3, max_objects=1)
    answer = model.ask_batch([question, (image, "Segment the sphere.", [])], settings=short)[0]
    together = model.ask_batch([question, (image, "Which?", [(0.5, 0.5)])], settings=short)[
        0
    ]  # One image for two.
    assert together.tokens == answer.tokens
    assert model.train().ask_batch([question], settings=short)[0].tokens == answer.tokens and model.training
    shutil.move(folders[1], tmp_path / "gone")
    loaded = load(tmp_path / "run")
    shutil.move(tmp_path / "gone", folders[1])
    assert loaded.ask_batch([question], settings=short)[0].tokens == answer.tokens
    assert loaded.recipe.language.text_tokenizer_files != recipe.language.text_tokenizer_files
    assert fingerprint(loaded.recipe) == fingerprint(recipe)

    names = [model.plan.name_of(token) for token in range(TEXT_VOCAB, model.plan.size)]
    model.language.export(tmp_path / "plain", names)
    plain = HFLanguageConfig.from_pretrained(tmp_path / "plain")
    assert plain.text_vocab_size == model.plan.size


def test_new_rows_start_by_their_meaning(folders):
    model = build_model(recipe_of(folders))
    h, w = model.plan.grid
    rows = model.language.embed(torch.arange(h * w) + model.plan.locations.start).detach()
    assert (rows[0] - rows[1]).norm() < (rows[0] - rows[h * w - 1]).norm()


def test_the_whole_model_builds_on_the_meta_device(folders):
    recipe = recipe_of(folders)
    plain = {"streams": recipe.streams[:1], "answer_format": "direct", "heads": {}, "losses": ()}
    for one in (recipe.with_stream("depth", tokenizer=FakeDepthConfig()), attrs.evolve(recipe, **plain)):
        model = build_model(one, device="meta")
        assert model.language.new_inputs.is_meta


def test_weights_that_are_not_read_leave_the_values_of_a_model_that_names_none(folders):
    recipe = recipe_of(folders)
    vision = InternViTConfig(hidden_dim=8, num_layers=1, num_heads=2, feed_forward_dim=8, tile_size=28)
    named, plain = (
        attrs.evolve(
            recipe,
            language=attrs.evolve(recipe.language, weights=weights),
            vision=attrs.evolve(vision, weights=weights),
        )
        for weights in ("nowhere/at-all", None)
    )

    def drawn(one):
        torch.manual_seed(0)
        return build_model(one, load_weights=False)

    model, values = drawn(named), drawn(plain).state_dict()
    assert model.recipe == named
    torch.testing.assert_close(dict(model.state_dict()), dict(values), rtol=0, atol=0)
    assert {"language.trunk.layers.0.mlp.up_proj.base_layer.weight", "language.new_inputs"} <= values.keys()
    assert all(bool(value.isfinite().all()) for value in values.values())
