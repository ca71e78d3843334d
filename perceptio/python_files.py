"""Python files given by path, such as plugins and recipes: each is executed once, as a module of its own.

The module of `/home/me/bins.py` is named `perceptio.python_files./home/me/bins`. Therefore two files with the same
stem are two modules, and a process that unpickles one of their classes can find the file. Postponed annotations,
dataclasses and pickling work as in any other module, and so do imports of modules beside the file.
"""

import ast
import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from perceptio.errors import PerceptioError

logger = logging.getLogger(__name__)

__path__: list[str] = []  # Makes this module a package for the import system; `_Finder` finds its modules.


def module_of(file: Path, *, renew: bool = False) -> ModuleType:
    """Return the module of a Python file, executing the file if this process has not yet done so.

    Modules beside the file become importable; one that is hidden by another module is refused.

    Args:
        file: The file, ending in `.py`.
        renew: Execute a file again if it has changed, which creates new classes. Otherwise the process continues with
            what it read, and warns once.

    Raises:
        PerceptioError: The file does not exist, or a module beside it is hidden. An error inside it is raised
            unchanged.
    """
    file = file.resolve()
    if file.suffix != ".py" or not file.is_file():
        raise PerceptioError(f"{file} is no Python file: give the path of a file that ends in .py.")
    name = _name_of(file)
    held = sys.modules.get(name)
    if held is not None and _executed(held) != _digest(file):
        if renew:
            del sys.modules[name]
        else:
            _warn_of_change(file)
    _let_import_neighbors(file)
    try:
        return importlib.import_module(name)
    except BaseException:
        if held is not None:
            sys.modules[name] = held
        raise


def is_of_file(module: str) -> bool:
    """Return whether a module's name is that of a file given by path."""
    return module.startswith(f"{__name__}.")


def file_of(module: str) -> Path | None:
    """Return the file that a module's name stands for; None for any other module."""
    return Path(f"{module.removeprefix(f'{__name__}.')}.py") if is_of_file(module) else None


class _Finder(MetaPathFinder):
    """Finds the module of a file by its name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        package, _, coded = fullname.rpartition(".")
        file = Path(coded.replace("%2e", ".").replace("%25", "%") + ".py")
        if package != __name__ or not file.is_absolute() or not file.is_file():
            return None
        spec = importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))
        if spec is not None:
            spec.loader_state = _digest(file)
        return spec


class _Loader(SourceFileLoader):
    """Compiles a file without cached bytecode, whose time resolution is seconds and which would clutter folders."""

    def get_code(self, fullname: str) -> CodeType:
        """See `importlib.abc.InspectLoader`."""
        return self.source_to_code(self.get_data(self.path), self.path)


sys.meta_path.append(_Finder())


def _name_of(file: Path) -> str:
    return f"{__name__}.{str(file).removesuffix('.py').replace('%', '%25').replace('.', '%2e')}"


def _executed(module: ModuleType) -> str | None:
    return getattr(getattr(module, "__spec__", None), "loader_state", None)


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


@cache
def _warn_of_change(file: Path) -> None:
    logger.warning(
        "%s has changed since it was executed; this process goes on with what it read. Start a new one.", file
    )


def _let_import_neighbors(file: Path) -> None:
    """Make the modules beside a file importable, after all others; refuse a file whose neighbors others hide, or that
    uses relative imports as if it were in a package.
    """
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    imported = _imported(file)
    relative = next((name for name in sorted(imported) if name.startswith(".")), None)
    if relative is not None:
        plain = relative.lstrip(".") or "NAME"
        raise PerceptioError(
            f"{file} imports from {relative}, and a file named by its path is in no package: what lies beside "
            f"it is imported by its own name, such as import {plain}."
        )
    for name in sorted(imported - sys.stdlib_module_names):
        beside = {file.parent / f"{name}.py", file.parent / name / "__init__.py"}
        place = _place_of(name) if any(one.is_file() for one in beside) else None
        if place is not None and place.resolve() not in {one.resolve() for one in beside}:
            raise PerceptioError(
                f"{file} imports {name}, and the {name} beside it is hidden by {place}: rename the one beside it."
            )


def _imported(file: Path) -> set[str]:
    """Return the first names of all modules that a file imports; relative ones include their dots.

    Empty if the file is not valid Python, which executing it will report.
    """

    def names(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield "." * node.level + (node.module or "").partition(".")[0]

    try:
        return set(names(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return set()


def _place_of(name: str) -> Path | None:
    """Return the file that a module's name leads to."""
    if name in sys.modules:
        place = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        place = spec.origin if spec else None
    return Path(place) if place else None
