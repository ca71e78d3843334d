"""The command `perceptio`: its verbs, and how it reports errors.

The modules of verbs import heavy packages only where they use them, so that `--help` answers at once. A user's
mistake is reported in one sentence on stderr with exit status 2 and no traceback. Ctrl-C exits with 130, SIGTERM with
143. An error inside a user's own recipe or plugin shows its traceback before the sentence.
"""

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from perceptio.cli import (
    ablate,
    ask,
    compare,
    components,
    convert,
    data,
    demo,
    depth_targets,
    evaluate,
    explain,
    lmms_task,
    power,
    recipes,
    report,
    scenes,
    tokenize,
    train,
    train_tokenizer,
)
from perceptio.cli.console import console, never_fail_to_print, say
from perceptio.cli.files import path
from perceptio.cli.startup import bound_kernel_cache
from perceptio.errors import PerceptioError
from perceptio.ops.files import REFUSALS
from perceptio.ops.interrupts import Stopped


class _Verbs(TyperGroup):
    """The group of verbs; typer itself would exit with 130 for every signal."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Stopped as stopped:
            raise typer.Exit(128 + stopped.signal) from stopped


app = typer.Typer(
    cls=_Verbs,
    name="perceptio",
    help="Build, train and evaluate perception-enhanced vision-language models: perceive, then answer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def settings(
    plugin: Annotated[
        list[Path] | None,
        typer.Option(parser=path, help="A Python file with a plugin's hooks; may be repeated."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what is chosen automatically, and why.")
    ] = False,
) -> None:
    """Options of every verb, given before its name."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    if plugin:
        # The environment also reaches child processes. The variable is `perceptio.plugins.FILES_VARIABLE`.
        os.environ["PERCEPTIO_PLUGIN_FILES"] = json.dumps([str(file.resolve()) for file in plugin])


app.command("demo")(demo.run)
app.command("explain")(explain.run)
app.command("train")(train.run)
app.command("depth-targets")(depth_targets.run)
app.command("train-tokenizer")(train_tokenizer.run)
app.command("eval")(evaluate.run)
app.command("ablate", cls=ablate.Command)(ablate.run)
app.command("compare")(compare.run)
app.command("report")(report.run)
app.command("power")(power.run)
app.command("ask")(ask.run)
app.command("tokenize")(tokenize.run)
app.command("components")(components.run)
app.command("scenes")(scenes.run)
shipped = typer.Typer(invoke_without_command=True, help="List the recipes that ship with the library.")
shipped.callback()(recipes.list_all)
shipped.command("copy")(recipes.copy)
app.add_typer(shipped, name="recipes")
folders = typer.Typer(no_args_is_help=True, help="Work with data folders: import, check, pack, show.")
folders.command("import")(data.import_)
folders.command("check")(data.check)
folders.command("pack")(data.pack)
folders.command("show")(data.show)
folders.command("lmms-task")(lmms_task.run)
app.add_typer(folders, name="data")
foreign = typer.Typer(no_args_is_help=True, help="Convert weights of other projects.")
foreign.command("aurora-vqvae")(convert.aurora_vqvae)
foreign.command("sa2va")(convert.sa2va)
app.add_typer(foreign, name="convert")


def main() -> None:
    """Run a verb and exit with its status."""
    never_fail_to_print()
    bound_kernel_cache()
    try:
        app()
    except PerceptioError as error:
        said = console(stderr=True)
        said.print("Error:", style="red", end=" ")
        say(said, str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sentence = _printing_failed(error) or _foreign_code_failed(error)
        if sentence is None:
            raise
        say(console(stderr=True), f"Error: {sentence}", style="red")
        sys.exit(2)


def _printing_failed(error: Exception) -> str | None:
    if isinstance(error, OSError) and error.filename is None and error.errno in REFUSALS:
        return f"The output could not be printed ({error.strerror})."
    return None


def _foreign_code_failed(error: Exception) -> str | None:
    """Print the traceback of an error inside a user's recipe or a plugin, and return the sentence to show."""
    from perceptio.plugins import blamed

    where = blamed(error)
    if where is not None:
        traceback.print_exception(error)
        where = f"{where} was at work, which is not perceptio's: mend it there, or ask whoever offers it."
    return where


if __name__ == "__main__":
    main()
