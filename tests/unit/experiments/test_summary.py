"""What an experiment's cells come to, by hand."""

import attrs
import pytest
from experiment_folders import cell, experiment, figures_of

from perceptio.errors import InputError
from perceptio.evaluation.answers import ANSWERS
from perceptio.experiments.figures import chosen, flat
from perceptio.experiments.summary import summarize
from perceptio.ops.intervals import student_t, wilson


def by_name(summary):
    return {one.name: one for one in summary.variants}


def test_three_seeds_by_hand(tmp_path):
    base = [cell(tmp_path, "base", seed, letters) for seed, letters in enumerate(["rrrw", "rrww", "rrrw"])]
    mine = [cell(tmp_path, "mine", seed, letters) for seed, letters in enumerate(["rrrr", "rrrr", "wrrr"])]
    summary = summarize(experiment(*base, *mine))
    assert summary.figures == ("color.accuracy",) and summary.notes == () and summary.unfinished == ()
    found = by_name(summary)
    own = found["base"].figures["color.accuracy"]
    assert own.by_seed == {0: 0.75, 1: 0.5, 2: 0.75} and own.value == pytest.approx(2 / 3)
    assert own.over == "seeds" and own.interval == pytest.approx(student_t([0.75, 0.5, 0.75]))
    assert found["base"].differences == {} and found["base"].complete == 3
    difference = found["mine"].differences["color.accuracy"]
    assert difference.by_seed == {0: 0.25, 1: 0.5, 2: 0.0} and difference.value == pytest.approx(0.25)
    assert difference.over_seeds == pytest.approx(student_t([0.25, 0.5, 0.0]))
    assert {s: (one.first_alone, one.second_alone) for s, one in difference.pairs.items()} == {
        0: (0, 1),
        1: (0, 2),
        2: (1, 1),
    }
    assert difference.p is None
    # Over seeds the questions' mean differences are -1/3, 0, 1/3 and 1: drawn four at a time.
    low, high = difference.of_questions
    assert -1 / 3 <= low < 0.25 < high <= 1
    assert (found["mine"].seconds, found["mine"].parameters) == (60.0, 1000)


def test_one_seed_has_the_interval_of_its_questions_and_mcnemars_test(tmp_path):
    cells = cell(tmp_path, "base", 7, "rrwwwwww"), cell(tmp_path, "mine", 7, "rrrrrrww")
    found = by_name(summarize(experiment(*cells)))
    own, difference = found["mine"].figures["color.accuracy"], found["mine"].differences["color.accuracy"]
    assert own.over == "questions" and own.interval == pytest.approx(wilson(6, 8))
    assert difference.over_seeds is None and difference.value == 0.5
    assert difference.p == pytest.approx(2 / 2**4)


def test_answers_that_are_all_alike_have_no_interval(tmp_path):
    cells = [cell(tmp_path, name, seed, "rrw") for name in ("base", "mine") for seed in (0, 1)]
    difference = by_name(summarize(experiment(*cells)))["mine"].differences["color.accuracy"]
    assert (difference.value, difference.of_questions, difference.over_seeds) == (0, None, None)
    assert [one.discordant for one in difference.pairs.values()] == [0, 0]


def test_a_mean_over_numbers_of_points_is_compared_as_such(tmp_path):
    """Two questions of three points and one of five: (1/2 + 1) / 2 against (1 + 0) / 2."""
    found = []
    for name, letters, mean in (("base", "rwr", 0.75), ("mine", "rrw", 0.5)):
        interval = list(wilson(2, 3))
        figures = {"color": {"3": 0.5, "5": 1.0, "mean": mean, "interval": interval, "count": 3}}
        found.append(cell(tmp_path, name, 0, letters, points=(3, 3, 5), figures=figures))
    difference = by_name(summarize(experiment(*found)))["mine"].differences["color.mean"]
    assert difference.value == pytest.approx(-0.25) and difference.pairs[0].second_right == 2
    assert difference.of_questions == pytest.approx((-0.5, 0))  # The one of five is always lost.


def test_figures_that_answers_do_not_come_to_are_not_compared(tmp_path):
    base, mine = (cell(tmp_path, name, 0, letters) for name, letters in (("base", "rrww"), ("mine", "rrrw")))
    stale = attrs.evolve(mine, figures=figures_of("rrrr"))
    summary = summarize(experiment(base, stale))
    assert by_name(summary)["mine"].differences == {}
    assert "mine, seed 0: left out of the difference of color.accuracy to base." in summary.notes[0]
    assert "The answers do not come to this figure" in summary.notes[0]


def test_figures_that_are_not_right_or_wrong_are_compared_over_seeds(tmp_path):
    def with_iou(variant, seed, iou):
        masks = {"ciou": iou, "ciou_interval": [iou - 0.1, iou + 0.1], "missing": 1, "count": 9}
        return cell(tmp_path, variant, seed, "rw", figures=figures_of("rw", referring=masks))

    cells = [
        with_iou(name, seed, start + 0.1 * seed * step)
        for name, start, step in (("base", 0.3, 1), ("mine", 0.5, 2))
        for seed in range(2)
    ]
    summary = summarize(experiment(*cells), ["referring.*", "color"])
    assert summary.figures == ("referring.ciou", "referring.missing", "referring.count", "color.accuracy")
    difference = by_name(summary)["mine"].differences["referring.ciou"]
    assert difference.by_seed == pytest.approx({0: 0.2, 1: 0.3}) and difference.value == pytest.approx(0.25)
    assert difference.of_questions is None and difference.pairs == {}
    assert difference.over_seeds == pytest.approx(student_t([0.2, 0.3]))


