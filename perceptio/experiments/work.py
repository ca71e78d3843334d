"""The work of a cell's jobs: training its tokenizers, training and evaluation."""

from functools import partial
from typing import Any

import torch

import perceptio
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.identity import hash_of_data
from perceptio.errors import CheckpointError
from perceptio.evaluation.answers import ANSWERS, writing_answers
from perceptio.evaluation.evaluation import Evaluation
from perceptio.experiments.job import Task, work
from perceptio.experiments.results import FIGURES, SUMMARY
from perceptio.model.checkpoints.checkpoint import RECIPE
from perceptio.model.perception_model import PerceptionModel, load
from perceptio.ops.json_files import without_nan, write_json
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.serialize import from_json
from perceptio.training.codebook import train_codebook, with_codebooks
from perceptio.training.trainer import Progress, train


@work
def train_tokenizer(task: Task) -> None:
    """Train the tokenizer of a stream as `train` would before the model; an interrupted training starts over."""
    recipe = recipe_of(task)
    train_codebook(
        recipe,
        recipe.stream(task.settings["stream"]),
        task.out,
        [hash_of_data(FolderDataset(folder.path)) for folder in recipe.data.folders],
        device=_device(),
        say=lambda sentence: None,
        preparing=lambda what, done, total: task.report(done, total, what),
    )


@work
def train_cell(task: Task) -> None:
    """Train a recipe with the tokenizers that were trained before, continuing from a checkpoint if there is one."""
    write_json(task.out / RECIPE, task.settings["recipe"])
    codebooks = {stream: task.inputs[name] for stream, name in task.settings["tokenizers"].items()}
    train_reporting(task, with_codebooks(recipe_of(task), codebooks))


@work
def evaluate_cell(task: Task) -> None:
    """Ask a trained cell every question, as `perceptio eval` does, and keep every answer."""
    cell = task.inputs[task.settings["cell"]]
    model = load(cell)
    if not isinstance(model, PerceptionModel):
        raise CheckpointError(f"{cell} holds no model; remove the folder, and it is trained again.")
    model.to(_device())
    found: dict[str, Any] = {}
    for path in task.settings["data"]:
        with writing_answers(task.out / ANSWERS, append=bool(found)) as keep:
            evaluation = Evaluation(
                model,
                FolderDataset(path),
                controls=task.settings["controls"],
                progress=partial(_report, task, f"asking about {path}"),
                on_answer=keep,
            )
            found[path] = without_nan(evaluation.run())
    about = {
        "parameters": sum(one.numel() for one in model.parameters()),
        "device": _name_of(_device()),
        "versions": {"perceptio": perceptio.__version__, "torch": torch.__version__},
    }
    write_json(task.out / SUMMARY, about)
    write_json(task.out / FIGURES, found)


def _report(task: Task, note: str, done: int, total: int) -> None:
    task.report(done, total, note)


def train_reporting(task: Task, recipe: Recipe) -> None:
    """Train a recipe in a task's folder, continuing from a checkpoint if there is one, and report the progress."""

    def progress(now: Progress) -> None:
        task.report(now.step, now.steps, f"loss {now.metrics['loss']:.3f}" if "loss" in now.metrics else "")

    def preparing(what: str, done: int, total: int) -> None:
        task.report(0, recipe.train.steps, f"{what}: {done} of {total}")

    train(recipe, task.out, resume="auto", progress=progress, preparing=preparing)


def recipe_of(task: Task) -> Recipe:
    """Return the recipe in a task's settings."""
    recipe = from_json(task.settings["recipe"], Registry.discover())
    assert isinstance(recipe, Recipe)
    return recipe


def _device() -> torch.device:
    """Return the device that training uses, too."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
