"""How verbs name a recipe: a file, the arguments of its function, and settings to change."""

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
    """
    from perceptio.settings import read_recipe

    changes = pairs("--set", set_, "train.lr=1e-4") | settings
    return read_recipe(recipe, pairs("--arg", arg, "size=1b"), changes)


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
