"""Controls on a random model: what is put in place of what it wrote, which questions count, and against what."""

import attrs
import pytest
import torch
from colors import COLORS, FED_BACK
from fakes import FakeDepthConfig, tiny_recipe
from small import scenes_folder, small_recipe

from perceptio.backbones.language.words import WordsTokenizer
from perceptio.data.folder import FolderDataset
from perceptio.data.scenes import Split
from perceptio.errors import InputError
from perceptio.evaluation import asking, controls
from perceptio.evaluation.controls import ControlledAnswers
from perceptio.evaluation.evaluation import Evaluation
from perceptio.evaluation.replacements import CONTROLS, Replacements, controls_named
from perceptio.evaluation.shortcuts import shortcuts
from perceptio.interfaces import Sample
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import build_model
from perceptio.recipe import Stream
from perceptio.tasks.plain import AttributeTaskConfig, PlainQuestions

OF_CODES = ("self", "oracle", "another", "random", "resampled", "first_repeated", "markers_only")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return FolderDataset(scenes_folder(tmp_path_factory.mktemp("data") / "test", count=4, split=Split.TEST))


def model_of(recipe):
    torch.manual_seed(0)
    model = build_model(recipe).eval()
    with torch.no_grad():  # Random rows are small: larger ones make every choice clear of rounding.
        for parameter in model.language.parameters():
            parameter.mul_(1.5)
    return model


@pytest.fixture(scope="module", autouse=True)
def letters():
    """Whatever words a random model says are one of three letters, so that some of its answers are right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WordsTokenizer, "decode", lambda self, ids: f"({'ABC'[sum(ids) % 3]})")
        yield


@pytest.fixture(scope="module")
def of_codes():
    return model_of(small_recipe().with_stream("depth", tokenizer=FakeDepthConfig()))


@pytest.fixture(scope="module")
def figures(of_codes, dataset):
    return Evaluation(of_codes, dataset, controls=CONTROLS).run()


def marked(dataset):
    return [turn for n in range(len(dataset)) for turn in dataset.turns(n) if turn.task == "relative_depth"]


def test_a_model_s_own_codes_change_nothing_and_all_controls_are_over_the_same_questions(figures, dataset):
    found = figures["controls"]["relative_depth"]["depth"]
    assert tuple(found) == OF_CODES
    assert {one["count"] for one in found.values()} == {len(marked(dataset))}
    own = found["self"]
    assert (own["unchanged"], own["difference"], own["difference_interval"]) == (1.0, 0.0, [0.0, 0.0])
    assert own["accuracy"] == pytest.approx(figures["relative_depth"]["mean"])
    assert own["interval"] == figures["relative_depth"]["interval"]
    assert len({one["accuracy"] for one in found.values()}) > 2
    for one in found.values():
        assert one["difference"] == pytest.approx(one["accuracy"] - own["accuracy"])
        low, high = one["difference_interval"]
        assert low <= one["difference"] <= high


def test_true_and_other_codes_are_those_that_are_always_asked(figures, of_codes, dataset):
    found = figures["controls"]["relative_depth"]["depth"]
    assert found["oracle"]["accuracy"] == pytest.approx(figures["oracle_codes"]["mean"])
    assert found["another"]["accuracy"] == pytest.approx(figures["shuffled_codes"]["mean"])
    without = Evaluation(of_codes, dataset).run()
    assert without == {name: figures[name] for name in without} and "controls" not in without


def test_shortcuts_stand_beside_and_are_of_the_same_samples(figures, of_codes, dataset):
    assert figures["shortcuts"] == {"relative_depth": shortcuts(dataset)}
    two = Evaluation(of_codes, dataset, limit=2, controls=("self",)).run()
    assert two["shortcuts"] == {"relative_depth": shortcuts(dataset, limit=2)} != figures["shortcuts"]


def given_to(model, dataset, monkeypatch, *names):
    """What is given for depth, by the controls in order, and the model's own codes."""
    given, own = [], []

    def noted(*rest, given_codes, **more):
        given.append(given_codes["depth"])
        return generate(*rest, given_codes=given_codes, **more)

    def written(*rest, given_codes, **more):
        made = generate(*rest, given_codes=given_codes, **more)
        if not given_codes:
            own.append(made.streams["depth"].codes_BOL[:, 0])
        return made

    monkeypatch.setattr(controls, "generate", noted)
    monkeypatch.setattr(asking, "generate", written)
    Evaluation(model, dataset, controls=names).run()
    return given, own


