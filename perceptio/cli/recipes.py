"""`perceptio recipes`: list the recipes that ship with the library, and copy one to change."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import command, console, say
from perceptio.cli.files import path


def list_all(context: typer.Context) -> None:
    """List the recipes that ship with the library, which every command finds by name; or copy one."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Column, Table

    from perceptio.recipe_files import shipped_recipes

    recipes = shipped_recipes()
    longest = max(len(recipe.name) for recipe in recipes)  # A truncated name could not be copied.
    table = Table(Column("name", min_width=longest), "what it is", box=None, pad_edge=False)
    for recipe in recipes:
        paper = [f"arXiv {recipe.paper}"] if recipe.paper else []
        functions = [] if recipe.functions == ("recipe()",) else [*recipe.functions]
        table.add_row(recipe.name, "\n".join([recipe.summary, " · ".join(paper + functions)]).rstrip())
    shown = console()
    shown.print(table)
    say(
        shown,
        f"\n{command('explain', 'NAME')} shows one; NAME:tiny is its function tiny(), --arg size=1b an argument; "
        f"{command('ablate', 'NAME')} runs one with variants(). "
        f"{command('recipes', 'copy', 'NAME', 'FILE')} makes it your own.",
    )


def copy(
    name: Annotated[str, typer.Argument(help="A name listed by `perceptio recipes`.")],
    file: Annotated[
        Path, typer.Argument(parser=path, help="The new file; or a folder, to keep the recipe's file name.")
    ],
) -> None:
    """Copy a recipe that ships with the library into a file of your own; never overwrites a file."""
    from perceptio.recipe_files import SHIPPED, ShippedRecipe, bases_of, copy_recipe

    place, shown = copy_recipe(name, file), console()
    functions = ShippedRecipe.of_file(SHIPPED / f"{name.removesuffix('.py')}.py").functions
    one = any(function.startswith("recipe(") for function in functions)
    shows = command("explain", place) if one else command("ablate", place, "--dry-run")
    say(shown, f"{place} is yours to change; {shows} shows it.")
    for base in bases_of(place):
        whose = "which comes with the library" if base.is_relative_to(SHIPPED) else "which lies beside it"
        say(shown, f"It starts from {base.name}, {whose}.")
