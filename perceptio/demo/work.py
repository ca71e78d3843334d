"""The jobs of the demo. Each function writes one folder, using only its settings and the folders of other jobs.

Shapes: N maps, C channels, H W pixels.
"""

import math
from collections.abc import Mapping
from typing import Any

import attrs
import torch

from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.demo.files import FIGURES, HISTORY
from perceptio.demo.gallery import record_gallery
from perceptio.demo.limits import limits
from perceptio.demo.plan import trained_tokenizers
from perceptio.evaluation.answers import ANSWERS, writing_answers
from perceptio.evaluation.evaluation import Evaluation
from perceptio.evaluation.shortcuts import shortcuts
from perceptio.evaluation.tokenizers import evaluate_tokenizer
from perceptio.experiments.job import Task, work
from perceptio.experiments.work import recipe_of, train_reporting
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.parts import build_part
from perceptio.model.perception_model import load
from perceptio.ops.json_files import append_line, rewrite_log, without_nan, write_json
from perceptio.ops.weights import CHECKPOINT
from perceptio.ops.wording import number_of
from perceptio.recipe import DataFolder
from perceptio.training.target_maps import read_target_maps
from perceptio.training.tokenizer import TokenizerRecord, train_tokenizer


@work
def make_scenes(task: Task) -> None:
    """Write the scenes of every split, and the scores of the shortcuts on the held-out splits."""
    counts: Mapping[str, int] = task.settings["counts"]
    total, before = sum(counts.values()), 0
    for name, count in counts.items():
        scenes = SceneSet(split=Split(name), base=task.settings["base"], count=count)

        def progress(done: int, name: str = name, before: int = before) -> None:
            task.report(before + done, total, name)

        # A folder appears only when it is complete, so an existing one is complete and comes from an earlier attempt.
        if not (task.out / name).exists():
            write_folder(
                task.out / name, scenes, info=scenes.info, workers=math.ceil(task.cores), progress=progress
            )
        before += count
    reached = shortcuts(FolderDataset(task.out / Split.TEST))
    reached["validation"] = shortcuts(FolderDataset(task.out / Split.VALIDATION))
    write_json(task.out / FIGURES, without_nan(reached))


@work
def make_depth_tokenizer(task: Task) -> None:
    """Train a recipe's depth tokenizer on the depth of the training scenes, and measure it on the test scenes."""
    stream = recipe_of(task).stream("depth")
    torch.manual_seed(stream.training.seed)
    tokenizer = build_part(stream.tokenizer)
    maps_NCHW = read_target_maps(task.inputs["scenes"] / Split.TRAIN, tokenizer)
    rewrite_log(task.out / HISTORY, [])

    def on_record(record: TokenizerRecord) -> None:
        append_line(task.out / HISTORY, without_nan(attrs.asdict(record)))
        note = f"error {record.absolute_error:.4f}, {number_of(record.codes_used, 'code')}"
        task.report(record.step, record.steps, note)

    train_tokenizer(tokenizer, maps_NCHW, stream.training, on_record=on_record, record_every=10)
    save(tokenizer, task.out / CHECKPOINT, config=stream.tokenizer)
    held_out_NCHW = read_target_maps(task.inputs["scenes"] / Split.TEST, tokenizer)
    write_json(task.out / FIGURES, without_nan(evaluate_tokenizer(tokenizer, held_out_NCHW.float())))


@work
def train_arm(task: Task) -> None:
    """Train a recipe on the training scenes, continuing from its checkpoint if there is one."""
    recipe = recipe_of(task)
    folder = DataFolder(path=str(task.inputs["scenes"] / Split.TRAIN))
    for name, tokenizer in trained_tokenizers(recipe).items():
        weights: dict[str, Any] = {"weights": str(task.inputs[tokenizer] / CHECKPOINT)}
        recipe = recipe.with_stream(name, tokenizer=attrs.evolve(recipe.stream(name).tokenizer, **weights))
    recipe = attrs.evolve(recipe, data=attrs.evolve(recipe.data, folders=(folder,)))
    train_reporting(task, recipe)


@work
def evaluate_arm(task: Task) -> None:
    """Evaluate a trained arm on all questions about the test scenes, and record a gallery of the first scenes.

    A control also answers the marked-point questions of the validation scenes, which show whether it has learned.
    """
    (arm,) = (folder for name, folder in task.inputs.items() if name != "scenes")
    model, dataset = load(arm), FolderDataset(task.inputs["scenes"] / Split.TEST)
    with writing_answers(task.out / ANSWERS) as write:
        evaluation = Evaluation(
            model, dataset, progress=lambda done, total: task.report(done, total, ""), on_answer=write
        )
        figures = evaluation.run() | limits(model, dataset)
    if task.settings["control"]:
        validation = FolderDataset(task.inputs["scenes"] / Split.VALIDATION)
        figures["validation"] = Evaluation(model, validation, tasks=("relative_depth",)).run()
    record_gallery(model, dataset, task.settings["gallery"], task.out)
    write_json(task.out / FIGURES, without_nan(figures))
