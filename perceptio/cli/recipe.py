"""How verbs accept a recipe: a file or name, arguments of its function, and settings to change."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from perceptio.recipe import Recipe

RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of one that ships with the library, such as perceptio_tiny or perceptio_8b; "
        "NAME:tiny calls its function tiny()."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting, such as train.lr=1e-4; may be repeated."
    ),
]
ArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="Pass an argument to the recipe's function, such as size=1b; may be repeated.",
    ),
]


def chosen_recipe(recipe: str, arg: list[str] | None, set_: list[str] | None, **settings: Any) -> "Recipe":
    """Return the recipe that a verb was given, checked; `settings` are further changes, by path.

    Raises:
        RecipeError: A pair has no `=`, or the recipe is invalid.
        typer.Exit: The file's own code raised another error, whose traceback was printed.
    """
    from perceptio.settings import read_recipe

    changes = pairs("--set", set_, "train.lr=1e-4") | settings
    arguments = pairs("--arg", arg, "size=1b")
    with showing_its_traceback():
        return read_recipe(recipe, arguments, changes)


@contextmanager
def showing_its_traceback() -> Iterator[None]:
    """Show an error raised by a user's file as Python does, with the traceback starting in that file.

    Raises:
        typer.Exit: The file raised an error, whose traceback was printed.
    """
    from perceptio.errors import PerceptioError

    try:
        yield
    except PerceptioError:
        raise
    except Exception as error:
        traceback.print_exception(error.with_traceback(_from_its_file(error)))
        raise typer.Exit(1) from error


def _from_its_file(error: Exception) -> TracebackType | None:
    """Return the traceback from the first line of a recipe file on, or all of it if no line is in such a file."""
    from perceptio.python_files import is_of_file

    if isinstance(error, SyntaxError):
        return None  # Its message shows the line.
    trace = error.__traceback__
    while trace is not None and not is_of_file(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return trace or error.__traceback__


def pairs(option: str, given: list[str] | None, example: str) -> dict[str, str]:
    """Return the `KEY=VALUE` pairs of an option as a dictionary.

    Raises:
        RecipeError: A pair has no `=`.
    """
    from perceptio.errors import RecipeError

    found = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError(f"{option} {pair} is no KEY=VALUE; write, say, {option} {example}.")
        found[key.strip()] = value.strip()
    return found
