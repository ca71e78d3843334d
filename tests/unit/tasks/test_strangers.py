"""A task and streams that somebody else wrote are drawn, trained and scored without a change of ours."""

import json

import attrs
import pytest
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.data.mixture import check_mixture
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError, RecipeError, UnknownNameError
from perceptio.evaluation import asking
from perceptio.evaluation.evaluation import Evaluation
from perceptio.interfaces import Kind
from perceptio.losses.code_tokens import TokenConfig
from perceptio.recipe import Stream, WeightedLoss
from perceptio.registry import Registry
from perceptio.settings import load_recipe
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.training.trainer import METRICS, train

PLUGIN = '''
"""How many objects there are, answered by a number; and how bright a picture is, as one of ten codes."""

from typing import ClassVar

import attrs
import torch

from perceptio.hookspecs import hookimpl
from perceptio.interfaces import (
    CodeGroup, Codes, GenerationSettings, Kind, Pass, PerceptionSpec, PerceptionTokenizer,
    PerceptionTokenizerConfig, StreamSpec, Task, TaskConfig,
)


class Counted(Pass):
    def __init__(self, name, streams):
        super().__init__(name)
        self.streams, self.errors, self.unparsed = streams, [], 0

    def settings(self, questions):
        return GenerationSettings(streams=self.streams, force=self.streams, readout=False, max_new_tokens=2)

    def score(self, reply):
        if reply.text.strip().isdigit():
            self.errors.append(abs(int(reply.text) - int(reply.question.turn.answer)))
        else:
            self.unparsed += 1

    def figures(self):
        mean = sum(self.errors) / len(self.errors) if self.errors else None
        return {"counted": {"error": mean, "unparsed": self.unparsed, "count": self.asked}}


class Counting(Task):
    may_perceive = True
    required = ("brightness",)

    def passes(self, name, data):
        return [Counted(name, data.perceives)]


@attrs.frozen(kw_only=True)
class CountingConfig(TaskConfig):
    name: ClassVar[str] = "counting"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def problems(self, turn):
        if not turn.answer.isdigit():
            yield f"the answer {turn.answer!r} is no number."

    def build(self, model):
        return Counting()


class Brightness(PerceptionTokenizer):
    def __init__(self, spec):
        super().__init__()
        self.spec = spec

    def targets(self, raw):
        return torch.stack([image.mean() for image in raw])[:, None] if raw else torch.zeros(0, 1)

    def to_codes(self, targets):
        return (targets * 10).long().clamp(0, 9)

    def from_codes(self, codes_NL, features=None, image_index_N=None):
        return (codes_NL + 0.5) / 10

    def from_probabilities(self, probabilities, features=None, image_index_N=None):
        return probabilities[0] @ ((torch.arange(10) + 0.5) / 10)

    def shown(self, decoded, sizes):
        return decoded[:, 0].tolist()


@attrs.frozen(kw_only=True)
class BrightnessConfig(PerceptionTokenizerConfig):
    name: ClassVar[str] = "brightness"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    @property
    def spec(self):
        written = Codes(codebook_sizes=(10,), groups=(CodeGroup(length=1),))
        return PerceptionSpec(stream=StreamSpec(written=written, target="image"))

    def build(self):
        return Brightness(self.spec)


@attrs.frozen(kw_only=True)
class CountingOfConfig(CountingConfig):
    """How many there are of a kind."""

    name: ClassVar[str] = "counting_of"
    of: str


@hookimpl
def register_tasks():
    return [CountingConfig, CountingOfConfig]


@hookimpl
def register_perception_tokenizers():
    return [BrightnessConfig]
'''


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A plugin file, and a recipe with its task and its stream beside boxes of objects."""
    place = tmp_path_factory.mktemp("strange")
    (place / "strange.py").write_text(PLUGIN)
    folder = scenes_folder(place / "scenes", count=6)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        question = {"task": "strange/counting", "question": "How many?", "answer": str(number)}
        line["turns"].append(question)
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERCEPTIO_PLUGIN_FILES", str(place / "strange.py"))
        brightness = Registry.discover().get(Kind.PERCEPTION, "strange/brightness")()
        recipe = small_recipe(folder)
        streams = (
            *recipe.streams,
            Stream(name="box", tokenizer=BoxConfig(bins=16)),
            Stream(name="brightness", tokenizer=brightness),
        )
        losses = [WeightedLoss(loss=TokenConfig(stream=name)) for name in ("box", "brightness")]
        mixture = {"strange/counting": 2.0, "referring": 1.0, "brightness_map": 1.0}
        recipe = attrs.evolve(
            recipe,
            streams=streams,
            losses=(*recipe.losses, *losses),
            data=attrs.evolve(recipe.data, mixture=mixture, text_only_readout=0.0, text_only_comparison=0.0),
            train=attrs.evolve(recipe.train, steps=3, micro_batch_size=4),
        )
        yield folder, recipe


@pytest.fixture(scope="module")
def trained(strange, tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    return train(strange[1], run), run


def test_a_strange_task_and_strange_streams_are_trained_and_scored(strange, trained):
    (folder, _), (model, run) = strange, trained
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    assert all(line["brightness_token"] > 0 for line in lines)
    assert any("box_token" in line for line in lines)
    dataset = FolderDataset(folder)
    figures = Evaluation(model, dataset).run()
    assert figures["counted"]["count"] == len(dataset)
    assert figures["brightness_map"]["count"] == len(dataset) and figures["brightness_map"]["missing"] == 0
    assert 0 <= figures["brightness_map"]["absolute_error"] <= 1
    expressions = sum(
        len(turn.masks) for sample in dataset for turn in sample.turns if turn.task == "referring"
    )
    assert figures["referring_box"]["count"] == expressions
    assert figures["referring"]["count"] and "oracle_codes" in figures
    assert "not_scored" not in figures


def test_what_a_stream_is_scored_by_is_its_own_comparison(strange, trained, monkeypatch):
    """With the codes of true targets the error is that of ten bins."""
    model, dataset = trained[0], FolderDataset(strange[0])
    tokenizer = model.stream("brightness").tokenizer
    codes_N1 = tokenizer.to_codes(tokenizer.targets([sample.image_3HW for sample in dataset]))
    generate = asking.generate

    def with_true_codes(model, turns, images, index, settings, vision, given_codes):
        if settings.streams == ("brightness",):
            given_codes = {"brightness": codes_N1}
        return generate(model, turns, images, index, settings, vision=vision, given_codes=given_codes)

    monkeypatch.setattr(asking, "generate", with_true_codes)
    found = Evaluation(model, dataset).run()["brightness_map"]
    decoded = (codes_N1[:, 0] + 0.5) / 10
    errors = [
        abs(float(one) - float(sample.image_3HW.mean())) for one, sample in zip(decoded, dataset, strict=True)
    ]
    assert found["absolute_error"] == pytest.approx(sum(errors) / len(errors), abs=1e-6)
    assert found["absolute_error"] <= 0.05


def test_a_strange_task_says_what_is_wrong_in_the_data(strange, tmp_path):
    folder, _ = strange
    copy = tmp_path / "scenes"
    copy.mkdir()
    (copy / "dataset.json").write_text((folder / "dataset.json").read_text())
    text = (folder / "samples.jsonl").read_text().replace('"answer": "0"', '"answer": "none"')
    (copy / "samples.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"turn \d+: the answer 'none' is no number"):
        FolderDataset(copy)


def test_a_mixture_names_what_somebody_has(strange):
    _, recipe = strange
    check_mixture(recipe)
    unknown = attrs.evolve(recipe.data, mixture={"counted": 1.0, "box_map": 1.0})
    with pytest.raises(DataError, match="asks for 'box_map', 'counted', and no folder"):
        check_mixture(attrs.evolve(recipe, data=unknown))


def test_a_task_of_a_plugin_is_asked_for_by_its_full_name(strange):
    _, recipe = strange
    recipe = attrs.evolve(recipe, data=attrs.evolve(recipe.data, mixture={"counting": 1.0}))
    with pytest.raises(
        DataError, match="asks for 'counting', .* The task 'strange/counting' of a plugin is asked for"
    ):
        check_mixture(recipe)


def test_a_plugins_task_is_never_taken_for_a_question_in_words(strange, monkeypatch):
    (_, recipe) = strange
    with pytest.raises(UnknownNameError, match=r"no task component 'strange/count'; did you mean"):
        TaskTable(recipe)["strange/count"]
    with pytest.raises(
        RecipeError, match="'strange/counting_of' has settings without defaults: give them in"
    ):
        TaskTable(recipe)["strange/counting_of"]
    monkeypatch.delenv("PERCEPTIO_PLUGIN_FILES")
    with pytest.raises(UnknownNameError, match=r"'strange/counting'.* No plugin 'strange' is loaded"):
        TaskTable(load_recipe("perceptio_tiny"))["strange/counting"]
