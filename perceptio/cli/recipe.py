"""How verbs name a recipe: a file, the arguments of its function, and settings to change."""

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
        help="A recipe file, or the name of one that comes with the library, such as perceptio_tiny or perceptio_8b; "
        "NAME:tiny is its function tiny()."
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
        help="Call the recipe's function with an argument, such as size=1b; may be repeated.",
    ),
]


def chosen_recipe(recipe: str, arg: list[str] | None, set_: list[str] | None, **settings: Any) -> "Recipe":
    """The recipe that a verb was given, checked; `settings` are further ones, by path.

    Raises:
        RecipeError: A pair has no `=`, or something is wrong with the recipe.
        typer.Exit: The file's own code raised something else, whose traceback was printed.
    """
    from perceptio.settings import read_recipe

    changes = pairs("--set", set_, "train.lr=1e-4") | settings
    arguments = pairs("--arg", arg, "size=1b")
    with showing_its_traceback():
        return read_recipe(recipe, arguments, changes)


@contextmanager
def showing_its_traceback() -> Iterator[None]:
    """For what executes a user's file: an error of its own is shown as Python shows it, from its first line on.

    Raises:
        typer.Exit: There was one, whose traceback was printed.
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
    """The traceback from the first line of a recipe's file on; the whole one where none is in such a file."""
    from perceptio.python_files import is_of_file

    if isinstance(error, SyntaxError):
        return None  # Its message shows the line.
    trace = error.__traceback__
    while trace is not None and not is_of_file(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return trace or error.__traceback__


def pairs(option: str, given: list[str] | None, example: str) -> dict[str, str]:
    """What an option was given, `KEY=VALUE` each, as a dictionary.

    Raises:
        RecipeError: One has no `=`.
    """
    from perceptio.errors import RecipeError

    found = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError(f"{option} {pair} is no KEY=VALUE; write, say, {option} {example}.")
        found[key.strip()] = value.strip()
    return found
