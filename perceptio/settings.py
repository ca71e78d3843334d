"""Load recipes from Python files and change single settings by path.

A path consists of field names, such as `train.lr`. Elements of collections are named as follows:

- a stream by its name: `streams.depth.tokenizer.codebook_size`;
- a loss by its term: `losses.depth_token.weight`, or `losses.acme/depth_token.weight` for a plugin's loss;
- an entry of a mapping by its key: `data.mixture.referring`;
- an item of any other tuple by its index.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import attrs

from perceptio import earlier
from perceptio.errors import RecipeError, quoted
from perceptio.interfaces import Kind
from perceptio.ops.json_files import InvalidJSONError, parse_json
from perceptio.python_files import module_of
from perceptio.recipe import Recipe
from perceptio.recipe_files import find_recipe, split_function
from perceptio.registry import Registry
from perceptio.serialize import raise_together, structure
from perceptio.setting_changes import Change, changed, converted, each
from perceptio.setting_types import COMPONENT, field_types, problems

C = TypeVar("C", bound=attrs.AttrsInstance)


def load_recipe(path: str | Path, *, beside: str | Path | None = None, **arguments: Any) -> Recipe:
    """Load the recipe that the function `recipe()` of a Python file returns, and check it.

    The file is executed once per process, and again after it has changed. It may import modules in its own folder.
    It uses components of plugins through `perceptio.component`.

    Args:
        path: The file, with or without `.py`. A relative path is searched in the working directory, or next to the
            file `beside` if that is given, and then among the recipes that come with the library. To call another
            function of the file, append a colon and its name: `perceptio_8b.py:tiny`.
        beside: The `__file__` of the calling recipe, so that it finds its base recipes from any working directory.
        **arguments: The arguments of the function.

    Raises:
        RecipeError: The file or the function does not exist, the function does not accept these arguments, or the
            recipe is invalid; all problems are listed. An exception inside the file is not caught.
    """
    make, where = _function_of(path, beside)
    _check_arguments(make, where, arguments)
    return _called(make, where, arguments)


def read_recipe(
    path: str, arguments: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Recipe:
    """Load a recipe as the command line names it: `perceptio explain PATH --arg size=1b --set train.lr=1e-4`.

    Args:
        path: See `load_recipe`.
        arguments: The arguments of the function as text, which is parsed as JSON unless the parameter is a string.
        settings: See `with_settings`.

    Raises:
        RecipeError: See `load_recipe` and `with_settings`.
    """
    make, where = _function_of(path, None)
    given = dict(arguments or {})
    _check_arguments(make, where, given)
    hints = get_type_hints(make)
    values = {name: _argument(text, hints.get(name, Any)) for name, text in given.items()}
    for name, value in values.items():
        wrong = list(problems(value, hints[name], f"The argument {name} of {where}")) if name in hints else []
        if wrong:
            raise RecipeError(*wrong)
    recipe = _called(make, where, values, check=not settings)
    return with_settings(recipe, settings) if settings else recipe


def with_settings(recipe: Recipe, settings: Mapping[str, Any], registry: Registry | None = None) -> Recipe:
    """Return the recipe with changed settings, checked again.

    Args:
        recipe: The recipe; it is not modified.
        settings: Values by path. All are set before the recipe is checked, so only the final result must be valid.
            A string that is valid JSON is parsed (`1e-4`, `[32, 64]`, `true`), as for `--set` on the command line.
        registry: The registry that resolves names of components. None: `Registry.discover()`.

    Raises:
        UnknownNameError: A path does not exist. The message suggests a similar one.
        RecipeError: A value has the wrong type, or the parts no longer fit together. All problems are listed.
    """
    if not isinstance(settings, Mapping):
        raise RecipeError(
            f'The settings are {quoted(settings)}; they must be values by path, such as {{"train.lr": 1e-3}}.'
        )
    change, errors = Change(), []
    for path, value in settings.items():
        now_path, now = earlier.current_setting(path, value)
        if now_path == path and now != value:
            errors.append(RecipeError(f"{path} is {value!r}, which is called {now!r} now."))
        else:
            change.add(path.split("."), value)
    try:
        recipe = changed(recipe, change, Recipe, registry or Registry.discover(), "")
    except RecipeError as error:
        errors.append(error)
    raise_together(errors)
    recipe.check()
    return recipe


def with_component_settings(config: C, settings: Mapping[str, Any], where: str, registry: Registry) -> C:
    """Return a config with changed settings, by path, as `with_settings` does for a recipe.

    Args:
        config: The config; it is not modified.
        settings: Values by path. A string that is valid JSON is parsed.
        where: The name of the config in messages.
        registry: The registry that resolves names of components.

    Raises:
        UnknownNameError: A path does not exist. The message suggests a similar one.
        RecipeError: A value has the wrong type, or the config does not accept it.
    """
    change = Change()
    for path, value in settings.items():
        change.add(path.split("."), value)
    made: C = changed(config, change, type(config), registry, where)
    return made


def component_of_settings(kind: Kind, name: str, settings: Mapping[str, Any], registry: Registry) -> Any:
    """Create the config of a component from its settings, some of which may be required.

    Args:
        kind: The kind of the component.
        name: The name of the component, as `perceptio components` lists it.
        settings: Values by path, such as `rules.min_ratio`. A string that is valid JSON is parsed unless the setting
            is a string.
        registry: The registry that resolves names of components.

    Raises:
        UnknownNameError: There is no such component or setting. The message suggests a similar one.
        RecipeError: A required setting is missing, or a value has the wrong type or is not accepted.
        PluginError: The component belongs to a plugin that was set aside or is excluded.
    """
    config = registry.get(kind, name)
    types = field_types(config)
    known = {key: value for key, value in settings.items() if key in types}
    values = each(known, lambda key: converted(known[key], types[key], registry, f"{name}.{key}"))
    inner = {
        path: value for path, value in settings.items() if path.partition(".")[0] in types.keys() - known
    }
    unknown = {key: value for key, value in settings.items() if key not in types and key not in inner}
    made = structure({COMPONENT: f"{kind}:{name}", **values, **unknown}, config, registry, name)
    return with_component_settings(made, inner, name, registry) if inner else made


def _function_of(path: str | Path, beside: str | Path | None) -> tuple[Callable[..., Any], str]:
    """Return the function of a recipe file, and its name in messages."""
    name, function = split_function(str(path))
    file = find_recipe(name, beside)
    make = getattr(module_of(file, renew=True), function, None)
    if not callable(make):
        raise RecipeError(f"{file} has no function {function}(); write one that returns a perceptio.Recipe.")
    return make, f"{function}() of {file}"


def _check_arguments(make: Callable[..., Any], where: str, arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(make).parameters
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        takes = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
        raise RecipeError(
            f"The arguments do not fit {where} ({error}): {takes}; give one with --arg NAME=VALUE."
        ) from None


def _argument(text: str, kind: Any) -> Any:
    """Parse an argument of the command line."""
    if kind is str:
        return text
    try:
        return parse_json(text)
    except InvalidJSONError:
        return text


def _called(
    make: Callable[..., Any], where: str, arguments: Mapping[str, Any], *, check: bool = True
) -> Recipe:
    recipe = make(**arguments)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{where} returned a {type(recipe).__name__}; it must return a perceptio.Recipe.")
    if check:
        recipe.check()
    return recipe
