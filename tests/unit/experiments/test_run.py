import json
import shutil
from pathlib import Path

import attrs
import pytest

from perceptio.errors import DataError, InputError, RecipeError
from perceptio.evaluation.answers import read_answers
from perceptio.experiments import run
from perceptio.experiments.display import Lines
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.grid import grid
from perceptio.experiments.job import Job, work_named
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.local import LocalLauncher
from perceptio.experiments.results import ExperimentResult, read, read_document
from perceptio.experiments.run import prepare
from perceptio.recipe import Recipe
from perceptio.training.trainer import train

OF_THE_MACHINE = ("seconds_per_step", "peak_resident_gib")


def fingerprints(
    experiment: Experiment, out: Path, seeds: tuple[int, ...] = (0,), **given: object
) -> list[str]:
    return [cell.fingerprint for cell in prepare(experiment, out=out, seeds=seeds, **given).document.cells]


def renamed(experiment: Experiment, **names: str) -> Experiment:
    variants = {names.get(name, name): recipe for name, recipe in experiment.variants.items()}
    return attrs.evolve(
        experiment, baseline=names.get(experiment.baseline, experiment.baseline), variants=variants
    )


@pytest.fixture
def run_now(launcher: LocalLauncher):
    def now(
        experiment: Experiment, out: Path, seeds: tuple[int, ...] = (0,), **given: object
    ) -> ExperimentResult:
        return prepare(experiment, out=out, seeds=seeds, **given).start(launcher, Lines())

    return now


def test_cells_are_trained_and_evaluated_once_and_give_the_same_numbers_anywhere(
    experiment, run_now, start, tmp_path: Path
) -> None:
    first = run_now(experiment, tmp_path / "first")
    assert start.kinds == ["tokenizer", "cell", "evaluation", "cell", "evaluation"]
    assert [(cell.variant, cell.seed, cell.status) for cell in first.cells] == [
        ("slow", 0, "complete"),
        ("fast", 0, "complete"),
    ]
    assert first.cells[0].parameters > 1000 and first.cells[0].seconds > 0
    start.done.clear()
    assert run_now(experiment, tmp_path / "first") == first and start.done == []
    second = run_now(experiment, tmp_path / "second")
    for one, other in zip(first.cells, second.cells, strict=True):
        assert one.figures == other.figures and one.fingerprint == other.fingerprint
        assert read_answers(one.answers.parent) == read_answers(other.answers.parent)
        curves = [
            [json.loads(line) for line in (cell.folder / "metrics.jsonl").read_text().splitlines()]
            for cell in (one, other)
        ]
        for lines in zip(*curves, strict=True):
            was, now = ({k: v for k, v in line.items() if k not in OF_THE_MACHINE} for line in lines)
            assert was == now
    assert (
        len(curves[0]) == 4
        and len({(cell.folder / "metrics.jsonl").read_text() for cell in first.cells}) == 2
    )
    # What is renamed, or lies in another experiment that shares the cache, is the same cell.
    start.done.clear()
    again = run_now(renamed(experiment, slow="base"), tmp_path / "third", cache=tmp_path / "first")
    assert start.done == [] and again.variants == ("base", "fast")
    assert [cell.figures for cell in again.cells] == [cell.figures for cell in first.cells]


def test_a_cell_is_what_perceptio_train_makes_of_its_recipe(
    experiment, base, run_now, tmp_path: Path
) -> None:
    alone = attrs.evolve(experiment, variants={"slow": base})
    (cell,) = run_now(alone, tmp_path / "out").cells
    train(base, tmp_path / "run")
    last = [
        json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["loss"]
        for folder in (cell.folder, tmp_path / "run")
    ]
    assert last[0] == last[1]


