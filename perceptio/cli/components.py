"""`perceptio components`: every registered part by kind."""

import typer


def run() -> None:
    """List every registered part: kind, name, provider, and what it is."""
    from inspect import getdoc

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from perceptio.registry import Registry

    registry, console = Registry.discover(), Console()
    table = Table("kind", "name", "provider", "what it is", box=None, pad_edge=False)
    for entry in registry.entries:
        table.add_row(
            entry.config.kind, entry.name, entry.provider, (getdoc(entry.config) or "").split("\n")[0]
        )
    console.print(table)
    for plugin, found in registry.broken.items():
        console.print(f"\n[red]The plugin {plugin} ({escape(found.provider)}) was set aside:[/red]")
        console.print(f"{found.reason}\n{found.details}".rstrip(), markup=False, soft_wrap=True)
    if registry.broken:
        raise typer.Exit(1)
