"""Whether the folders of a recipe have what its mixture asks for, found before anything is built."""

from pathlib import Path

from perceptio.data.dataset_info import parse_info
from perceptio.data.records import Problem, parse_lines
from perceptio.errors import DataError, near_miss
from perceptio.recipe import Recipe

_SUPERVISED = frozenset({"referring", "depth_map"})
"""Tasks that `data.perceive="never"` leaves out."""


def check_mixture(recipe: Recipe) -> None:
    """Refuse a mixture with tasks of which no folder has a turn. A folder is read until every task was found in it.

    Nothing is said while a folder is not there: it may have what is missing.

    Raises:
        DataError: All tasks that no folder has, and those there are; or a folder is not in the format.
    """
    roots = [Path(folder.path) for folder in recipe.data.folders]
    if not roots or not all(root.exists() for root in roots):
        return
    wanted = {task for task, weight in recipe.data.mixture.items() if weight > 0}
    if recipe.data.perceive == "never":
        wanted -= _SUPERVISED
    if recipe.depth is not None and any(parse_info(root).depth_unit is not None for root in roots):
        wanted.discard("depth_map")
    known: set[str] = set()
    for root in roots:
        if wanted:
            known |= _tasks(root, wanted)
            wanted -= known
    if wanted:
        asked = ", ".join(map(repr, sorted(wanted)))
        raise DataError(
            f"data.mixture asks for {asked}, and no folder has such a turn{near_miss(min(wanted), known)}"
        )


def _tasks(root: Path, wanted: set[str]) -> set[str]:
    """Tasks of a folder's turns, up to the line with which all that are wanted were found."""
    found: set[str] = set()
    for parsed in parse_lines(root):
        if not isinstance(parsed, Problem):
            found |= {turn.task for turn in parsed.turns}
        if wanted <= found:
            break
    return found
