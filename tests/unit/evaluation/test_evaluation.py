"""The evaluation of a random model: every figure is there, counted, and of the right questions."""

import weakref

import attrs
import numpy as np
import pytest
import torch
from fakes import BrightnessConfig
from small import scenes_folder, small_recipe

from perceptio.backbones.language.words import WordsTokenizer
from perceptio.data.folder import FolderDataset
from perceptio.data.scenes import Split
from perceptio.errors import DataError
from perceptio.evaluation import asking
from perceptio.evaluation.evaluation import Evaluation
from perceptio.interfaces import DepthConvention, DepthMap, Sample, Turn
from perceptio.interfaces.depth_maps import from_map
from perceptio.interfaces.maps import resize_maps
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import build_model
from perceptio.ops.intervals import wilson
from perceptio.ops.marks import draw_marks

METRIC = DepthConvention(near_m=1.0, far_m=16.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return FolderDataset(scenes_folder(tmp_path_factory.mktemp("data") / "test", count=4, split=Split.TEST))


def model_of(**changes):
    torch.manual_seed(0)
    return build_model(small_recipe(**changes))


def test_every_figure_is_there_and_counts_its_questions(dataset):
    seen = []
    figures = Evaluation(model_of(), dataset, progress=lambda done, total: seen.append((done, total))).run()
    marked = [turn for n in range(4) for turn in dataset.turns(n) if turn.task == "relative_depth"]
    for name in ("relative_depth", "relative_depth_readout", "oracle_codes", "shuffled_codes"):
        assert figures[name]["count"] == len(marked)
        low, high = figures[name]["interval"]
        assert 0.0 <= low <= high <= 1.0
        assert figures[name]["mean"] == pytest.approx(
            sum(figures[name][str(n)] for n in {len(turn.points) for turn in marked})
            / len({len(turn.points) for turn in marked})
        )
    assert figures["depth_block"]["well_formed"] == 1.0
    assert figures["depth_block"]["count"] == 4
    assert figures["referring"]["count"] == sum(
        turn.task == "referring" for n in range(4) for turn in dataset.turns(n)
    )
    assert seen[-1][0] == seen[-1][1]


def test_the_given_codes_are_those_of_the_sample_and_of_the_one_before_it(dataset, monkeypatch):
    """What is written into the blocks, sample by sample; before the first comes the last."""
    model, given = model_of(), []
    monkeypatch.setattr(
        asking,
        "generate",
        lambda *rest, given_codes, vision: (
            given.append(given_codes) or generate(*rest, given_codes=given_codes, vision=vision)
        ),
    )
    Evaluation(model, dataset, limit=3).run()
    maps = [resize_maps(from_map(dataset.depth(n), METRIC), (16, 16)) for n in range(3)]
    codes_nL = model.eval().stream("depth").tokenizer.encode(torch.cat(maps))
    per_sample = [sum(turn.task == "relative_depth" for turn in dataset.turns(n)) for n in range(3)]
    true, other = (codes["depth"] for codes in given if codes)
    counts = torch.tensor(per_sample)
    assert torch.equal(true, codes_nL.repeat_interleave(counts, 0))
    assert torch.equal(other, codes_nL.roll(1, 0).repeat_interleave(counts, 0))


def model_without_perception():
    return model_of(streams=(), heads={}, answer_format="direct", losses=small_recipe().losses[:1])


def test_a_model_without_perception_has_fewer_figures(dataset):
    figures = Evaluation(model_without_perception(), dataset).run()
    assert {"relative_depth", "attribute", "not_scored"} == figures.keys()
    assert figures["not_scored"].keys() == {"referring"}


def test_a_stream_whose_target_no_sample_has_is_named(dataset, monkeypatch):
    assert "without_target" not in Evaluation(model_of(), dataset, limit=1).run()
    monkeypatch.setattr(Sample, "has_target", lambda self, name: False)
    assert Evaluation(model_of(), dataset, limit=1).run()["without_target"] == ["depth"]


def test_nothing_to_evaluate_on_is_refused(dataset):
    with pytest.raises(DataError, match="nothing to evaluate on"):
        Evaluation(model_of(), dataset, limit=0)


def test_every_answer_is_handed_over_with_what_was_scored(dataset):
    answers = []
    figures = Evaluation(model_of(), dataset, on_answer=answers.append).run()
    turns = {
        (dataset.records[n].id, turn.task, turn.question, turn.points, turn.answer)
        for n in range(4)
        for turn in dataset.turns(n)
    }
    asked = {(one.sample, one.task, one.question, one.points, one.answer) for one in answers}
    assert asked == turns and {one.data for one in answers} == {str(dataset.root)}
    kept = {name: [one.scored[name] for one in answers if name in one.scored] for name in figures}
    right = [one["right"] for one in kept["relative_depth"]]
    assert wilson(sum(right), len(right)) == pytest.approx(tuple(figures["relative_depth"]["interval"]))
    blocks = [one for one in kept["depth_block"] if "absrel" in one]
    assert np.mean([one["absrel"] for one in blocks]) == pytest.approx(figures["depth_block"]["absrel"])
    above, below = (sum(one[part] for one in kept["referring"]) for part in ("intersection", "union"))
    assert above / below == pytest.approx(figures["referring"]["ciou"])


class Partly:
    """A folder in which some samples have no depth, and some questions are of a task that nobody knows."""

    def __init__(self, dataset, without_depth=()):
        self.dataset, self.without_depth, self.info = dataset, without_depth, dataset.info
        self.opened = []
        self.tasks = [tasks | {"chat"} for tasks in dataset.tasks]
        self.records = [
            attrs.evolve(dataset.records[n], depth=None) if n in without_depth else dataset.records[n]
            for n in range(len(dataset))
        ]

    def __len__(self):
        return len(self.dataset)

    def with_target(self, name):
        return np.flatnonzero([record.has_target(name) for record in self.records])

    def __getitem__(self, number):
        self.opened.append(number)
        sample = self.dataset[number]
        chat = Turn(question="What is this?", answer="a scene of spheres", task="chat")
        depth = None if number in self.without_depth else sample.depth
        return attrs.evolve(sample, turns=(*sample.turns, chat), depth=depth)

    def target(self, number, name):
        return self[number].target(name)

    def turns(self, number):
        return self[number].turns


def test_samples_without_depth_are_asked_about_and_counted_out_of_what_needs_it(dataset):
    figures = Evaluation(model_of(), Partly(dataset, without_depth={0, 2})).run()
    marked = [sum(turn.task == "relative_depth" for turn in dataset.turns(n)) for n in range(4)]
    assert figures["relative_depth"]["count"] == sum(marked)
    assert figures["oracle_codes"]["count"] == figures["shuffled_codes"]["count"] == marked[1] + marked[3]
    assert figures["depth_block"]["count"] == 2 and figures["depth_block"]["well_formed"] == 1.0
    nothing = Evaluation(model_of(), Partly(dataset, without_depth=range(4))).run()
    assert nothing["depth_block"]["count"] == 0 and "absrel" not in nothing["depth_block"]
    assert not {"oracle_codes", "shuffled_codes"} & nothing.keys()
    alone = Evaluation(model_of(), Partly(dataset, without_depth={1, 2, 3})).run()
    assert "shuffled_codes" not in alone and alone["oracle_codes"]["count"] == marked[0]


def test_questions_of_any_task_are_scored_by_their_words(dataset, monkeypatch):
    figures = Evaluation(model_of(), Partly(dataset)).run()
    assert figures["chat"]["exact_match"] == 0.0 and figures["chat"]["count"] == 4
    monkeypatch.setattr(WordsTokenizer, "decode", lambda self, ids: " A scene of spheres\n")
    assert Evaluation(model_of(), Partly(dataset)).run()["chat"]["exact_match"] == 1.0


def test_a_task_that_writes_its_turns_is_asked_where_it_is_trained_on(dataset):
    tasks, mixture = {"brightness": BrightnessConfig()}, {"relative_depth": 1.0, "brightness": 1.0}
    data = attrs.evolve(small_recipe().data, mixture=mixture)
    figures = Evaluation(model_of(tasks=tasks, data=data), dataset).run()
    assert figures["brightness"] == {
        "count": 4,
        "answers": [f"{float(dataset.image(n).mean()):.0%}" for n in range(4)],
    }
    assert "brightness" not in Evaluation(model_of(tasks=tasks), dataset, limit=1).run()


def test_what_a_model_cannot_answer_is_counted_by_task(dataset):
    model = model_of(streams=(small_recipe().stream("depth"),), losses=())
    figures = Evaluation(model, dataset).run()
    expressions = sum(turn.task == "referring" for n in range(4) for turn in dataset.turns(n))
    assert "referring" not in figures and figures["not_scored"] == {"referring": expressions}


def test_disparity_and_metres_are_compared_by_order_alone(dataset):
    """A tokenizer of relative depth on scenes in metres, and one of metres on relative depth."""
    relative = attrs.evolve(small_recipe().stream("depth").tokenizer, convention=DepthConvention())
    recipe = small_recipe().with_stream("depth", tokenizer=relative)
    block = Evaluation(build_model(recipe), dataset, limit=2).run()["depth_block"]
    assert block.keys() == {"ordinal", "count", "well_formed", "well_formed_free"} and block["count"] == 2

    class Disparity(Partly):
        info = None

        def __getitem__(self, number):
            sample = super().__getitem__(number)
            values_HW = 1 / sample.depth.values_HW
            return attrs.evolve(sample, depth=DepthMap(values_HW=values_HW, unit="disparity"))

    scenes = Disparity(dataset)
    scenes.info = attrs.evolve(dataset.info, depth_unit="disparity")
    figures = Evaluation(model_of(), scenes, limit=2).run()
    assert figures["depth_block"].keys() == block.keys()
    assert "oracle_codes" not in figures


def test_points_are_drawn_as_asking_draws_them(dataset, monkeypatch):
    model, shown = model_of(points="drawn"), []
    encode = model.encode_vision
    monkeypatch.setattr(model, "encode_vision", lambda images: shown.extend(images) or encode(images))
    Evaluation(model, dataset, limit=1).run()
    picture = dataset[0].image_3HW
    for turn in dataset.turns(0):
        expected = draw_marks(picture, turn.points) if turn.points else picture
        assert any(torch.equal(image, expected) for image in shown), turn.question


@pytest.mark.parametrize("drawn", [False, True])
def test_a_picture_is_encoded_once_whatever_is_asked_about_it(dataset, monkeypatch, drawn):
    """Three passes about marked points, maps and expressions; with drawn marks each set of them is a picture."""
    monkeypatch.setattr(asking, "BATCH_SIZE", 5)
    model, encoded = model_of(points="drawn") if drawn else model_of(), []
    encode = model.encode_vision
    monkeypatch.setattr(model, "encode_vision", lambda images: encoded.extend(images) or encode(images))
    Evaluation(model, dataset).run()
    marks = [{turn.points if drawn else () for turn in dataset.turns(n)} for n in range(4)]
    assert len(encoded) == sum(map(len, marks))


def test_questions_about_a_sample_stay_together_where_a_batch_holds_them(monkeypatch):
    monkeypatch.setattr(asking, "BATCH_SIZE", 4)
    waiting, made = [], []
    for new in ("aa", "bbb", "c", "dddddd", "e"):
        made += asking.batches(waiting, list(new))
    assert ["".join(one) for one in made] == ["aa", "bbbc", "dddd"] and waiting == ["d", "d", "e"]


def test_a_sample_is_read_once_and_few_are_held(dataset, monkeypatch):
    """Asked in batches of four, no more than the samples of one batch are alive at any time."""
    monkeypatch.setattr(asking, "BATCH_SIZE", 4)
    alive, most, partly = weakref.WeakSet(), 0, Partly(dataset)

    class Watched(Partly):
        def __len__(self):
            return 12

        def __getitem__(self, number):
            nonlocal most
            sample = partly[number % 4]
            alive.add(sample.image_3HW)
            most = max(most, len(alive))
            return sample

    watched = Watched(dataset)
    watched.tasks, watched.records = partly.tasks * 3, partly.records * 3
    Evaluation(model_without_perception(), watched).run()
    assert partly.opened == [0, 1, 2, 3] * 3
    assert most <= 6


def test_the_model_s_mode_is_left_alone(dataset):
    model = model_of().train()
    Evaluation(model, dataset, limit=1).run()
    assert model.training and model.language.training


def test_only_some_tasks_are_asked(dataset):
    figures = Evaluation(model_of(), dataset, limit=2, tasks=("referring",)).run()
    assert figures.keys() == {"referring"}
    whole = Evaluation(model_of(), dataset, limit=2).run()
    assert figures["referring"] == whole["referring"]
    with pytest.raises(DataError, match=r"Only counting is to be asked, and the data have .*referring"):
        Evaluation(model_of(), dataset, tasks=("counting",)).run()
