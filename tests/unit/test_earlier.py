"""Recipes and checkpoints of earlier versions load as what they were, or are refused with what to do.

`tests/data/format_1` was written by the last version that wrote format 1, and the answer beside it is its own.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeMultiMapConfig
from safetensors.torch import load_file
from small import small_recipe

from perceptio import GenerationSettings, component, load
from perceptio.earlier import current_recipe, current_tensor, tensor_of_format_1
from perceptio.errors import CheckpointError, RecipeError, UnknownNameError
from perceptio.interfaces import SequenceLayout
from perceptio.interfaces.language import text_positions
from perceptio.model.perception_model import build_model
from perceptio.ops.identity import hash_of_tensors
from perceptio.ops.weights import tensors_of, write_weights
from perceptio.serialize import from_json, to_json
from perceptio.training.run_folder import RunFolder
from perceptio.training.start import Start

DATA = Path(__file__).parent.parent / "data"
FORMAT_1 = DATA / "format_1"
PLAIN = {"name": "x", "vision": 1, "vision_head": 2, "language": 3}
MASKS = {**PLAIN, "segmentation": "pixel_features", "prompt_head": "prompt_mlp"}


@pytest.fixture(scope="module")
def document():
    return json.loads((FORMAT_1 / "recipe.json").read_text())["recipe"]


@pytest.fixture(scope="module")
def model():
    return load(FORMAT_1)


def test_its_recipe_lists_streams(model):
    recipe = model.recipe
    masks, depth = recipe.streams
    assert (masks.name, masks.tokenizer.name, masks.head.name) == (
        "segmentation",
        "pixel_features",
        "prompt_mlp",
    )
    assert (masks.read_at, depth.name, depth.codes_per_step) == ("previous_token", "depth", 4)
    assert (depth.training.untrained, depth.training.steps) == (True, 7)
    assert list(recipe.heads) == ["depth"]
    assert {one.loss.term: one.weight for one in recipe.losses} == {
        "next_token": 1.0,
        "depth_marker": 0.5,
        "depth_token": 1.0,
        "depth_count": 1.0,
        "depth_soft_reconstruction": 3.0,
        "segmentation_mask_bce": 2.0,
        "segmentation_dice": 0.5,
        "depth_cell_codes": 0.25,
    }
    assert (recipe.losses[2].loss.label_smoothing, recipe.losses[6].loss.sampling.num_points) == (0.1, 9)
    prompted = ("streams.segmentation.tokenizer", "streams.segmentation.head")
    assert recipe.train.train == ("vision", "vision_head", "language", *prompted, "heads")
    assert recipe.train.muon == dict.fromkeys(prompted, 0.02)
    assert recipe.train.lr_scale == {prompted[0]: 0.5}


def test_its_tensors_are_those_of_the_file(model):
    theirs = load_file(FORMAT_1 / "model.safetensors")
    ours = model.state_dict()
    assert {current_tensor(name) for name in theirs} == set(ours)
    for name, value in theirs.items():
        assert torch.equal(ours[current_tensor(name)], value), name
        assert tensor_of_format_1(current_tensor(name)) == name


def test_it_answers_as_it_did(model):
    told = json.loads((DATA / "format_1.answer.json").read_text())
    answer = model.ask(
        torch.linspace(0, 1, 3 * 20 * 30).reshape(3, 20, 30),
        "Which point is closest",
        points=[(0.2, 0.3), (0.8, 0.5)],
        settings=GenerationSettings(force=("segmentation", "depth"), max_new_tokens=12),
    )
    assert list(answer.tokens) == told["tokens"] and answer.text == told["text"]
    torch.testing.assert_close(
        torch.from_numpy(answer["depth"].values_HW).flatten(), torch.tensor(told["depth"]), atol=1e-4, rtol=0
    )
    (mask_HW,) = answer["segmentation"]
    assert np.array_equal(mask_HW, np.array([list(row) for row in told["mask"]]) == "1")

    count = model.plan.size
    layout = SequenceLayout.packed(
        text_positions(0, count, model.recipe.language.spec.position_axes), [count]
    )
    with torch.no_grad():
        hidden_1TD = model.language(model.language.embed(torch.arange(count)[None]), layout)
        logits_V = model.language.logits(hidden_1TD)[0, -1]
    torch.testing.assert_close(logits_V, torch.tensor(told["logits"]), atol=1e-4, rtol=0)


def test_it_is_saved_in_the_present_format(model, tmp_path):
    model.save_pretrained(tmp_path / "now")
    written = json.loads((tmp_path / "now" / "recipe.json").read_text())
    assert written["format"] == 2 and list(written["streams"]) == ["segmentation", "depth"]
    assert load(tmp_path / "now").recipe == model.recipe


def test_a_recipe_with_still_earlier_names_is_read(document):
    earlier = {**document, "data": {**document["data"]}, "train": {**document["train"]}}
    names = {
        "data": {
            "text_only_readout": "readings",
            "text_only_comparison": "comparisons",
            "vision_only": "pictures",
        },
        "train": {
            "micro_batch_size": "batch_size",
            "grad_accumulation": "accumulate",
            "max_grad_norm": "clip",
            "save_pretrained_weights": "save_base",
        },
    }
    for part, renamed in names.items():
        for last, first in renamed.items():
            earlier[part][first] = earlier[part].pop(last)
    del earlier["mask_prompt"]
    earlier["prompt_state"], earlier["data"]["perceive"] = "before", "apart"
    document = {**document, "data": {**document["data"], "perceive": "separate_task"}}

    assert from_json(earlier) == from_json(document)

    earlier["train"]["grad_accumulation"] = 2
    with pytest.raises(
        RecipeError, match="train.grad_accumulation is given twice, once as 'accumulate', its earlier"
    ):
        from_json(earlier)


def test_groups_and_figures_have_present_names():
    train = {
        "train": ["vision*", "segmentation.mask_decoder", "prompt_head", "*", "heads.cell_codes"],
        "muon": {"*e*": 0.1, "heads": 0.2, "language.trunk": 0.3},
        "validation": {"best": "dice.mask_iou"},
    }
    told = current_recipe({**MASKS, "train": train})["train"]
    assert told["train"] == [
        "vision*",
        "streams.segmentation.tokenizer.mask_decoder",
        "streams.segmentation.head",
        "*",
        "heads.depth",
    ]
    assert told["muon"] == {
        "heads": 0.2,
        "language.trunk": 0.3,
        "vision_head": 0.1,
        "language": 0.1,
        "streams.segmentation.tokenizer": 0.1,
        "streams.segmentation.head": 0.1,
    }
    assert told["validation"] == {"best": "segmentation_dice.mask_iou"}


def test_groups_of_parts_that_are_not_there_are_left_out():
    every = ["vision", "segmentation", "prompt_head", "heads"]
    without = current_recipe({**PLAIN, "segmentation": None, "order": [], "train": {"train": every}})
    assert without["train"] == {"train": ["vision", "heads"]} and without["streams"] == []


def test_a_recipe_of_today_stays_as_it_is():
    document = to_json(small_recipe())
    assert current_recipe(document) == document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"order": ["depth", "segmentation"]},
            r"order is \['depth', 'seg.*those of segmentation and then depth: tr",
        ),
        ({"order": ["depth"]}, r"order is \['depth'\].*train it again from a recipe that lists its streams"),
        (
            {"heads": {"cell_codes": "mlp", "more": "mlp"}},
            "heads has 'more' .* by the stream .*train it again",
        ),
        ({"streams": []}, "streams is given, and so is codes_per_step, depth, .*leave the latter out"),
    ],
)
def test_what_recipes_cannot_say_any_more_is_refused(document, change, message):
    with pytest.raises(RecipeError, match=message):
        from_json({**document, **change})


PLUGIN = """
from fakes import FakeMaskCodesConfig
from perceptio.hookspecs import hookimpl

