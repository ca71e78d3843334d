"""`perceptio components`: list every registered component by kind."""

import typer

from perceptio.cli.console import console, say


def run() -> None:
    """List every registered component: kind, name, provider and description."""
    from inspect import getdoc

    from rich.table import Table

    from perceptio.registry import Registry

    registry, shown = Registry.discover(), console()
    table = Table("kind", "name", "provider", "what it is", box=None, pad_edge=False)
    for entry in registry.entries:
        table.add_row(
            entry.config.kind, entry.name, entry.provider, (getdoc(entry.config) or "").split("\n")[0]
        )
    shown.print(table)
    for plugin, found in registry.broken.items():
        say(shown, f"\nThe plugin {plugin} ({found.provider}) was set aside:", style="red")
        say(shown, f"{found.reason}\n{found.details}".rstrip())
    if registry.broken:
        raise typer.Exit(1)
