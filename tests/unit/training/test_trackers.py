"""Metrics in trackers of accelerate: a made-up one, one without login, and Weights & Biases offline."""

import json
import sys
from types import SimpleNamespace

import attrs
import pytest
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from small import scenes_folder, small_recipe

from perceptio.errors import InputError, TrainingError
from perceptio.training import trackers
from perceptio.training.run_folder import METRICS, RunFolder
from perceptio.training.trackers import check_trackers, drawing
from perceptio.training.trainer import train


class Notebook(GeneralTracker):
    """Keeps what it is told."""

    name = "notebook"
    requires_logging_directory = True
    pages: dict[str, list] = {}  # noqa: RUF012
    tracker = None

    def __init__(self, run_name, logging_dir):
        super().__init__()
        self.pages.clear()
        self.pages.update(run=[run_name], folder=[logging_dir], settings=[], steps=[], finished=[])

    def store_init_configuration(self, values):
        self.pages["settings"].append(values)

    def log(self, values, step=None, **kwargs):
        self.pages["steps"].append((step, values))

    def finish(self):
        self.pages["finished"].append(True)


@pytest.fixture
def notebook(monkeypatch):
    """As `accelerate.tracking.register_tracker_class` registers it."""
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    return Notebook.pages


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    made = small_recipe(scenes_folder(tmp_path_factory.mktemp("scenes") / "train", count=4))
    return attrs.evolve(made, train=attrs.evolve(made.train, steps=2))


@pytest.fixture
def drawn(recipe, tmp_path):
    """Draw two steps with a tracker: what was said on the way."""

    def drawn(name):
        said = []
        with drawing([name], recipe, RunFolder(tmp_path), 0, said.append) as draw:
            draw(1, {"loss": 2.0})
            draw(2, {"loss": 1.0})
        return said

    return drawn


def test_a_tracker_is_told_every_metric_and_setting(recipe, tmp_path, notebook, monkeypatch):
    monkeypatch.setenv(trackers.PROJECT_VARIABLE, "maps")
    train(recipe, tmp_path / "run", track=["notebook", "tensorboard"])
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [(step, {"step": step, **values}) for step, values in notebook["steps"]] == [
        (line["step"], line) for line in lines
    ]
    [settings] = notebook["settings"]
    assert settings["train.steps"] == 2 and settings["vision.component"] == "vision:conv" and len(lines) == 2
    assert all(isinstance(value, str | int | float) for value in settings.values())
    assert notebook["run"] == ["maps"] and notebook["folder"] == [str(tmp_path / "run" / "notebook")]
    assert notebook["finished"] == [True] and any((tmp_path / "run" / "tensorboard").iterdir())


def test_processes_of_an_experiment_are_told_by_their_environment(recipe, tmp_path, notebook, monkeypatch):
    monkeypatch.setenv(trackers.VARIABLE, "notebook, ")
    train(recipe, tmp_path / "run")
    assert [step for step, _ in notebook["steps"]] == [1, 2] and notebook["run"] == [trackers.PROJECT]


def test_a_tracker_that_fails_on_the_way_is_left_alone(drawn, notebook, monkeypatch):
    monkeypatch.setattr(Notebook, "log", lambda *given, **more: 1 / 0)
    assert drawn("notebook") == [
        "The tracker notebook failed at step 1 (division by zero): from here on it is left alone."
    ]
    assert notebook["finished"] == [True]


def test_nobody_is_asked_at_a_prompt(drawn, notebook, monkeypatch):
    monkeypatch.setattr(Notebook, "store_init_configuration", lambda self, values: input("Your key: "))
    with pytest.raises(TrainingError, match=r"The tracker notebook does not start \(.*\): leave it out"):
        drawn("notebook")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wandb", r"The tracker wandb is not installed: pip install 'perceptio\[track\]'."),
        ("mlflow", "The tracker mlflow is not installed: pip install mlflow."),
        ("wandbb", "There is no tracker 'wandbb'; did you mean 'wandb'"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_written(recipe, tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(InputError, match=message):
        train(recipe, tmp_path / "run", track=[name])
    assert not (tmp_path / "run" / METRICS).exists() and not (tmp_path / "run" / "codes").exists()


@pytest.fixture
def wandb_without_login(monkeypatch):
    """A stand-in that has no key; its mode and how it answers may be changed."""
    made = SimpleNamespace(mode=None, login=lambda *, prompt: False)
    made.setup = lambda: SimpleNamespace(settings=made)
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: ["wandb"])
    return made


def test_weights_and_biases_without_login_is_said_before_training(wandb_without_login):
    remedy = "log in with `wandb login` or set WANDB_API_KEY; or set WANDB_MODE=offline"
    with pytest.raises(TrainingError, match=f"Weights & Biases has no login: {remedy}"):
        check_trackers(["wandb"])
    wandb_without_login.login = lambda *, prompt: 1 / 0
    with pytest.raises(TrainingError, match=f"cannot be logged in to \\(division by zero\\): {remedy}"):
        check_trackers(["wandb"])
    wandb_without_login.mode = "offline"
    check_trackers(["wandb"])


def test_weights_and_biases_offline(recipe, tmp_path, monkeypatch):
    """A run that is resumed goes on under its id."""
    pytest.importorskip("wandb")
    PartialState()  # As training has it.
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(["wandb"])
    ids = []
    for step in (0, 1, 0):
        with drawing(["wandb"], recipe, RunFolder(tmp_path / "run"), step, print) as draw:
            draw(step + 1, {"loss": 2.0})
        ids.append(json.loads((tmp_path / "run" / trackers.WANDB_RUN).read_text())["id"])
    assert ids[0] == ids[1] != ids[2]
    runs = [
        path.name for path in (tmp_path / "run" / "wandb").iterdir() if path.name.startswith("offline-run")
    ]
    assert runs and all(run.rpartition("-")[2] in ids for run in runs)
