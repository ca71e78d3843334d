"""The command `perceptio`: its verbs, and how it reports errors.

The modules of verbs import heavy packages only where they use them, so that `--help` answers at once. A user's
mistake is reported in one sentence on stderr with exit status 2 and no traceback. Ctrl-C exits with 130, SIGTERM with
143. An error inside a user's own recipe or plugin shows its traceback before the sentence.
"""

import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
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


def _add(group: typer.Typer, name: str, run: Callable[..., None], **settings: Any) -> None:
    """Add a verb whose help is its docstring, each paragraph on one line.

    Typer wraps the help to the terminal. It would also keep the line breaks of the source in all paragraphs but the
    first.
    """
    paragraphs = inspect.cleandoc(run.__doc__ or "").split("\n\n")
    group.command(name, help="\n\n".join(map(_on_one_line, paragraphs)), **settings)(run)


def _on_one_line(paragraph: str) -> str:
    return " ".join(paragraph.split())


_add(app, "demo", demo.run)
_add(app, "explain", explain.run)
_add(app, "train", train.run)
_add(app, "depth-targets", depth_targets.run)
_add(app, "train-tokenizer", train_tokenizer.run)
_add(app, "eval", evaluate.run)
_add(app, "ablate", ablate.run, cls=ablate.Command)
_add(app, "compare", compare.run)
_add(app, "report", report.run)
_add(app, "power", power.run)
_add(app, "ask", ask.run)
_add(app, "tokenize", tokenize.run)
_add(app, "components", components.run)
_add(app, "scenes", scenes.run)
shipped = typer.Typer(invoke_without_command=True, help="List the recipes that ship with the library.")
shipped.callback()(recipes.list_all)
_add(shipped, "copy", recipes.copy)
app.add_typer(shipped, name="recipes")
folders = typer.Typer(no_args_is_help=True, help="Work with data folders: import, check, pack, show.")
_add(folders, "import", data.import_)
_add(folders, "check", data.check)
_add(folders, "pack", data.pack)
_add(folders, "show", data.show)
_add(folders, "lmms-task", lmms_task.run)
app.add_typer(folders, name="data")
foreign = typer.Typer(no_args_is_help=True, help="Convert weights of other projects.")
_add(foreign, "aurora-vqvae", convert.aurora_vqvae)
_add(foreign, "sa2va", convert.sa2va)
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
