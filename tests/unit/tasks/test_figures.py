"""What tasks ask and score, by hand."""

import math

import attrs
import numpy as np
import pytest
import torch

from perceptio.errors import DataError
from perceptio.interfaces import Case, DepthConvention, DepthMap, Question, Reply, Sample, TaskData, Turn
from perceptio.ops.letters import parse_letter
from perceptio.tasks.maps import MapTaskConfig
from perceptio.tasks.plain import PlainTaskConfig
from perceptio.tasks.referring import ReferringTaskConfig
from perceptio.tasks.relative_depth import RelativeDepthTaskConfig
from perceptio.tasks.stream_figures import StreamFigures
from perceptio.testing.component import MODEL

MARKED = Turn(question="Closest?", answer="(B)", task="points", points=((0.1, 0.1), (0.9, 0.9)))
METRIC = attrs.evolve(MODEL.streams["depth"].tokenizer, convention=DepthConvention(near_m=1.0, far_m=16.0))


def data(perceives=("depth",), unit="metres", **streams):
    model = attrs.evolve(MODEL, streams={**MODEL.streams, **streams})
    return TaskData(model=model, perceives=perceives, units={"depth": unit}, text=None)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("Point C is the closest.", "C"),
        ("point C is closest to the camera", "C"),
        ("The answer is D.", "D"),
        (" E ", "E"),
        ("I do not know", ""),
        ("", ""),
    ],
)
def test_a_letter_is_read_from_an_answer(text, letter):
    assert parse_letter(text) == letter


def test_means_are_over_what_was_written_and_the_rest_is_counted():
    figures = StreamFigures()
    figures.update({"iou": (0.5, 1.0)}, expected=3)
    figures.update({}, expected=1)
    figures.update({"iou": (math.nan,)}, expected=1)
    assert figures.compute() == {"iou": 0.75, "iou_interval": [0.5, 1.0], "count": 5, "missing": 2}
    assert StreamFigures().compute() == {"count": 0, "missing": 0}


def test_relative_depth_is_answered_from_what_is_perceived():
    task = RelativeDepthTaskConfig().build(MODEL)
    alone = task.passes("points", data(perceives=()))
    assert [one.settings([]).streams for one in alone] == [()]
    passes = task.passes("points", data(perceives=("depth", "edges")))
    both = ("depth", "edges")
    assert [one.settings([]).streams for one in passes] == [both] * 4
    assert [one.settings([]).force for one in passes] == [both, (), both, both]
    assert [one.gives for one in passes] == [(), (), ("depth",), ("depth",)]
    assert len(RelativeDepthTaskConfig(stream="normals").build(MODEL).passes("points", data())) == 1


def test_codes_are_given_where_the_data_s_depth_can_be_written():
    task = RelativeDepthTaskConfig().build(MODEL)
    metric = attrs.evolve(MODEL.streams["depth"], tokenizer=METRIC)
    assert len(task.passes("points", data(depth=metric))) == 4
    assert len(task.passes("points", data(depth=metric, unit="disparity"))) == 2
    given = task.passes("points", data())[2]
    sample = Sample(turns=(MARKED,), image_3HW=torch.zeros(3, 4, 4))
    (question,) = given.questions(Case(sample=sample, true_codes={"depth": torch.ones(4)}))
    assert question.codes["depth"].tolist() == [1.0] * 4
    assert list(given.questions(Case(sample=sample))) == []


def test_the_map_is_read_at_the_points_whatever_the_answer_says():
    (one, *_) = RelativeDepthTaskConfig().build(MODEL).passes("points", data())
    near_last_HW = np.array([[4.0, 3.0], [2.0, 1.0]], dtype=np.float32)
    depth = DepthMap(values_HW=near_last_HW, unit="metres")
    question = Question(sample=Sample(turns=(MARKED,), depth=depth), turn=MARKED)
    one.asked = 2
    kept = one.score(Reply(question=question, text="(A)", decoded={"depth": depth}))
    assert kept == {
        "points": {"right": False, "letter": "A"},
        "points_readout": {"right": True, "letter": "B"},
        "depth_block": {"ordinal": 1.0, "well_formed": True},
    }
    kept = one.score(Reply(question=question, text="(B)", decoded={"depth": None}))
    assert kept["points_readout"]["letter"] == "" and kept["depth_block"] == {"well_formed": False}
    figures = one.figures()
    assert figures["points"]["mean"] == 0.5 and figures["points"]["2"] == 0.5
    assert figures["points_readout"]["mean"] == 0.5 and figures["points_readout"]["unparsed"] == 1
    assert figures["depth_block"]["well_formed"] == 0.5 and figures["depth_block"]["count"] == 1