def test_what_takes_the_place_of_codes(of_codes, dataset, monkeypatch):
    given, own = given_to(of_codes, dataset, monkeypatch, *OF_CODES)
    by_name = dict(zip(OF_CODES, given, strict=True))
    own_BL = next(codes_BL for codes_BL in own if torch.equal(codes_BL, by_name["self"]))
    assert torch.equal(by_name["first_repeated"], own_BL[:, :1].expand(-1, 16))
    assert by_name["markers_only"].shape == (len(own_BL), 0)
    assert by_name["random"].unique().tolist() == list(range(8))
    true_BL = by_name["oracle"]
    assert not torch.equal(true_BL, by_name["another"])
    for place in range(16):  # As the data have it: a code that some sample has at that place.
        assert set(by_name["resampled"][:, place].tolist()) <= set(true_BL[:, place].tolist())
    assert not any(torch.equal(codes_L, true_L) for codes_L in by_name["resampled"] for true_L in true_BL)

    (alone,), _ = given_to(of_codes, dataset, monkeypatch, "random")
    assert torch.equal(alone, by_name["random"]), "A control's draws depend on which others are asked."


def test_samples_without_a_target_have_no_true_codes_and_count_for_the_others(of_codes, dataset, monkeypatch):
    has_target = Sample.has_target
    monkeypatch.setattr(Sample, "has_target", lambda self, name: name != "depth" and has_target(self, name))
    found = Evaluation(of_codes, dataset, controls=CONTROLS).run()["controls"]["relative_depth"]["depth"]
    assert not {"oracle", "another"} & found.keys()
    assert found["self"]["count"] == len(marked(dataset))


@pytest.mark.parametrize(
    ("colors", "names"),
    [
        (COLORS, ("self", "random", "zero")),
        (FED_BACK, ("self", "another", "random", "first_repeated", "zero")),
    ],
)
def test_special_tokens_have_the_controls_that_mean_something(colors, names, dataset, monkeypatch):
    """Plain ones have the same embeddings before every image, and are all the same here."""
    streams = (colors, Stream(name="depth", tokenizer=FakeDepthConfig(), codes_per_step=4))
    tasks = {"attribute": AttributeTaskConfig(may_perceive=True)}
    model = model_of(tiny_recipe(streams=streams, losses=(), tasks=tasks))
    settings = PlainQuestions.settings
    monkeypatch.setattr(
        PlainQuestions,
        "settings",
        lambda self, questions: attrs.evolve(settings(self, questions), force=self.streams),
    )
    found = Evaluation(model, dataset, limit=2, controls=CONTROLS).run()["controls"]["attribute"]
    assert tuple(found["colors"]) == names and tuple(found["depth"]) == OF_CODES
    asked = sum(turn.task == "attribute" for n in range(2) for turn in dataset.turns(n))
    assert all(one["count"] == asked for stream in found.values() for one in stream.values())
    assert found["colors"]["self"]["unchanged"] == found["depth"]["self"]["unchanged"] == 1.0
    assert found["colors"]["zero"]["unchanged"] < 1.0


def test_a_stream_that_was_not_written_is_not_replaced(dataset):
    """A random model never chooses to write before an answer; nothing is forced there."""
    tasks = {"attribute": AttributeTaskConfig(may_perceive=True)}
    model = model_of(tiny_recipe(streams=(COLORS,), losses=(), answer_format="direct", tasks=tasks))
    found = Evaluation(model, dataset, limit=1, controls=CONTROLS).run()
    assert found["controls"] == {}


def test_another_is_the_sample_before_and_never_its_own(of_codes, dataset):
    """Over batches, one of which may begin with the sample that the one before ended with."""
    made = Replacements(of_codes, "depth", dataset, 4)
    a, b, c = (Sample(turns=()) for _ in range(3))

    def others(*samples):
        rows = {row: torch.tensor("abc".index("abc"[[a, b, c].index(s)])) for row, s in enumerate(samples)}
        return {row: "abc"[int(value)] for row, value in made._of_others(rows, samples).items()}

    assert others(a, a) == {}
    assert others(a, b, b, c) == {0: "c", 1: "a", 2: "a", 3: "b"}
    assert others(c, c) == {0: "b", 1: "b"}
    assert others(a) == {0: "c"}
    assert others(b, c) == {0: "a", 1: "b"}


def test_figures_by_hand():
    answers = ControlledAnswers(
        points=[3, 4, 4, 4],
        right=[True, False, True, False],
        own_right=[True, True, True, False],
        same=[True, False, True, False],
    )
    found = answers.compute()
    assert found["accuracy"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["difference"] == pytest.approx((0 - 1 / 3) / 2)
    assert (found["count"], found["unchanged"], found["difference_interval"][1]) == (4, 0.5, 0.0)


def test_controls_are_named_in_order_and_once():
    assert controls_named("random, oracle,random") == ("oracle", "random")
    assert controls_named("all") == tuple(CONTROLS)
    with pytest.raises(
        InputError, match=r"There is no control 'orakel'; did you mean 'oracle'\? There is: all,"
    ):
        controls_named("orakel")
