"""`perceptio eval`: compute every figure that a model and a data folder allow."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.devices import Device, DeviceOption, chosen
from perceptio.cli.evaluate_suite import evaluate_suite
from perceptio.cli.figures import figure_table
from perceptio.cli.files import open_folder, path
from perceptio.cli.models import model_in
from perceptio.errors import InputError
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from perceptio.recipe import Recipe


def run(
    folder: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR", help="A run's folder or a checkpoint.")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path,
            help="Data folder with questions; may be repeated.",
            show_default="the recipe's validation data, otherwise its training data",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Folder for metrics.json and answers.jsonl, replacing earlier ones; by default the run's folder. "
            "With --suite: folder for summary.json and answers.jsonl, where an interrupted evaluation continues.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Use only the first samples of each folder (images of a suite), up to this number."
        ),
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            help="Ask the questions again with what the model wrote before its answer replaced: all, or names such "
            "as oracle,another,random; docs/metrics.md lists them.",
            show_default="none",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run a benchmark on the data named by --data: refcoco, hardblink, blink-depth, cv-bench or depth.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the suite; may be repeated."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Questions of a suite to ask in one batch; by default 48.")
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Evaluate a trained model: every task in the data, every stream, and how much answers depend on the streams.

    With --suite, run a benchmark instead; processes started by torchrun share its questions.
    """
    if suite is not None:
        evaluate_suite(
            suite,
            folder,
            data or (),
            out,
            controls=controls,
            settings=set_,
            limit=limit,
            batch_size=batch_size,
            device=device,
        )
    elif set_ or batch_size:
        raise InputError("--set and --batch-size are of suites: name one with --suite.")
    else:
        _evaluate(folder, data, out or folder, controls=controls, limit=limit, device=device)


def _evaluate(
    folder: Path,
    data: Sequence[Path] | None,
    out: Path,
    *,
    controls: str | None,
    limit: int | None,
    device: Device,
) -> None:
    """Ask a model the questions of data folders, write figures and answers, and show the figures.

    Args:
        folder: A run's folder or a checkpoint.
        data: Folders with questions; None: the folders that the recipe names.
        out: Folder for figures and answers.
        controls: What replaces the content that the model wrote: `all`, or names; None: no controls.
        limit: Use only the first samples of each folder, up to this number.
        device: Where the model runs.

    Raises:
        PerceptioError: An argument is invalid, or something cannot be read or written.
    """
    from perceptio.data.folder import FolderDataset
    from perceptio.evaluation.answers import ANSWERS, writing_answers
    from perceptio.evaluation.evaluation import Evaluation
    from perceptio.evaluation.replacements import controls_named
    from perceptio.evaluation.suites.resuming import refuse_suite
    from perceptio.ops.files import path_text
    from perceptio.ops.json_files import without_nan, write_json

    where, named = chosen(device), controls_named(controls) if controls is not None else ()
    model = model_in(folder, "eval")
    folders, warning = (data, None) if data else _of_recipe(model.recipe)
    open_folder(out)
    refuse_suite(out)
    model.to(where)
    shown, results = console(), dict[str, Any]()
    if warning:
        say(console(stderr=True), warning, style="yellow")
    target, answers = out / "metrics.json", out / ANSWERS
    for one in folders:
        with Bars(shown, transient=True) as bars, writing_answers(answers, append=bool(results)) as keep:
            evaluation = Evaluation(
                model,
                FolderDataset(one),
                limit=limit,
                controls=named,
                progress=bars.counting(f"asking about {one}"),
                on_answer=keep,
            )
            results[path_text(one)] = evaluation.run()
        write_json(target, without_nan(results))
        _show(shown, str(one), results[path_text(one)], controls_asked=bool(named))
    say(shown, f"Written to {target}; every answer is in {answers}.")


def _show(shown: "Console", title: str, figures: Mapping[str, Any], *, controls_asked: bool) -> None:
    """Show the figures of a folder, and what could not be scored in it."""
    figures = dict(figures)
    without_target, controlled = figures.pop("without_target", []), figures.pop("controls", {})
    without_image = figures.pop("without_image", 0)
    shown.print(figure_table(title, figures))
    for one_table in _beside_own(controlled, figures):
        shown.print(one_table)
    notes = [
        f"Not scored: the stream {stream!r}, as no sample has what it is learned from."
        for stream in without_target
    ]
    notes += [
        f"Not scored: {count} of the task {task!r}, which this model has no part for."
        for task, count in figures.get("not_scored", {}).items()
    ]
    if without_image:
        notes.append(f"Left out: {number_of(without_image, 'sample')} without a picture.")
    if controls_asked and not controlled:
        notes.insert(0, "No controls: nothing was written before an answer that they can replace.")
    for note in notes:
        say(shown, note, style="yellow")


def _beside_own(controls: Mapping[str, Any], figures: Mapping[str, Any]) -> "Iterator[Table]":
    """Yield tables of accuracies under each control, with those of the decoded map and of shortcuts if known."""
    from rich.table import Table

    for task, streams in controls.items():
        beside = {"read off the map": figures[f"{task}_readout"]} if f"{task}_readout" in figures else {}
        for name, value in figures.get("shortcuts", {}).get(task, {}).items():
            if not name.endswith("_interval"):
                interval = figures["shortcuts"][task][f"{name}_interval"]
                beside[f"{name} (shortcut)"] = {"mean": value, "interval": interval}
        for stream, found in streams.items():
            table = Table("", "accuracy", "difference", "unchanged", "count", box=None)
            table.title = f"{task}, with something else in place of {stream}, in %"
            for name, one in found.items():
                table.add_row(
                    name,
                    _percent(one["accuracy"], one["interval"]),
                    _percent(one["difference"], one["difference_interval"], sign="+"),
                    f"{100 * one['unchanged']:.1f}",
                    str(one["count"]),
                )
            for name, one in beside.items():
                table.add_row(name, _percent(one["mean"], one["interval"]))
            yield table


def _percent(share: float, interval: Sequence[float], sign: str = "") -> str:
    value, low, high = (f"{100 * one:{sign}.1f}" for one in (share, *interval))
    return f"{value} [{low}, {high}]"


def _of_recipe(recipe: "Recipe") -> tuple[list[Path], str | None]:
    """Return the folders to evaluate a recipe on, and a warning if they are its training data.

    Raises:
        DataError: The recipe names no data.
    """
    from perceptio.errors import DataError

    if recipe.data.validation:
        return [Path(one) for one in recipe.data.validation], None
    if not recipe.data.folders:
        raise DataError("The recipe names no data; name a folder with --data.")
    return [Path(one.path) for one in recipe.data.folders], (
        "These are questions that the model was trained on, which flatters it: name others with --data."
    )
