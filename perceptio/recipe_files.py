"""Where the files of recipes lie: how one is found, which come with the library, and how one of those is copied.

Nothing of a recipe is executed here: what is said of it is read from its source.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import attrs

from perceptio.errors import DataError, RecipeError, UnknownNameError, near_miss, quoted
from perceptio.ops.files import disk_errors, expanded, new_file
from perceptio.ops.foreign import parsing

_REPOSITORY = Path(__file__).parent.parent
SHIPPED = (
    _REPOSITORY / "recipes"
    if (_REPOSITORY / "pyproject.toml").is_file()
    else Path(sysconfig.get_path("data")) / "share" / "perceptio" / "recipes"
)
"""The recipes that come with the library: in the repository, or where a wheel puts them."""
_PAPER = re.compile(r" \(arXiv (\d{4}\.\d{4,5})\)")


@attrs.frozen(kw_only=True)
class ShippedRecipe:
    """A recipe that comes with the library.

    Attributes:
        name: By which it is found from anywhere, such as `ablations/direct`.
        file: Where it lies.
        summary: What it is, in a line.
        paper: The number at arXiv of what it follows, such as `2603.18795`; None: it follows no paper of its own.
        functions: Its functions as they are called, such as `recipe(size='8b')`.
    """

    name: str
    file: Path
    summary: str
    paper: str | None
    functions: tuple[str, ...]

    @classmethod
    def of_file(cls, file: Path) -> "ShippedRecipe":
        """What the source of a file of `SHIPPED` says of it."""
        tree = ast.parse(file.read_bytes())
        summary = (ast.get_docstring(tree) or "").partition("\n")[0]
        paper = _PAPER.search(summary)
        return cls(
            name=_name_of(file),
            file=file,
            summary=_PAPER.sub("", summary, count=1),
            paper=paper[1] if paper else None,
            functions=tuple(
                _call(node)
                for node in tree.body
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            ),
        )


def shipped_names() -> tuple[str, ...]:
    """The names of all recipes that come with the library, those in folders last."""
    return tuple(
        _name_of(file) for file in sorted(SHIPPED.rglob("*.py"), key=lambda file: (len(file.parts), file))
    )


def shipped_recipes() -> tuple[ShippedRecipe, ...]:
    """All recipes that come with the library, in the order of `shipped_names`."""
    return tuple(ShippedRecipe.of_file(SHIPPED / f"{name}.py") for name in shipped_names())


def find_recipe(path: str | Path, beside: str | Path | None = None, *, what: str = "recipe") -> Path:
    """The file that a recipe's path names.

    Args:
        path: The file; `.py` may be left out.
        beside: The file that names it. A relative path is looked up beside that, or in the working folder where it
            is None, and then among the recipes that come with the library. A file never names itself: the copy of a
            recipe may have the name of the one that it starts from.
        what: What the file holds, for messages: an experiment lies where recipes do, in the folder `experiments`.

    Raises:
        RecipeError: There is no such file.
    """
    wanted, folder = expanded(path), Path() if beside is None else Path(beside).parent
    names = [wanted] if wanted.suffix == ".py" or not wanted.name else [wanted, wanted.with_suffix(".py")]
    with parsing(RecipeError, f"{quoted(str(wanted))} cannot be a recipe ({{reason}}): check its spelling."):
        itself = None if beside is None else Path(beside).resolve()
        for place in (folder, SHIPPED):
            for name in names:
                if (place / name).is_file() and (found := (place / name).resolve()) != itself:
                    return found
    known = [name for name in shipped_names() if what == "recipe" or name.startswith(f"{what}s/")]
    raise RecipeError(
        f"There is no {what} {wanted}: neither such a file in {folder.resolve()}, nor one that comes with the library"
        f"{near_miss(str(wanted).removesuffix('.py'), known)}"
    )


def copy_recipe(name: str, place: str | Path) -> Path:
    """Make a recipe that comes with the library the user's own: the same text in a file of theirs.

    The recipes that it starts from need no copy: `load_recipe` finds them by name.

    Args:
        name: One of `shipped_names`.
        place: The new file; or a folder, in which it keeps its name.

    Returns:
        The new file.

    Raises:
        UnknownNameError: There is no such recipe.
        DataError: Something is at the place already, it is no Python file, or it cannot be written.
    """
    known = shipped_names()
    name = name.removesuffix(".py")
    if name not in known:
        raise UnknownNameError(f"No recipe {quoted(name)} comes with the library{near_miss(name, known)}")
    shipped, place = SHIPPED / f"{name}.py", expanded(place)
    if place.is_dir():
        place = place / shipped.name
    if place.suffix != ".py":
        raise DataError(
            f"{place} is neither a folder nor a Python file, as a recipe is: write {place}.py, say."
        )
    if place.exists() or place.is_symlink():
        raise DataError(
            f"{place} is there already and is not overwritten: choose another name, or remove it."
        )
    with disk_errors(place, DataError), new_file(place) as new:
        new.write_bytes(shipped.read_bytes())
    return place


def bases_of(file: Path) -> tuple[Path, ...]:
    """The files of the recipes that a recipe starts from: those that it gives `load_recipe` by name.

    Raises:
        RecipeError: One of them is not there.
    """

    def names() -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_recipe") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield split_function(first.value)[0]

    return tuple(dict.fromkeys(find_recipe(name, beside=file) for name in names()))


def split_function(path: str) -> tuple[str, str]:
    """A recipe's path without the name of a function after it, and that name."""
    file, _, function = path.rpartition(":")
    return (file, function) if file and function.isidentifier() else (path, "recipe")


def _name_of(file: Path) -> str:
    return file.relative_to(SHIPPED).with_suffix("").as_posix()


def _call(function: ast.FunctionDef) -> str:
    """How a function is called: its parameters as they are written, without their types."""
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"{function.name}({ast.unparse(function.args)})"
