"""`perceptio eval`: every figure that a model and a folder of data allow."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from perceptio.cli.files import open_folder, writing


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder or a checkpoint.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder with questions; by default those the recipe trained on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where metrics.json goes; by default the run's folder.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first so many samples of each folder.")
    ] = None,
) -> None:
    """Evaluate a trained model: relative depth, referring masks, the depth block, and what answers owe to it."""
    import json

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from perceptio.data.folder import FolderDataset
    from perceptio.errors import DataError, InputError
    from perceptio.evaluation.suite import Evaluation
    from perceptio.model.checkpoint import load
    from perceptio.model.perception_model import PerceptionModel

    model = load(folder)
    if not isinstance(model, PerceptionModel):
        raise InputError(f"{folder} holds no model but a part, {type(model).__name__}; eval needs a model.")
    paths = data or [Path(one.path) for one in model.recipe.data.folders]
    if not paths:
        raise DataError("The recipe names no data; name a folder with --data.")
    open_folder(out or folder)
    console, results = Console(), {}
    for path in paths:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(f"asking about {path}", total=None)

            def show(done: int, total: int, bar: Progress = bar, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            results[str(path)] = Evaluation(model, FolderDataset(path), limit=limit, progress=show).run()
        table = Table("figure", "value", box=None, title=str(path))
        for name, value in _flat(results[str(path)]):
            table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        console.print(table)
    target = (out or folder) / "metrics.json"
    with writing(out or folder):
        target.write_text(json.dumps(results, indent=1), encoding="utf-8")
    console.print(f"Written to {target}.")


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", [round(one, 4) for one in value] if isinstance(value, list) else value
