"""Early check that the folders of a recipe have what its mixture and its streams need."""

from pathlib import Path

from perceptio.data.folder.places import is_there, open_place
from perceptio.data.folder.records import Problem, parse_lines
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError, near_miss
from perceptio.interfaces import Kind
from perceptio.recipe import Recipe
from perceptio.registry import Registry

_IN_WORDS = {"depth": "depth", "masks": "masks of objects", "objects": "masks of objects"}
"""Descriptions of targets that are not maps."""


def check_mixture(recipe: Recipe) -> None:
    """Check that folders have turns of all tasks in the mixture, and samples have the targets of streams.

    A folder is read until everything was found. If a folder does not exist, nothing is reported as missing, because
    it may be there. A stream needs its target if a task of the mixture may write it, unless nothing is perceived.

    Raises:
        DataError: Tasks that no folder has, with those that exist; or all streams without a target; or a folder that
            does not follow the format.
    """
    paths = [folder.path for folder in recipe.data.folders]
    if not paths or not all(map(is_there, paths)):
        return
    table, tasks = TaskTable(recipe), _mixed(recipe)
    targets = _targets(recipe, table, tasks)
    wanted = {name for name in tasks if not table[name].writes_turns or not _is_written(recipe, table, name)}
    if recipe.data.perceive == "never":
        wanted = {name for name in wanted if not table[name].perception_only}
    known: set[str] = set()
    missing = set(targets.values())
    for path in paths:
        place = open_place(path)
        looked_for = {target for target in missing if place.info.declares(target)}
        found, had = _look(place.root, wanted, looked_for)
        known |= found
        wanted, missing = wanted - found, missing - had
    if wanted:
        asked = ", ".join(map(repr, sorted(wanted)))
        raise DataError(
            f"data.mixture asks for {asked}, and no folder has such a turn{near_miss(min(wanted), known)}"
            f"{_of_plugins(wanted)}"
        )
    if missing:
        absent = [_absent(stream, target, paths) for stream, target in targets.items() if target in missing]
        raise DataError(" ".join(absent))


def _of_plugins(names: set[str]) -> str:
    """Return advice if a task's bare name is requested and a plugin provides it."""
    registered = Registry.discover().names(Kind.TASK)
    meant = [(name, full) for name in sorted(names) for full in registered if full.endswith(f"/{name}")]
    return "".join(
        f" The task {full!r} of a plugin is asked for by its full name, or by {name!r} where recipe.tasks says so."
        for name, full in meant
    )


def _absent(stream: str, target: str, paths: list[str]) -> str:
    what, folders = _IN_WORDS.get(target, f"the map {target!r}"), ", ".join(paths)
    return (
        f"The stream {stream!r} is learned from {what}, and no sample of {folders} has it: add it to the data, or "
        "leave the stream out."
    )


def _mixed(recipe: Recipe) -> list[str]:
    return [name for name, weight in recipe.data.mixture.items() if weight > 0]


def _is_written(recipe: Recipe, table: TaskTable, name: str) -> bool:
    """Return whether the recipe has all streams that a task requires."""
    written = {stream.name for stream in recipe.streams if stream.spec.per == "image"}
    return set(table[name].required) <= written


def _targets(recipe: Recipe, table: TaskTable, names: list[str]) -> dict[str, str]:
    """Return the targets that the data must have, for each stream that a task of the mixture may write."""
    tasks = [table[name] for name in names]
    apart, never = (recipe.data.perceive == mode for mode in ("separate_task", "never"))
    return {
        stream.name: stream.spec.target
        for stream in recipe.streams
        if not never
        and (
            any(task.about_objects for task in tasks)
            if stream.spec.per == "object"
            else apart or any(task.may_perceive or stream.name in task.required for task in tasks)
        )
        and stream.spec.target != "image"
    }


def _look(root: Path, tasks: set[str], targets: set[str]) -> tuple[set[str], set[str]]:
    """Return tasks and targets of a folder's samples, reading only until all wanted ones are found."""
    found, had = set[str](), set[str]()
    if not tasks and not targets:
        return found, had
    for parsed in parse_lines(root):
        if not isinstance(parsed, Problem):
            found |= {turn.task for turn in parsed.turns}
            had |= {target for target in targets - had if parsed.has_target(target)}
        if tasks <= found and targets <= had:
            break
    return found, had