@hookimpl
def register_segmentation_tokenizers():
    return [FakeMaskCodesConfig]
"""


def test_mask_codes_after_special_tokens_are_refused(document, tmp_path, monkeypatch):
    (tmp_path / "codes.py").write_text(PLUGIN)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "codes.py"))
    codes = {
        **document,
        "segmentation": {"component": "segmentation:codes/fake_mask_codes"},
        "prompt_head": None,
        "mask_prompt": "seg_token",
        "losses": [],
    }
    with pytest.raises(
        RecipeError, match="the stream 'segmentation' writes codes, .*between markers now.*again"
    ):
        from_json(codes)


PRETRAINED = """
import attrs
from pathlib import Path
from fakes import FakeMultiMapConfig
from perceptio.hookspecs import hookimpl
from perceptio.ops.weights import load_tensors

@attrs.frozen(kw_only=True)
class Pretrained(FakeMultiMapConfig):
    name = "pretrained"
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def load_weights(self, module):
        load_tensors(module, Path(self.weights))
        return True

@hookimpl
def register_segmentation_tokenizers():
    return [Pretrained]
"""


def test_adapters_alone_find_the_weights_that_they_were_trained_beside(document, tmp_path, monkeypatch):
    (tmp_path / "acme.py").write_text(PRETRAINED)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "acme.py"))
    masks, out = FakeMultiMapConfig().build(), tmp_path / "model"
    (tmp_path / "base").mkdir()
    write_weights(tensors_of(masks), tmp_path / "base")
    base = {f"segmentation.{name}": value for name, value in tensors_of(masks).items()}
    document = {
        **document,
        "segmentation": {"component": "segmentation:acme/pretrained", "weights": str(tmp_path / "base")},
        "train": {**document["train"], "train": ["vision", "prompt_head"], "muon": {}, "lr_scale": {}},
    }
    model = build_model(from_json(document))
    tensors = {tensor_of_format_1(name): value for name, value in tensors_of(model).items()}
    out.mkdir()
    write_weights({name: value for name, value in tensors.items() if name not in base}, out)
    shutil.copytree(FORMAT_1 / "text_tokenizer", out / "text_tokenizer")
    facts = {"format": 1, "base": {"segmentation": hash_of_tensors(base)}, "recipe": document}
    (out / "recipe.json").write_text(json.dumps(facts))

    loaded = load(out).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())

    write_weights(tensors_of(FakeMultiMapConfig().build()), tmp_path / "base")
    with pytest.raises(
        CheckpointError, match="adapters for other streams.segmentation.tokenizer weights than"
    ):
        load(out)


def test_an_earlier_loss_by_itself_names_the_present_one():
    with pytest.raises(
        UnknownNameError,
        match="is the component loss:depth_token, which is called 'loss:token' now, of a stream",
    ):
        component("loss:depth_token")


def test_a_run_of_it_cannot_be_resumed_and_its_weights_can_be_taken(tmp_path):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(FORMAT_1, run.checkpoint)
    with pytest.raises(
        CheckpointError,
        match="earlier version of this library.*cannot be resumed.*--set start_from=.*checkpoint",
    ):
        run.state()
    assert Start(str(run.path)).recipe == load(FORMAT_1).recipe


def test_a_checkpoint_that_cannot_be_read_so_says_what_to_do(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "model")
    held = json.loads((tmp_path / "model" / "recipe.json").read_text())
    held["recipe"]["order"] = []
    (tmp_path / "model" / "recipe.json").write_text(json.dumps(held))
    with pytest.raises(CheckpointError, match="cannot be built here: order is .*train it again"):
        load(tmp_path / "model")