def test_what_levels_say_is_scored_beside_the_answer():
    """Of two equally near points the first is named, and naming the other follows, too."""
    model = attrs.evolve(MODEL, levels_of="depth")
    (one,) = (
        RelativeDepthTaskConfig().build(model).passes("points", attrs.evolve(data(perceives=()), model=model))
    )
    question = Question(sample=Sample(turns=(MARKED,)), turn=MARKED)
    one.asked = 4
    expected = [
        ("(B)", (3, 1), {"right": False, "letter": "A", "followed": False, "levels": [3, 1]}),
        ("(B)", (2, 2), {"right": False, "letter": "A", "followed": True, "levels": [2, 2]}),
        ("(B)", (0, 5), {"right": True, "letter": "B", "followed": True, "levels": [0, 5]}),
        ("(B)", (-1, -1), {"right": False, "letter": "", "followed": False, "levels": [-1, -1]}),
    ]
    for text, readout, kept in expected:
        assert one.score(Reply(question=question, text=text, readout=readout))["points_values"] == kept
    values = one.figures()["points_values"]
    assert (values["2"], values["mean"], values["followed"]) == (0.25, 0.25, 0.5)
    assert (values["unparsed"], values["count"]) == (1, 4)
    of_others = attrs.evolve(MODEL, levels_of="edges")
    (plain,) = (
        RelativeDepthTaskConfig()
        .build(of_others)
        .passes("points", attrs.evolve(data(perceives=()), model=of_others))
    )
    assert set(plain.score(Reply(question=question, text="(B)", readout=(0, 1)))) == {"points"}


def test_what_is_written_of_objects_is_scored_stream_by_stream():
    task = ReferringTaskConfig().build(MODEL)
    specs = MODEL.streams["segmentation"]
    spec = attrs.evolve(specs.spec, shows_masks=False)
    box = attrs.evolve(specs, tokenizer=attrs.evolve(MODEL.streams["edges"].tokenizer, stream=spec))
    (one,) = task.passes("said", data(box=box))
    assert (one.decodes, one.compares) == (("segmentation",), ("box",))
    whole_HW = np.ones((2, 2), dtype=bool)
    turn = Turn(question="That", answer="Sure", task="said", masks=(whole_HW, whole_HW))
    question = Question(sample=Sample(turns=(turn,), image_3HW=torch.zeros(3, 2, 2)), turn=turn)
    half_HW = np.array([[True, True], [False, False]])
    kept = one.score(
        Reply(
            question=question,
            text="Sure",
            decoded={"segmentation": (half_HW, None)},
            compared={"box": {"iou": (0.25,)}},
        )
    )
    assert kept == {
        "said": {"intersection": 2, "union": 4, "missing": False},
        "said_box": {"iou": [0.25], "missing": 1},
    }
    figures = one.figures()
    assert figures["said"]["ciou"] == 0.5 and figures["said"]["missing"] == 0
    assert figures["said_box"] == {"iou": 0.25, "iou_interval": [0.25, 0.25], "count": 2, "missing": 1}
    without = attrs.evolve(MODEL, streams={"depth": MODEL.streams["depth"]})
    assert task.passes("said", attrs.evolve(data(), model=without)) == []


def test_a_map_is_asked_for_where_its_truth_is_known():
    task = MapTaskConfig(stream="edges", question="Where are edges?").build(MODEL)
    assert task.own_turn("edges_map", Sample(turns=())).answer == "Done."
    (one,) = task.passes("edges_map", data())
    known = Sample(turns=(), maps={"edges": np.zeros((2, 2, 1), dtype=np.float32)})
    (question,) = one.questions(Case(sample=known))
    assert (question.turn.question, question.turn.task) == ("Where are edges?", "edges_map")
    assert list(one.questions(Case(sample=Sample(turns=())))) == []
    assert MapTaskConfig(stream="normals").build(MODEL).passes("normals_map", data()) == []
    assert MapTaskConfig(stream="segmentation").build(MODEL).passes("it", data()) == []
    words = MapTaskConfig(stream="surface_normals").build(MODEL).own_turn("it", Sample(turns=())).question
    assert words == "What is the surface normals map of this image?"


def test_a_plain_question_may_be_answered_after_perceiving():
    at_once, after = (
        PlainTaskConfig(may_perceive=may).build(MODEL).passes("chat", data(perceives=("depth",)))[0]
        for may in (False, True)
    )
    assert (at_once.streams, after.streams) == ((), ("depth",))


@pytest.mark.parametrize(
    ("answer", "points", "message"),
    [
        ("(B)", (), "a points turn needs points"),
        ("B", MARKED.points, "the answer 'B' of a points turn is not a letter in parentheses"),
        ("(C)", MARKED.points, r"the answer is \(C\), and its 2 points end with \(B\)"),
    ],
)
def test_points_of_a_wrong_answer_are_not_shuffled(answer, points, message):
    turn = attrs.evolve(MARKED, answer=answer, points=points)
    with pytest.raises(DataError, match=f"The question 'Closest\\?' cannot be shuffled: {message}"):
        RelativeDepthTaskConfig().build(MODEL).with_points_shuffled(turn, np.random.default_rng(0))
