"""`perceptio train-depth-tokenizer`: a recipe's depth tokenizer into a folder of its own."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.files import check_free, path
from perceptio.cli.recipe import ArgOption, RecipeArgument, SetOption, chosen_recipe

if TYPE_CHECKING:
    from rich.table import Table

METRICS = "metrics.json"


def run(
    recipe: RecipeArgument,
    out: Annotated[
        Path, typer.Option(parser=path, help="The tokenizer's folder: component.json, weights, metrics.json.")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path, help="Data folder with depth maps, in place of the recipe's; may be repeated."
        ),
    ] = None,
    arg: ArgOption = None,
    set_: SetOption = None,
) -> None:
    """Train a recipe's depth tokenizer on the depth maps of its data, and measure it on maps held out of training.

    The folder is written when training is complete; a recipe uses it with depth.weights=DIR.
    """
    import torch

    from perceptio.errors import RecipeError
    from perceptio.evaluation.depth_tokenizers import evaluate_depth_tokenizer
    from perceptio.model.checkpoints.checkpoint import save
    from perceptio.model.parts import build_part
    from perceptio.ops.json_files import without_nan, write_json
    from perceptio.training.depth_maps import read_training_maps
    from perceptio.training.depth_tokenizer import DepthTrainingRecord, train_depth_tokenizer

    folders = {"data.folders": [str(folder) for folder in data]} if data else {}
    chosen = chosen_recipe(recipe, arg, set_, **folders)
    if chosen.depth is None:
        raise RecipeError(f"{chosen.name} has no depth tokenizer to train: give it one in depth.")
    check_free(out)

    shown, settings = console(), chosen.depth_training
    with Bars(shown) as bar:
        reading = bar.add_task("reading depth maps", total=None)
        maps = read_training_maps(
            chosen.data.folders,
            chosen.depth.spec,
            store=out.parent,
            progress=lambda done, total: bar.update(reading, completed=done, total=total),
        )
        training = bar.add_task(f"training {chosen.depth.name}", total=settings.steps)

        def show(record: DepthTrainingRecord) -> None:
            stands = f"error {record.absolute_error:.4f}  {record.codes_used} codes"
            bar.update(training, completed=record.step, note=stands)

        torch.manual_seed(settings.seed)
        tokenizer = build_part(chosen.depth).to("cuda" if torch.cuda.is_available() else "cpu")
        train_depth_tokenizer(
            tokenizer,
            maps.training_N1HW,
            settings,
            weights_N=maps.weights_N,
            on_record=show,
            record_every=10,
        )
    figures = evaluate_depth_tokenizer(tokenizer, maps.held_out_M1HW)

    def write_figures(folder: Path) -> None:
        write_json(folder / METRICS, without_nan(figures))

    save(tokenizer, out, config=chosen.depth, add=write_figures)
    say(shown, f"{figures['count']} held-out maps")
    shown.print(figures_table(figures))
    if figures["codes_used"] == 1:
        say(
            shown,
            "One code says everything: there is nothing in it for a model to learn. Try more depth_training.steps, "
            "another depth_training.lr, or data with more depth.",
            style="red",
        )
    say(shown, f"Written to {out}. Use it: --set {quote(f'depth.weights={out}')}")


def figures_table(figures: Mapping[str, Any]) -> "Table":
    """Figures of a depth tokenizer, one a row."""
    from rich.table import Table

    table = Table("figure", "value", box=None)
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    return table
