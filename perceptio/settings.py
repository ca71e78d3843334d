"""Reading recipes from Python files, and changing single settings by name.

Settings are paths of field names, `train.lr` or `depth.codebook_size`. An item of a tuple of losses is named by its
loss, `losses.dice.weight`, any other by its number, and an entry of a mapping by its key, `data.mixture.referring`.
"""

import importlib.util
import json
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs

from perceptio.errors import RecipeError, UnknownNameError, near_miss
from perceptio.recipe import Recipe, Weighted
from perceptio.registry import Registry
from perceptio.serialize import structure

_REPOSITORY = Path(__file__).parent.parent
SHIPPED = (
    _REPOSITORY / "recipes"
    if (_REPOSITORY / "pyproject.toml").is_file()
    else Path(sysconfig.get_path("data")) / "share" / "perceptio" / "recipes"
)
"""The recipes that come with the library: in the repository, or where a wheel puts them."""


def load_recipe(path: str | Path, *, beside: str | Path | None = None, **arguments: Any) -> Recipe:
    """The recipe of a Python file: what its `recipe()` returns, checked.

    Args:
        path: The file; `.py` may be left out. A relative path is looked up in the working folder, or beside the file
            `beside` if that is given, and then among the recipes that come with the library. A colon and a name
            ask for another function of the file: `perceptio_8b.py:tiny`.
        beside: A recipe's own `__file__`, so that it finds its neighbors from anywhere.
        **arguments: What the function is called with.

    Raises:
        RecipeError: There is no such file, it has no such function, or its parts do not fit. An error inside the file
            is raised as it is.
    """
    path, function = _function_of(str(path))
    file = _find(Path(path), Path(beside).parent if beside else Path())
    spec = importlib.util.spec_from_file_location(f"perceptio_recipe_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = getattr(module, function, None)
    if not callable(make):
        raise RecipeError(f"{file} has no function {function}(); write one that returns a perceptio.Recipe.")
    recipe = make(**arguments)
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"{function}() of {file} returned a {type(recipe).__name__}; it must return a perceptio.Recipe."
        )
    recipe.check()
    return recipe


def with_settings(recipe: Recipe, settings: Mapping[str, Any], registry: Registry | None = None) -> Recipe:
    """The same recipe with settings changed, checked again.

    Args:
        recipe: The recipe, which stays as it is.
        settings: Values by path. A string is read as JSON where it is JSON (`1e-4`, `[32, 64]`, `true`), so that this
            is what `--set` on the command line does.
        registry: Where components' names are looked up; None: built-ins and installed plugins.

    Raises:
        UnknownNameError: A path leads nowhere; the near miss is named.
        RecipeError: A value is of the wrong type, or the parts no longer fit.
    """
    registry = registry or Registry.discover()
    for path, value in settings.items():
        recipe = _changed(recipe, path.split("."), value, Recipe, registry, "")
    recipe.check()
    return recipe


def _function_of(path: str) -> tuple[str, str]:
    """A path without the name of a function after it, and that name."""
    file, _, function = path.rpartition(":")
    return (file, function) if file and function.isidentifier() else (path, "recipe")


def _find(path: Path, folder: Path) -> Path:
    names = [path] if path.suffix == ".py" else [path, path.with_suffix(".py")]
    for place in (folder, SHIPPED):
        for name in names:
            if (place / name).is_file():
                return (place / name).resolve()
    shipped = [str(file.relative_to(SHIPPED).with_suffix("")) for file in SHIPPED.rglob("*.py")]
    raise RecipeError(
        f"There is no recipe {path}: neither such a file in {folder.resolve()}, nor one that comes with the library"
        f"{near_miss(str(path.with_suffix('')), shipped)}"
    )


def _changed(held: Any, path: list[str], value: Any, kind: Any, registry: Registry, where: str) -> Any:
    """`held` with the value at a path replaced; `kind` is the type that its place wants."""
    if not path:
        return _converted(value, kind, registry, where)
    key, rest = path[0], path[1:]
    here = f"{where}.{key}".lstrip(".")
    if attrs.has(type(held)):
        attrs.resolve_types(type(held))
        fields = attrs.fields_dict(type(held))
        if key not in fields:
            through = _loss_field(held, key)
            if through is not None:
                return attrs.evolve(held, loss=_changed(held.loss, path, value, None, registry, where))
            raise UnknownNameError(f"{where or 'A recipe'} has no setting {key!r}{near_miss(key, fields)}")
        new = _changed(getattr(held, key), rest, value, fields[key].type, registry, here)
        return attrs.evolve(held, **{key: new})
    if isinstance(held, Mapping):
        if key not in held and rest:
            raise UnknownNameError(f"{where} has no entry {key!r}{near_miss(key, held)}")
        item = get_args(kind)[1] if get_origin(kind) else Any
        return {**held, key: _changed(held.get(key), rest, value, item, registry, here)}
    if isinstance(held, tuple):
        names = [one.loss.name if isinstance(one, Weighted) else str(n) for n, one in enumerate(held)]
        if key not in names:
            raise UnknownNameError(f"{where} has no item {key!r}{near_miss(key, names)}")
        number = names.index(key)
        new = _changed(held[number], rest, value, get_args(kind)[0], registry, here)
        return (*held[:number], new, *held[number + 1 :])
    raise UnknownNameError(f"{where} is {held!r} and has no setting {key!r}.")


def _loss_field(held: Any, key: str) -> Any:
    """Whether a key is a setting of a weighted loss itself, so that `losses.dice.sampling` needs no `.loss`."""
    return held.loss if isinstance(held, Weighted) and key in attrs.fields_dict(type(held.loss)) else None


def _converted(value: Any, kind: Any, registry: Registry, where: str) -> Any:
    if isinstance(value, str) and kind is not str:
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return structure(value, kind, registry, where)
    if attrs.has(type(value)):
        return value
    return structure(value, kind, registry, where)