def test_figures_that_only_some_cells_have_are_named(tmp_path):
    masks = {"ciou": 0.5, "ciou_interval": [0.4, 0.6]}
    mine = cell(tmp_path, "mine", 0, "rw", figures=figures_of("rw", referring=masks))
    summary = summarize(experiment(cell(tmp_path, "base", 0, "rw"), mine))
    assert summary.figures == ("color.accuracy",)
    said = "Not shown, as not every cell has them: referring.ciou; name them with --figures."
    assert summary.notes == (said,)


def test_what_cannot_be_compared_is_said(tmp_path):
    cells = [
        *(cell(tmp_path, "base", seed, "rrww") for seed in (0, 1, 2)),
        cell(tmp_path, "mine", 0, "rrrw"),
        cell(tmp_path, "mine", 1, "rrrww"),
        cell(tmp_path, "mine", 2, status="failed", error="OutOfMemory"),
        cell(tmp_path, "mine", 3, "rrrr"),
        cell(tmp_path, "late", 0),
    ]
    summary = summarize(experiment(*cells))
    assert by_name(summary)["mine"].differences["color.accuracy"].by_seed == {0: 0.25}
    assert by_name(summary)["late"].figures == {}
    assert [(one.variant, one.seed, one.status) for one in summary.unfinished] == [
        ("mine", 2, "failed"),
        ("late", 0, "waiting"),
    ]
    partner = "base has no complete cell of seed 3, which mine has"
    assert f"{partner}: the difference of mine to base is over the others." in summary.notes
    assert "mine has no complete cell of seed 2, which base has" in " ".join(summary.notes)
    [other] = [note for note in summary.notes if "not asked the same questions" in note]
    assert other.startswith("mine, seed 1: left out of the difference of color.accuracy to base.")


def test_variants_without_a_common_seed(tmp_path):
    seeds = [("base", 0), ("base", 1), ("mine", 2)]
    summary = summarize(experiment(*(cell(tmp_path, name, seed, "rw") for name, seed in seeds)))
    assert by_name(summary)["mine"].differences == {}
    end = "the difference of mine to base is not known."
    assert summary.notes == (
        f"base has no complete cell of seed 2, which mine has: {end}",
        f"mine has no complete cell of seeds 0, 1, which base has: {end}",
    )


def test_answers_that_are_gone_are_said(tmp_path):
    cells = [cell(tmp_path, name, seed, "rw") for name in ("base", "mine") for seed in (0, 1)]
    cells[3].answers.unlink()
    summary = summarize(experiment(*cells))
    assert by_name(summary)["mine"].differences["color.accuracy"].by_seed == {0: 0.0}
    assert f"mine, seed 1: left out of paired differences. {cells[3].answers.parent} has no {ANSWERS}" in str(
        summary.notes
    )


def test_without_the_baseline_there_are_no_differences(tmp_path):
    summary = summarize(experiment(cell(tmp_path, "base", 0), cell(tmp_path, "mine", 0, "rw")))
    assert by_name(summary)["mine"].differences == {}
    assert "The baseline base has no complete cell, so there are no differences to it." in summary.notes
    nothing = summarize(experiment(cell(tmp_path, "base", 1)))
    assert nothing.figures == () and len(nothing.unfinished) == 1


RELATIVE = {"3": 0.5, "4": 0.7, "mean": 0.6, "interval": [0.5, 0.7], "count": 90, "unparsed": 0}
CONTROL = {"accuracy": 0.3, "interval": [0.2, 0.4], "difference": -0.3, "difference_interval": [-0.4, -0.2]}
MAP = {
    "correlation": 0.9,
    "correlation_interval": [0.8, 1.0],
    "absolute_error": None,
    "count": 10,
    "missing": 0,
}


def test_figures_by_their_paths():
    found = flat(
        {
            "relative_depth": RELATIVE,
            "edges_map": MAP,
            "controls": {"relative_depth": {"depth": {"random": CONTROL}}},
        }
    )
    assert found["relative_depth.mean"].interval == (0.5, 0.7) and found["relative_depth.3"].interval is None
    assert (
        found["relative_depth.mean"].answers == "relative_depth" and found["relative_depth.4"].answers is None
    )
    assert found["edges_map.correlation"].interval == (0.8, 1.0)
    assert found["edges_map.correlation"].answers is None and "edges_map.absolute_error" not in found
    control = found["controls.relative_depth.depth.random.accuracy"]
    assert control.answers == "controls.relative_depth.depth.random" and control.interval == (0.2, 0.4)
    # Each folder's, where there are several.
    several = flat({"data/a": {"color": figures_of("rw")["color"]}, "data/b": {}})
    assert several["data/a.color.accuracy"].answers == "data/a.color"


def test_which_figures_are_shown():
    whole = flat(
        {"edges_map": MAP, "relative_depth": RELATIVE, "controls": {"t": {"s": {"random": CONTROL}}}}
    )
    part = flat({"relative_depth": RELATIVE})
    assert chosen([whole], None) == ["relative_depth.mean", "edges_map.correlation"]
    assert chosen([whole, part], None) == ["relative_depth.mean"]
    assert chosen([part], ["relative_depth.?", "relative_depth"]) == [
        "relative_depth.3",
        "relative_depth.4",
        "relative_depth.mean",
    ]
    with pytest.raises(InputError, match="No complete cell has the figure 'relative_deth'; did you mean"):
        chosen([part], ["relative_deth"])


def test_seeds_that_agree_exactly_have_no_interval(tmp_path):
    found = summarize(experiment(*(cell(tmp_path, "base", seed, "rrwr") for seed in (0, 1))))
    estimate = found.variants[0].figures["color.accuracy"]
    assert (estimate.value, estimate.interval, estimate.over) == (0.75, None, None)
