"""What `perceptio compare` and `perceptio power` print."""

import pytest
from experiment_folders import cell, experiment, figures_of

from perceptio.evaluation.answers import ANSWERS, ScoredAnswer, writing_answers


def evaluated(folder, **right):
    """A folder with answers: by figure a letter for each question, r for a right answer."""
    with writing_answers(folder / ANSWERS) as keep:
        for figure, letters in right.items():
            for number, letter in enumerate(letters):
                keep(
                    ScoredAnswer(
                        data="data/test",
                        sample=f"{number}",
                        task=figure,
                        question="Which?",
                        points=(),
                        answer="red",
                        reply="red" if letter == "r" else "blue",
                        scored={figure: {"right": letter == "r"} if letter in "rw" else {"error": 0.5}},
                    )
                )
    return folder


def test_two_evaluations_side_by_side(run, tmp_path):
    """Of 40 questions 2 are lost and 8 won: p = 2 (1 + 10 + 45) / 1024."""
    first = evaluated(tmp_path / "first", color="r" * 22 + "w" * 18, shape="rr", map="e")
    second = evaluated(tmp_path / "second", color="ww" + "r" * 28 + "w" * 10, shape="rr", map="e")
    status, out, _ = run("compare", first, second)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0 and lines[0] == "color, 40 questions"
    assert f"A: {first} 0.5500 0.3983 to 0.6929" in lines
    assert f"B: {second} 0.7000 0.5457 to 0.8193" in lines
    difference = next(line for line in lines if line.startswith("B - A +"))
    value, low, _, high = difference.removeprefix("B - A ").split()
    assert value == "+0.1500" and float(low) == pytest.approx(0, abs=0.03) and 0.2 < float(high) < 0.35
    said = "Discordant: 10 questions (25.0%); A alone is right in 2, B alone in 8. McNemar's exact test: p = 0.11."
    assert said in lines
    hint = (
        "How many questions would show such a difference: perceptio power --difference 15.0 --accuracy 55.0"
    )
    assert f"{hint} --discordant 25.0" in lines
    assert "shape, 2 questions" in lines and "B - A +0.0000 not known" in lines
    assert "No question is discordant: both are right, or both wrong, in each." in lines
    assert "map" not in out
    status, out, _ = run("compare", first, second, "--figure", "shape")
    assert status == 0 and "shape" in out and "color" not in out


def test_the_power_that_compare_suggests_is_a_table(run):
    status, out, _ = run("power", "--difference", "10", "--accuracy", "60", "--discordant", "25")
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0 and rows[:3] == [
        "questions power 80% power 90%",
        "each its own, for each model 356 477",
        "the same, 46% discordant, as of independent models 359 480",
    ]
    assert [row.split()[2] for row in rows[3:7]] == ["30%", "25%", "20%", "10%"]
    assert "the same, 20% discordant 155 206" in rows
    assert "accuracies of 60% and 70% to differ, with p below 0.05" in out


@pytest.mark.parametrize(
    ("second", "figure", "message"),
    [
        (
            {"color": "r"},
            (),
            "not asked the same questions of 'color': of 1 only the first was asked, such as",
        ),
        (
            {"shape": "rr"},
            (),
            "no figure in common whose answers are right or wrong: the one has color, the other shape",
        ),
        ({"map": "e"}, (), "are right or wrong: the one has color, the other none."),
        (
            {"color": "rr"},
            ("--figure", "map"),
            "'map' is not a figure whose answers are right or wrong in both",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(run, tmp_path, second, figure, message):
    first = evaluated(tmp_path / "first", color="rw", map="e")
    status, _, err = run("compare", first, evaluated(tmp_path / "second", **second), *figure)
    assert status == 2 and message in err and "Traceback" not in err


def test_several_seeds_of_two_models(run, tmp_path):
    """The same questions for both seeds, so that a question's seeds are drawn together."""
    a, b = (
        [evaluated(tmp_path / f"{name}{seed}", color=letters) for seed, letters in enumerate(of_seeds)]
        for name, of_seeds in (("a", ["rrww", "rwww"]), ("b", ["rrrw", "rrrw"]))
    )
    status, out, _ = run("compare", *a, "--with", b[0], "--with", b[1])
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0 and lines[0] == "color, 4 questions, 2 seeds"
    assert [line.partition(" ")[0] for line in lines[2:6]] == ["A:", "B:", "A:", "B:"]
    assert any(
        line.startswith("B - A +0.3750 +0.0000 to +0.7") or line.startswith("B - A +0.3750") for line in lines
    )
    assert (
        "Discordant: 2 questions (50.0%); A alone is right in 0, B alone in 2. McNemar's exact test: p = 0.5."
        in lines
    )
    assert "other seeds may differ by more" in out and "perceptio power" not in out
    status, _, err = run("compare", *a, "--with", b[0])
    assert (
        status == 2
        and "There are 2 evaluations of the one model and 1 of the other: name an experiment" in err
    )
    assert run("compare", *a, *b)[0] == 2


def test_an_experiment_is_compared_with_its_baseline(run, tmp_path, monkeypatch):
    cells = [cell(tmp_path, "base", seed, "rrwwrrww") for seed in (0, 1)]
    cells += [
        cell(tmp_path, "mine", 0, "rrrwrrrw"),
        cell(tmp_path, "mine", 1, status="failed", error="too hot"),
    ]
    monkeypatch.setattr("perceptio.experiments.results.read", lambda folder: experiment(*cells))
    status, out, _ = run("compare", tmp_path)
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0 and rows[0] == "colors, compared with base"
    assert any(row.startswith("mine 1 of 2 0.75 (0.41–0.93) +0.25 [+0.00, +0.") for row in rows), rows
    assert "mine color.accuracy 0 2 0 2 0.5" in rows
    assert "mine, seed 1: failed: too hot" in rows
    status, _, err = run("compare", tmp_path, "--figure", "shape")
    assert status == 2 and "No complete cell has the figure 'shape'" in err


def test_a_folder_without_an_experiment_is_said(run, tmp_path):
    status, _, err = run("compare", tmp_path)
    assert status == 2 and "holds no experiment" in err


def test_figures_of_an_experiment_keep_their_whole_names(run, tmp_path, monkeypatch):
    """However many there are: a terminal has 80 characters a line."""
    names = [f"relative_depth_of_the_{end}" for end in ("first", "second", "third")]
    scores = {"accuracy": 0.5, "count": 2, "interval": [0.1, 0.9]}
    found = figures_of("rw", **dict.fromkeys(names, scores))
    cells = [cell(tmp_path, variant, 0, "rw", figures=found) for variant in ("base", "mine")]
    monkeypatch.setattr("perceptio.experiments.results.read", lambda folder: experiment(*cells))
    status, out, _ = run("compare", tmp_path, columns=80)
    said = " ".join(out.split())
    assert status == 0 and all(f"{name}.accuracy variant seeds accuracy" in said for name in names), out