def test_what_was_stopped_goes_on(experiment, base, run_now, start, tmp_path: Path) -> None:
    alone = attrs.evolve(experiment, variants={"slow": base})

    def stop(job: Job, done: int) -> None:
        if job.stage == "training" and done == 3:
            raise KeyboardInterrupt

    start.on_report = stop
    (cut,) = run_now(alone, tmp_path / "cut").cells
    assert cut.status == "stopped" and start.kinds == ["tokenizer", "cell"]
    start.on_report = lambda job, done: None
    (whole,) = run_now(alone, tmp_path / "cut").cells
    assert start.kinds == ["tokenizer", "cell", "cell", "evaluation"]
    log = JobCache(tmp_path / "cut")
    assert len(log.record(f"cell_{whole.fingerprint}").intervals) == 2
    (never_cut,) = run_now(alone, tmp_path / "whole").cells
    assert whole.figures == never_cut.figures and whole.fingerprint == never_cut.fingerprint
    assert read_answers(whole.answers.parent) == read_answers(never_cut.answers.parent)


def test_one_that_fails_says_why_and_stops_nobody(experiment, base, run_now, start, tmp_path: Path) -> None:
    hot = attrs.evolve(base, train=attrs.evolve(base.train, lr=1e30, muon={}, max_grad_norm=1e30))
    both = attrs.evolve(experiment, variants={"hot": hot, "slow": base})
    result = run_now(both, tmp_path)
    assert [cell.status for cell in result.cells] == ["failed", "complete"]
    assert "stopped being finite" in result.cells[0].error
    assert result.cells[0].figures == {} and result.cells[0].parameters is None


def test_a_cell_is_known_by_what_its_result_depends_on(experiment, base, folders, tmp_path: Path) -> None:
    def cell_of(recipe: Recipe, seed: int = 0) -> str:
        return fingerprints(attrs.evolve(experiment, variants={"slow": recipe}), tmp_path, (seed,))[0]

    same = cell_of(base)
    moved = tmp_path / "moved"
    shutil.copytree(folders[0], moved)

    def on(folder: Path) -> Recipe:
        return attrs.evolve(base, data=attrs.evolve(base.data, folders=(str(folder),)))

    assert cell_of(attrs.evolve(base, name="another name")) == same == cell_of(on(moved))
    info = moved / "samples.jsonl"
    info.write_text("".join(info.read_text().splitlines(keepends=True)[:-1]))
    longer = attrs.evolve(base, train=attrs.evolve(base.train, steps=5))
    training = attrs.evolve(base.stream("depth").training, steps=5)
    others = [cell_of(on(moved)), cell_of(longer), cell_of(base, seed=1)]
    others.append(cell_of(base.with_stream("depth", training=training)))
    assert len({same, *others}) == 5


def test_tokenizers_are_shared_and_only_where_they_are_the_same(experiment, base, tmp_path: Path) -> None:
    sizes = grid(base, {"streams.depth.tokenizer.codebook_size": (4, 8), "train.lr": (1e-3, 2e-3)})
    ready = prepare(
        Experiment(name="sizes", baseline="codebook_size=4,lr=0.001", variants=sizes),
        out=tmp_path,
        seeds=(0, 1),
    )
    kinds = [job.stage for job in ready.jobs]
    assert [kinds.count(stage) for stage in ("tokenizer", "training", "evaluation")] == [4, 8, 8]
    assert len({job.title for job in ready.jobs}) == 20
    assert all(
        work_named(job.work) and json.loads(json.dumps(job.request)) == job.request for job in ready.jobs
    )
    begun: set[str] = set()
    for job in ready.jobs:
        assert {before.name for before in job.after} <= begun
        begun.add(job.name)
    assert not list(tmp_path.iterdir())


def test_seeds_and_variants_are_added_to_what_is_there(
    experiment, base, run_now, start, tmp_path: Path
) -> None:
    alone = attrs.evolve(experiment, variants={"slow": base})
    run_now(alone, tmp_path)
    start.done.clear()
    result = run_now(experiment, tmp_path, seeds=(1,), only="f*")
    assert start.kinds == ["tokenizer", "cell", "evaluation"]
    assert [(cell.variant, cell.seed, cell.status) for cell in result.cells] == [
        ("slow", 0, "complete"),
        ("slow", 1, "waiting"),
        ("fast", 0, "waiting"),
        ("fast", 1, "complete"),
    ]


