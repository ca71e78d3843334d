"""`perceptio train-tokenizer`: train the tokenizer of one stream and save it in a folder of its own."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.devices import Device, DeviceOption
from perceptio.cli.devices import chosen as chosen_device
from perceptio.cli.files import check_free, path
from perceptio.cli.recipe import ArgOption, RecipeArgument, SetOption, chosen_recipe
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from rich.table import Table

    from perceptio.recipe import Recipe, Stream

METRICS = "metrics.json"


def run(
    recipe: RecipeArgument,
    out: Annotated[
        Path,
        typer.Option(parser=path, help="Folder for the tokenizer: component.json, weights, metrics.json."),
    ],
    stream: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The stream whose tokenizer to train.",
            show_default="the recipe's only stream with a trainable tokenizer",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(parser=path, help="Data folder with targets, instead of the recipe's; may be repeated."),
    ] = None,
    device: DeviceOption = Device.AUTO,
    arg: ArgOption = None,
    set_: SetOption = None,
) -> None:
    """Train the tokenizer of a stream of codes on targets in the recipe's data, such as depth maps.

    It is evaluated on held-out targets. The folder is written when training is complete; a recipe uses it with
    streams.NAME.tokenizer.weights=DIR.
    """
    from perceptio.evaluation.tokenizers import evaluate_tokenizer
    from perceptio.model.checkpoints.checkpoint import save
    from perceptio.ops.json_files import without_nan, write_json
    from perceptio.training.codebook import train_on_folders
    from perceptio.training.tokenizer import TokenizerRecord

    folders = {"data.folders": [str(folder) for folder in data]} if data else {}
    chosen = chosen_recipe(recipe, arg, set_, **folders)
    own = _stream_of(chosen, stream)
    place = chosen_device(device)
    check_free(out)

    shown, where = console(), f"streams.{own.name}"
    with Bars(shown) as bar:
        reading = bar.counting(f"reading targets of {own.name}")
        training = bar.add_task(f"training {own.tokenizer.name}", total=own.training.steps)

        def show(record: TokenizerRecord) -> None:
            stands = f"error {record.absolute_error:.4f}  {number_of(record.codes_used, 'code')}"
            bar.update(training, completed=record.step, note=stands)

        trained = train_on_folders(
            own,
            chosen.data.folders,
            device=place,
            store=out.parent,
            reading=reading,
            on_record=show,
        )
    figures = evaluate_tokenizer(trained.tokenizer, trained.maps.held_out_MCHW)

    def write_figures(folder: Path) -> None:
        write_json(folder / METRICS, without_nan(figures))

    save(trained.tokenizer, out, config=own.tokenizer, add=write_figures)
    say(shown, f"{figures['count']} held-out maps")
    shown.print(figures_table(figures))
    if figures["codes_used"] == 1:
        say(
            shown,
            "One code says everything: there is nothing in it for a model to learn. Try more "
            f"{where}.training.steps, another {where}.training.lr, or other data.",
            style="red",
        )
    setting = f"{where}.tokenizer.weights={out}"
    say(shown, f"Written to {out}. Use it: --set {quote(setting)}")


def _stream_of(recipe: "Recipe", name: str | None) -> "Stream":
    """Return the stream whose tokenizer to train.

    Raises:
        UnknownNameError: There is no stream of this name.
        RecipeError: The stream's tokenizer cannot be trained; or, if no name is given, not exactly one stream's can.
    """
    from perceptio.errors import RecipeError
    from perceptio.training.codebook import trainable

    able = [stream for stream in recipe.streams if trainable(stream)]
    known = ", ".join(stream.name for stream in able)
    if name is not None:
        stream = recipe.stream(name)
        if stream not in able:
            raise RecipeError(
                f"The tokenizer {stream.tokenizer.name} of the stream {name!r} cannot be trained by itself"
                + (f"; --stream can be {known}." if able else ".")
            )
        return stream
    if len(able) != 1:
        raise RecipeError(
            f"{recipe.name} has several streams whose tokenizers can be trained: choose one with --stream ({known})."
            if able
            else f"{recipe.name} has no stream whose tokenizer can be trained."
        )
    return able[0]


def figures_table(figures: Mapping[str, Any]) -> "Table":
    """Return a table of a tokenizer's figures, one per row."""
    from rich.table import Table

    table = Table("figure", "value", box=None)
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    return table
