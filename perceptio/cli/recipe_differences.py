"""Shows how two recipes differ, for `perceptio explain A B`."""

from typing import TYPE_CHECKING

from perceptio.cli.console import say
from perceptio.cli.model_facts import counted, tokens_per_image, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.table import Table

    from perceptio.model.perception_model import PerceptionModel
    from perceptio.recipe import Recipe

LONGEST = 80
"""Characters shown of a setting; the JSON of a model can have thousands."""
NONE = "–"
OF = "  of "
"""Prefix of a part's row, below the row of all parameters."""

Explained = tuple["Recipe", "PerceptionModel"]


def show_differences(shown: "Console", first: Explained, second: Explained) -> None:
    """Print the settings that differ, the facts about each recipe, and both fingerprints."""
    from perceptio.recipe_changes import changes
    from perceptio.serialize import fingerprint, to_json

    names = [f"{letter}: {recipe.name}" for letter, (recipe, _) in zip("AB", (first, second), strict=True)]
    say(shown, f"{names[0]}, {names[1]}\n", style="bold")
    found = changes(to_json(first[0]), to_json(second[0]))
    if found:
        table = _table("Settings that differ", "setting", *names)
        for one in found:
            table.add_row(one.path, *one.shown(LONGEST, absent=NONE))
        shown.print(table)
    else:
        say(shown, "Every setting is the same.")
    shown.print()
    table = _table("What they come to", "", *names)
    for row in _facts(first, second):
        table.add_row(*row)
    table.add_row("fingerprint", *(fingerprint(recipe) for recipe, _ in (first, second)))
    shown.print(table)


def _table(title: str, *headings: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, title=title, title_justify="left", padding=(0, 1), pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _facts(first: Explained, second: Explained) -> "Iterator[tuple[str, str, str]]":
    """Yield rows with a fact about both recipes; rows of single parts only if they differ."""
    from perceptio.training.memory import GIB, MemoryPlan

    facts: list[dict[str, str]] = []
    for recipe, model in (first, second):
        total, trained = counted(model)
        parts = {f"{OF}{part}": f"{counted(model.get_submodule(part))[0]:,}" for part in recipe.parts}
        facts.append(
            {"parameters": f"{total:,}", **parts, "trained": f"{trained:,}"}
            | {
                "GiB to train": f"{MemoryPlan.of(model, recipe.train).training / GIB:.2f}",
                "vocabulary": f"{model.plan.size:,} ids",
                "tokens per image": tokens_per_image(recipe),
            }
            | {one.name: written(one, model.plan.streams[one.name]) for one in recipe.streams}
        )
    own = [name for name in facts[1] if name.startswith(OF) and name not in facts[0]]
    names = [name for name in facts[0] if name.startswith(OF)] + own
    for name in dict.fromkeys(("parameters", *names, *facts[0], *facts[1])):
        values = [one.get(name, NONE) for one in facts]
        if not name.startswith(OF) or values[0] != values[1]:
            yield name, values[0], values[1]
