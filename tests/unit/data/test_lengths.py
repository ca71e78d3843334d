"""Samples that are too long are found before training, refused by name in it, or skipped and counted."""

import json
import sys

import attrs
import pytest
from fakes import BrightnessConfig
from small import scenes_folder, small_recipe
from tiny_hf import TEXT_VOCAB, model_json, tokenizer_folder

from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.cli import main as command
from perceptio.data.collate import Collate
from perceptio.data.conversations import ConversationSampler
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.check import check_folder
from perceptio.data.lengths import ConversationLengths
from perceptio.errors import DataError
from perceptio.model.perception_model import build_model
from perceptio.recipe import PointValues
from perceptio.training.codes import encode_targets
from perceptio.training.trainer import METRICS, train


def recipe(folder=None, max_length=400, **data):
    language = HFLanguageConfig(
        model=model_json(),
        text_vocab_size=TEXT_VOCAB,
        text_tokenizer_files=str(tokenizer_folder()),
        max_length=max_length,
    )
    base = small_recipe(folder, language=language)
    return attrs.evolve(
        base, data=attrs.evolve(base.data, text_only_readout=0.0, text_only_comparison=0.0, **data)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three scenes, the second with an answer of 500 letters."""
    folder = scenes_folder(tmp_path_factory.mktemp("data") / "scenes", count=3)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[1]["turns"] = [{"task": "referring", "question": "What is it?", "answer": "x" * 500}]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def prepared(chosen):
    model = build_model(chosen).eval()
    datasets = [FolderDataset(one.path) for one in chosen.data.folders]
    codes = [encode_targets(model.stream("depth").tokenizer, dataset) for dataset in datasets]
    collate = Collate.of(chosen, model.language.text_tokenizer)
    levels = [
        {n: {point: 0 for turn in dataset.turns(n) for point in turn.points} for n in range(len(dataset))}
        for dataset in datasets
    ]
    return ConversationSampler(chosen, datasets, {"depth": codes}, levels), collate


OWN = {"mixture": {"relative_depth": 1.0, "brightness": 1.0}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        OWN,
        OWN | {"perceive": "separate_task"},
        {"perceive": "separate_task"},
        {"perceive": "never"},
        {"turns": 1},
    ],
)
@pytest.mark.parametrize("answer_format", ["direct", "readout", "lookup"])
def test_the_longest_conversation_is_the_longest_that_is_drawn(tmp_path, changes, answer_format):
    scenes = scenes_folder(tmp_path / "scenes", count=3)
    chosen = recipe(scenes, max_length=512, **changes)
    values = PointValues(levels=4, source="vision_head") if answer_format == "lookup" else None
    tasks = {"brightness": BrightnessConfig()}
    chosen = attrs.evolve(chosen, answer_format=answer_format, point_values=values, tasks=tasks)
    sampler, collate = prepared(chosen)
    drawn = max(max(collate(sampler.draw(number, 4)).lengths) for number in range(25))
    lengths, dataset = ConversationLengths(chosen), FolderDataset(scenes)
    longest = max(lengths.longest(dataset.records[n], dataset[n]) for n in range(3))
    assert drawn <= longest <= 1.2 * drawn


@pytest.mark.parametrize("turns", [1, 6])
def test_an_ordered_conversation_counts_whole_with_a_picture_or_without(tmp_path, turns):
    scenes = scenes_folder(tmp_path / "scenes", count=1)
    (line,) = map(json.loads, (scenes / "samples.jsonl").read_text().splitlines())
    talk = [{"task": "chat", "question": "And then?", "answer": "Night came."}] * 5
    lines = [line | {"ordered": True, "turns": talk}, {"id": "talk", "ordered": True, "turns": talk}]
    (scenes / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    chosen = recipe(scenes, max_length=512, turns=turns, mixture={"chat": 1.0, "depth_map": 1.0})
    sampler, collate = prepared(chosen)
    drawn = [(sample.image_3HW is None, *collate([sample]).lengths) for sample in sampler.draw(0, 40)]
    lengths, dataset = ConversationLengths(chosen), FolderDataset(scenes)
    for number, textual in enumerate([False, True]):
        longest = max(length for without, length in drawn if without == textual)
        assert lengths.longest(dataset.records[number], dataset[number]) == pytest.approx(longest, rel=0.2)
        assert lengths.longest(dataset.records[number], dataset[number]) >= longest


def test_a_check_names_the_samples_that_are_too_long(folder, monkeypatch, capsys):
    (problem,) = check_folder(folder, recipe=recipe(folder)).problems
    assert problem.line == 2 and "serves at most 400" in str(problem)
    assert not check_folder(folder).problems
    assert not check_folder(folder, recipe=small_recipe()).problems, "a model without a limit"
    monkeypatch.setattr("perceptio.settings.read_recipe", lambda *_, **__: recipe(folder))
    monkeypatch.setattr(sys, "argv", ["perceptio", "data", "check", str(folder), "--recipe", "mine"])
    with pytest.raises(SystemExit):
        command.main()
    assert "the recipe's language model serves at most 400" in " ".join(capsys.readouterr().out.split())


def test_training_refuses_a_conversation_by_name_or_skips_and_counts_it(folder):
    sampler, collate = prepared(recipe(folder, mixture={"referring": 1.0}))
    samples = sampler.draw(0, 12)
    with pytest.raises(
        DataError, match=r"samples.jsonl line 2 \('.*'\) has 5\d\d slots, .* serves at most 400"
    ):
        collate(samples)
    _, skipping = prepared(recipe(folder, mixture={"referring": 1.0}, too_long="skip"))
    batch = skipping(samples)
    assert batch.too_long > 0 and len(batch.lengths) + batch.too_long == 12 and max(batch.lengths) <= 400
    long = [sample for sample in samples if "line 2" in sample.source]
    assert len(long) == batch.too_long
    with pytest.raises(
        DataError, match="Every conversation of a batch is longer than the language model serves"
    ):
        skipping(long)


def test_a_training_that_skips_logs_the_share(folder, tmp_path):
    chosen = recipe(folder, mixture={"referring": 1.0}, too_long="skip")
    chosen = attrs.evolve(chosen, train=attrs.evolve(chosen.train, steps=2, micro_batch_size=8))
    train(chosen, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [0 < line["too_long"] < 1 for line in lines] == [True, True]
