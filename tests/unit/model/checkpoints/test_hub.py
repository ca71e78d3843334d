"""A model as others get it: the card, adapters alone or merged, the hub."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import attrs
import pytest
import torch
import yaml
from pretrained import PLUGIN, AdaptedLanguageConfig, PretrainedVisionConfig, write_base
from safetensors import safe_open
from small import small_recipe

from perceptio import PerceptionModel
from perceptio.errors import CheckpointError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.checkpoints.pretrained import pretrained_weights
from perceptio.model.perception_model import build_model, load
from perceptio.recipe import DataFolder, Stream
from perceptio.serialize import fingerprint
from perceptio.tokenizers.perception.features import FeaturesConfig

RESULTS = {
    "data/test": {
        "relative_depth": {"3": 0.5, "mean": 0.61234, "interval": [0.5, 0.7], "count": 120},
        "referring": {"ciou": 0.25, "count": 7},
    }
}


@pytest.fixture(autouse=True)
def plugin(tmp_path, monkeypatch):
    """Parts with pretrained weights, as a plugin named `acme`."""
    (tmp_path / "acme.py").write_text(PLUGIN)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "acme.py"))


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base")


@pytest.fixture
def recipe(base):
    recipe = small_recipe()
    trained = ("vision_head", "language.lora", "language.vocabulary", "streams.segmentation.*", "heads")
    return attrs.evolve(
        recipe,
        language=AdaptedLanguageConfig(weights=base["language"]),
        vision=PretrainedVisionConfig(weights=base["vision"]),
        train=attrs.evolve(recipe.train, train=trained, muon={"language.lora": 0.02}),
    )


@pytest.fixture
def model(recipe):
    torch.manual_seed(0)
    return build_model(recipe).eval()


def names_in(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return set(file.keys())


def assert_same(one, other):
    held, expected = one.state_dict(), other.state_dict()
    assert held.keys() == expected.keys()
    for name, value in held.items():
        assert torch.equal(value, expected[name]), name


def test_adapters_alone_leave_out_the_base_and_read_it_again(model, tmp_path):
    model.save_pretrained(tmp_path / "out", adapters_only=True)
    names = names_in(tmp_path / "out")
    assert {"language.inner.blocks.0.down.up_OR", "language.inner.embedding.weight"} <= names
    assert any(name.startswith("streams.depth.tokenizer.") for name in names)
    assert not any(name.startswith("vision.") for name in names)
    assert "language.inner.blocks.0.down.base.weight" not in names
    loaded = PerceptionModel.from_pretrained(tmp_path / "out")
    assert_same(loaded, model)
    assert loaded.recipe == model.recipe
    assert "These are adapters alone" in (tmp_path / "out" / "README.md").read_text()


def test_new_rows_and_adapters_are_kept_where_they_do_not_train(recipe, tmp_path):
    frozen = attrs.evolve(recipe, train=attrs.evolve(recipe.train, train=("vision_head",)))
    model = build_model(frozen)
    save(model, tmp_path / "out", adapters_only=True)
    assert_same(load(tmp_path / "out"), model)


def test_parts_that_a_checkpoint_holds_read_no_weights(recipe, tmp_path, monkeypatch):
    train = attrs.evolve(recipe.train, train=("vision", "language.lora"))
    model = build_model(attrs.evolve(recipe, train=train))
    save(model, tmp_path / "out", adapters_only=True)
    monkeypatch.setattr(PretrainedVisionConfig, "load_weights", lambda *_: pytest.fail("weights were read"))
    assert_same(load(tmp_path / "out"), model)


def test_adapters_refuse_another_base_and_find_it_elsewhere(model, base, tmp_path):
    model.save_pretrained(tmp_path / "out", adapters_only=True)
    other = write_base(tmp_path / "other", seed=1)
    with pytest.raises(
        CheckpointError, match="holds adapters for other vision weights than those at .*other"
    ):
        load(tmp_path / "out", weights={"vision": other["vision"]})
    with pytest.raises(CheckpointError, match="weights names the part 'visoin'.*did you mean 'vision'"):
        load(tmp_path / "out", weights={"visoin": other["vision"]})

    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="There are no weights"):
        load(tmp_path / "out")
    elsewhere = {part: str(tmp_path / "moved" / part) for part in base}
    assert_same(PerceptionModel.from_pretrained(tmp_path / "out", weights=elsewhere), model)


def test_the_teacher_that_a_tokenizer_holds_is_a_base_of_its_own(recipe, base, tmp_path):
    """Its weights are named, left out, read again, compared and found elsewhere as those of any part."""
    tokenizer = FeaturesConfig(teacher=PretrainedVisionConfig(weights=base["vision"]))
    features = Stream(name="features", tokenizer=tokenizer, head=LinearHeadConfig())
    model = build_model(attrs.evolve(recipe, streams=(*recipe.streams, features)))
    part = "streams.features.tokenizer.teacher"
    assert pretrained_weights(model.recipe)[part] == base["vision"]
    save(model, tmp_path / "out", adapters_only=True)
    assert not any(name.startswith(part) for name in names_in(tmp_path / "out"))
    assert any(name.startswith("streams.features.head.") for name in names_in(tmp_path / "out"))
    assert_same(load(tmp_path / "out"), model)
    other = write_base(tmp_path / "other", seed=1)["vision"]
    with pytest.raises(CheckpointError, match=f"adapters for other {part} weights than those at {other}"):
        load(tmp_path / "out", weights={part: other})


def test_merged_adapters_are_gone_and_answer_alike(model, tmp_path):
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = model.ask(image, "Which point is closest?", points=[(0.2, 0.3), (0.8, 0.5)])
    model.save_pretrained(tmp_path / "out", merge_adapters=True)
    loaded = PerceptionModel.from_pretrained(tmp_path / "out")
    assert loaded.recipe.language.lora is None
    assert "language.lora" not in (*loaded.recipe.train.train, *loaded.recipe.train.muon)
    assert not any("up_OR" in name for name in loaded.state_dict())
    assert (
        loaded.ask(image, "Which point is closest?", points=[(0.2, 0.3), (0.8, 0.5)]).tokens == before.tokens
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"merge_adapters": True}, "language:decoder has no adapters that could be merged"),
        ({"adapters_only": True}, "small holds nothing frozen from pretrained weights"),
        ({"adapters_only": True, "merge_adapters": True}, "which adapters_only leaves out"),
        ({"results": "nowhere/metrics.json"}, "metrics.json does not exist.*name the metrics.json that"),
        ({"max_shard_size": "5 parsecs"}, "max_shard_size is '5 parsecs'; write a whole number of bytes"),
        ({"max_shard_size": 0}, "max_shard_size is 0; write a whole number of bytes, or say '5GB'"),
        ({"max_shard_size": None}, "max_shard_size is None"),
        ({"results": 5}, "results are 5; give figures by data set, or a metrics.json"),
    ],
)
def test_what_cannot_be_saved_so_is_refused(settings, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        build_model(small_recipe()).save_pretrained(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_large_weights_come_in_shards(model, tmp_path):
    model.save_pretrained(tmp_path / "out", max_shard_size="40KB")
    shards = sorted(tmp_path.glob("out/model-*.safetensors"))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(shards) > 2 and set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert_same(PerceptionModel.from_pretrained(tmp_path / "out"), model)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=f"names files that are not there: {shards[1].name}"):
        load(tmp_path / "out")


def test_the_card_says_what_it_is_made_of(model, base, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(RESULTS))
    model.save_pretrained(tmp_path / "out", results=tmp_path / "metrics.json")
    card = (tmp_path / "out" / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    facts = yaml.safe_load(header)
    assert facts["library_name"] == "perceptio" and facts["license"] == "other"
    assert {"depth", "segmentation"} <= set(facts["tags"])
    assert "base_model" not in facts
    for said in (
        f"`{fingerprint(model.recipe)}`",
        "| vision | `vision:acme/pretrained` |",
        f"`{base['vision']}`",
        "| `[SEG]` |",
        "writes `segmentation` once per object, then `depth` once per image as tokens",
        'answer.text, answer["segmentation"], answer["depth"]',
        "A block of `depth` is 16 codes, predicted 4 a step.",
        "| `depth_soft_reconstruction` | 1 |",
        "### data/test",
        "| relative_depth.mean | 0.6123 | 120 |",
        "| relative_depth.interval | 0.5 to 0.7 | 120 |",
        "| referring.ciou | 0.25 | 7 |",
        "PerceptionModel.from_pretrained(",
    ):
        assert said in body, said
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == RESULTS


def test_names_in_the_card_are_names_and_no_markup(recipe, base, tmp_path):
    evil = "x\n\n# Heading <img src=a onerror=b> [link](http://evil) ``code`` | cell \u2028 &lt;"
    odd = attrs.evolve(recipe, name=evil, data=attrs.evolve(recipe.data, folders=(DataFolder(path=evil),)))
    build_model(odd, load_weights=False).save_pretrained(
        tmp_path / "out", results={evil: {evil: 0.5, "none": None}}
    )
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    text = "x # Heading \\<img src=a onerror=b\\> \\[link\\](http://evil) \\`\\`code\\`\\` | cell \\&lt;"
    code = "``` x # Heading <img src=a onerror=b> [link](http://evil) ``code`` | cell &lt; ```"
    assert f"\n# {text}\n" in card and f"\n### {text}\n" in card
    assert f"| {text} | 0.5 |".replace("| cell", "\\| cell") in card and "| none | – |" in card
    assert f"| data | {code} (weight 1) |".replace("| cell", "\\| cell") in card
    assert [line for line in card.splitlines() if line.startswith("# ")] == [f"# {text}"]


def test_a_public_base_is_named_and_a_license_is_the_users(recipe, tmp_path):
    public = attrs.evolve(recipe, vision=attrs.evolve(recipe.vision, weights="acme/vision-base"))
    model = build_model(public, load_weights=False)
    model.save_pretrained(tmp_path / "out", license="mit")
    facts = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert facts["base_model"] == ["acme/vision-base"]
    assert facts["license"] == "mit"


class FakeApi:
    """The two functions of `HfApi` that are used."""

    def __init__(self, fails=False):
        self.fails = fails

    def create_repo(self, repo_id, *, private, exist_ok):
        if self.fails:
            raise ConnectionError("no route")
        self.created = (repo_id, private, exist_ok)

    def upload_folder(self, *, repo_id, folder_path, commit_message, delete_patterns):
        self.uploaded = {path.name for path in folder_path.iterdir()}
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_pushing_uploads_the_folder_that_saving_makes():
    api = FakeApi()
    url = build_model(small_recipe()).push_to_hub("me/model", api=api, private=True, results=RESULTS)
    assert url == "https://hub/me/model/commit/1" and api.created == ("me/model", True, True)
    assert api.uploaded == {"README.md", "metrics.json", "model.safetensors", "recipe.json", "text_tokenizer"}
    with pytest.raises(CheckpointError, match=r"me/model could not be uploaded \(no route\): log in with"):
        build_model(small_recipe()).push_to_hub("me/model", api=FakeApi(fails=True))


def test_a_part_is_no_whole_model(tmp_path):
    config = small_recipe().stream("depth").tokenizer
    save(config.build(), tmp_path / "part", config=config)
    with pytest.raises(CheckpointError, match="holds a AutoencoderDepthTokenizer and no whole model"):
        PerceptionModel.from_pretrained(tmp_path / "part")


def test_without_its_plugin_one_sentence_says_what_is_missing(model, tmp_path, monkeypatch):
    save(model, tmp_path / "out")
    monkeypatch.delenv("PERCEPTIO_PLUGIN_FILES")
    with pytest.raises(
        CheckpointError,
        match=r"needs the component .*:acme/(pretrained|adapted)' of the plugin .*acme.py.*install it",
    ):
        load(tmp_path / "out")


def test_a_process_that_never_saw_the_recipe_loads_it(tmp_path):
    model = build_model(small_recipe()).eval()
    save(model, tmp_path / "out")
    code = (
        "import sys, perceptio\n"
        f"model = perceptio.PerceptionModel.from_pretrained({str(tmp_path / 'out')!r})\n"
        "assert not {'small', 'fakes'} & set(sys.modules)\n"
        "print(sum(float(value.double().sum()) for value in model.state_dict().values()))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PERCEPTIO_PLUGIN_FILES"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    total = sum(float(value.double().sum()) for value in model.state_dict().values())
    assert float(done.stdout) == pytest.approx(total)
