"""The files of recipes: how one is found, which ship with the library, and how to copy one of these.

Nothing of a recipe is executed here: its description is read from its source.
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
"""The recipes that ship with the library: in the repository, or where a wheel installs them."""
_PAPER = re.compile(r" \(arXiv (\d{4}\.\d{4,5})\)")


@attrs.frozen(kw_only=True)
class ShippedRecipe:
    """A recipe that ships with the library.

    Attributes:
        name: The name by which it is found from anywhere, such as `ablations/direct`.
        file: Its file.
        summary: A description in one line.
        paper: The arXiv number of the paper that it follows, such as `2603.18795`; None: it follows no paper.
        functions: Its functions as they are called, such as `recipe(size='8b')`.
    """

    name: str
    file: Path
    summary: str
    paper: str | None
    functions: tuple[str, ...]

    @classmethod
    def of_file(cls, file: Path) -> "ShippedRecipe":
        """Return the description in the source of a file of `SHIPPED`."""
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
    """Return the names of all recipes that ship with the library; those in folders come last."""
    return tuple(
        _name_of(file) for file in sorted(SHIPPED.rglob("*.py"), key=lambda file: (len(file.parts), file))
    )


def shipped_recipes() -> tuple[ShippedRecipe, ...]:
    """Return all recipes that ship with the library, in the order of `shipped_names`."""
    return tuple(ShippedRecipe.of_file(SHIPPED / f"{name}.py") for name in shipped_names())


def find_recipe(path: str | Path, beside: str | Path | None = None, *, what: str = "recipe") -> Path:
    """Return the file that a recipe's path names.

    Args:
        path: The file; `.py` may be omitted.
        beside: The file that contains the path. A relative path is first looked up beside it, or in the working
            directory if it is None, and then among the recipes that ship with the library. A file never refers to
            itself: the copy of a recipe may have the name of the one that it starts from.
        what: The content of the file, for messages: experiments are stored with recipes, in the folder `experiments`.

    Raises:
        RecipeError: There is no such file.
    """
    wanted, folder = expanded(path), Path() if beside is None else Path(beside).parent
    names = (
        [wanted]
        if wanted.suffix == ".py" or not wanted.name
        else [wanted, wanted.with_name(f"{wanted.name}.py")]
    )
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
    """Copy a recipe that ships with the library, unchanged, into a file of the user's own.

    The recipes that it starts from need no copy: `load_recipe` finds them by name.

    Args:
        name: One of `shipped_names`.
        place: The new file; or a folder, to keep the recipe's file name.

    Returns:
        The new file.

    Raises:
        UnknownNameError: There is no such recipe.
        DataError: The file exists already, is not a Python file, or cannot be written.
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
    """Return the files of the recipes that a recipe starts from: those that it passes to `load_recipe` by name.

    Raises:
        RecipeError: One of them does not exist.
    """

    def names() -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_recipe") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield split_function(first.value)[0]

    return tuple(dict.fromkeys(find_recipe(name, beside=file) for name in names()))


def split_function(path: str) -> tuple[str, str]:
    """Split a recipe's path into the file and the name of a function after it."""
    file, _, function = path.rpartition(":")
    return (file, function) if file and function.isidentifier() else (path, "recipe")


def _name_of(file: Path) -> str:
    return file.relative_to(SHIPPED).with_suffix("").as_posix()


def _call(function: ast.FunctionDef) -> str:
    """Return a function's signature with its parameters as written, without their types."""
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return f"{function.name}({ast.unparse(function.args)})"