def test_another_experiment_is_refused_with_what_differs(experiment, base, folders, tmp_path: Path) -> None:
    with pytest.raises(PlannedError):
        prepare(experiment, out=tmp_path, seeds=(0,)).start(Planned(), Lines())
    assert read(tmp_path).variants == ("slow", "fast")
    longer = attrs.evolve(base, train=attrs.evolve(base.train, steps=9))
    cases = {
        "it is called rates, and this one speeds": (attrs.evolve(experiment, name="speeds"), {}),
        "1 of its cells, such as 'slow' with seed 0, have another recipe or other data now": (
            attrs.evolve(experiment, variants={**experiment.variants, "slow": longer}),
            {},
        ),
        "it is evaluated on .*validation, and this one on other data: .*train": (
            experiment,
            {"data": folders[:1]},
        ),
    }
    for message, (other, given) in cases.items():
        with pytest.raises(
            DataError, match=f"another experiment \\({message}.*choose another --out, or remove"
        ):
            prepare(other, out=tmp_path, seeds=(0,), **given)
    assert fingerprints(renamed(experiment, slow="base"), tmp_path)


class PlannedError(Exception):
    """In place of running anything."""


class Planned:
    def run(self, jobs: object, cache: object, display: object) -> None:
        raise PlannedError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": ()}, "There is no seed: give one or more"),
        ({"seeds": (1, 0, 1)}, "The seed 1 is given twice"),
        ({"seeds": (-1,)}, "The seed -1 cannot be used: it must be at least 0"),
        ({"seeds": (2**32,)}, "must be at least 0 and below"),
        ({"only": "sl?"}, r"No variant matches --only sl\?. There is: fast, slow"),
    ],
)
def test_what_cannot_be_asked(experiment, tmp_path: Path, given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(experiment, **{"out": tmp_path, "seeds": (0,), **given})


def test_many_cells_are_asked_about_before_any_is_made(experiment, base, tmp_path: Path) -> None:
    paths = ("train.lr", "train.steps", "train.warmup_steps")
    many = attrs.evolve(
        experiment,
        baseline="lr=1,steps=1,warmup_steps=1",
        variants=grid(base, {one: range(1, 101) for one in paths}),
    )
    with pytest.raises(InputError, match="has 3,000,000 cells, 1,000,000 variants with 3 seeds.*say --yes"):
        prepare(many, out=tmp_path, seeds=(0, 1, 2))


def test_more_cells_than_many_are_planned_where_they_are_meant(
    experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MANY", 1)
    assert len(prepare(experiment, out=tmp_path, seeds=(0,), many=True).cells) == 2


def test_there_must_be_something_to_train_and_to_be_evaluated_on(
    experiment, base, folders, tmp_path: Path
) -> None:
    def planned(**data: object) -> object:
        changed = attrs.evolve(base, data=attrs.evolve(base.data, **data))
        return prepare(
            attrs.evolve(experiment, variants={"slow": base, "b": changed}), out=tmp_path, seeds=(0,)
        )

    with pytest.raises(DataError, match="nothing to evaluate on: the recipe of 'b' names no data.validation"):
        planned(validation=())
    with pytest.raises(DataError, match="'b' has other validation data than the baseline 'slow'"):
        planned(validation=(str(folders[0]),))
    with pytest.raises(RecipeError, match="The variant 'b' names no data to train on"):
        planned(folders=())


def test_evaluation_on_what_is_trained_on_is_said(experiment, folders, tmp_path: Path) -> None:
    assert prepare(experiment, out=tmp_path, seeds=(0,)).warnings == ()
    (warning,) = prepare(experiment, out=tmp_path, seeds=(0,), data=folders[:1]).warnings
    assert "which they are trained on, too" in warning


def test_variants_of_one_content_share_the_jobs_of_the_first(base, tmp_path: Path) -> None:
    twins = Experiment(name="twins", baseline="one", variants={"one": base, "other": base})
    ready = prepare(twins, out=tmp_path, seeds=(0,))
    titles = [job.title for job in ready.jobs if job.stage == "training"]
    assert len(ready.cells) == 2 and titles == ["one, seed 0"]


@pytest.mark.parametrize("option", ["out", "cache"])
def test_a_file_is_no_folder(experiment, option: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    given = {"out": tmp_path / "out", option: tmp_path / "taken"}
    with pytest.raises(DataError, match=f"--{option} .*taken is a file, and a folder is needed"):
        prepare(experiment, seeds=(0,), **given)


def test_a_setting_that_is_declared_later_and_left_alone_changes_no_cell(
    experiment, base, run_now, start, tmp_path: Path
) -> None:
    alone = attrs.evolve(experiment, variants={"slow": base})
    (cell,) = run_now(alone, tmp_path).cells
    record = tmp_path / "jobs" / f"cell_{cell.fingerprint}.json"
    held = json.loads(record.read_text())
    assert held["defaults"].pop("data.too_long") == "refuse"  # As if it had been declared since.
    record.write_text(json.dumps(held))
    start.done.clear()
    assert run_now(alone, tmp_path) == attrs.evolve(read(tmp_path), cells=(cell,)) and start.done == []


def test_a_default_that_has_changed_makes_the_cell_again_and_is_said(
    experiment, base, run_now, start, tmp_path: Path
) -> None:
    alone = attrs.evolve(experiment, variants={"slow": base})
    (cell,) = run_now(alone, tmp_path).cells
    for job in (f"cell_{cell.fingerprint}", f"evaluation_{read_document(tmp_path).cells[0].evaluation}"):
        path = tmp_path / "jobs" / f"{job}.json"
        path.write_text(path.read_text().replace('too_long": "refuse"', 'too_long": "skip"'))
    (warning,) = prepare(alone, out=tmp_path, seeds=(0,)).warnings
    assert warning == (
        "Cells that were begun under other defaults are made again, 1 of them, such as 'slow' with seed 0: "
        "data.too_long was 'skip' and is 'refuse'."
    )
    start.done.clear()
    run_now(alone, tmp_path)
    assert start.kinds == ["cell", "evaluation"]
    assert prepare(alone, out=tmp_path, seeds=(0,)).warnings == ()


def test_other_seeds_keep_their_results_where_more_controls_are_asked_of_one(
    experiment, base, run_now, tmp_path: Path
) -> None:
    alone = attrs.evolve(experiment, variants={"slow": base})
    run_now(alone, tmp_path, seeds=(0, 1))
    result = run_now(alone, tmp_path, seeds=(1,), controls=("random",))
    assert [cell.status for cell in result.cells] == ["complete", "complete"]
    assert ["controls" in cell.figures for cell in result.cells] == [False, True]


def test_commands_that_add_seeds_at_once_keep_each_others(experiment, tmp_path: Path) -> None:
    both = [prepare(experiment, out=tmp_path, seeds=(seed,)) for seed in (2, 1)]
    for ready in both:
        with pytest.raises(PlannedError):
            ready.start(Planned(), Lines())
    assert [(cell.variant, cell.seed) for cell in read(tmp_path).cells] == [
        ("slow", 1),
        ("slow", 2),
        ("fast", 1),
        ("fast", 2),
    ]


def test_answers_of_a_cell_that_are_cut_off_say_what_to_remove(
    experiment, base, run_now, tmp_path: Path
) -> None:
    (cell,) = run_now(attrs.evolve(experiment, variants={"slow": base}), tmp_path).cells
    cell.answers.write_text(cell.answers.read_text()[:-20])
    with pytest.raises(
        DataError, match=f"remove {cell.answers.parent}, and run `perceptio ablate` again, which evaluates"
    ):
        cell.right()
