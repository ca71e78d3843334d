"""Reading recipes from Python files, and changing single settings by name.

Settings are paths of field names, such as `train.lr`. A stream goes by its name,
`streams.depth.tokenizer.codebook_size`; a loss by its term, `losses.depth_token.weight`, or
`losses.acme/depth_token.weight` where a plugin offers it; any other item of a tuple by its number; and an entry of a
mapping by its key, `data.mixture.referring`.
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
    """The recipe of a Python file: what its `recipe()` returns, checked.

    The file is executed once in a process, and again when it has changed. It may import modules that lie beside it,
    and names parts of plugins with `perceptio.component`.

    Args:
        path: The file; `.py` may be left out. A relative path is looked up in the working folder, or beside the file
            `beside` if that is given, and then among the recipes that come with the library. A colon and a name
            ask for another function of the file: `perceptio_8b.py:tiny`.
        beside: A recipe's own `__file__`, so that it finds the recipes that it starts from, wherever a command runs.
        **arguments: What the function is called with.

    Raises:
        RecipeError: There is no such file, it has no such function, the function does not take these arguments, or
            something is wrong with the recipe: everything is listed. An error inside the file is raised as it is.
    """
    make, where = _function_of(path, beside)
    _check_arguments(make, where, arguments)
    return _called(make, where, arguments)


def read_recipe(
    path: str, arguments: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe as the command line names it: `perceptio explain PATH --arg size=1b --set train.lr=1e-4`.

    Args:
        path: See `load_recipe`.
        arguments: What the function is called with, as text: read as JSON, unless the function wants a string there.
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
    """The same recipe with settings changed, checked again.

    Args:
        recipe: The recipe, which stays as it is.
        settings: Values by path, all set at once, so that they need to fit only together. A string is read as JSON
            where it is JSON (`1e-4`, `[32, 64]`, `true`), so that this is what `--set` on the command line does.
        registry: Where components' names are looked up; None: all that `Registry.discover` finds.

    Raises:
        UnknownNameError: A path leads nowhere; the near miss is named.
        RecipeError: A value is of the wrong type, or the parts no longer fit. Everything that is wrong is listed.
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
    """A config with settings changed, by path, as `with_settings` changes those of a recipe.

    Args:
        config: The config, which stays as it is.
        settings: Values by path; a string is read as JSON where it is JSON.
        where: What messages call it.
        registry: Where components' names are looked up.

    Raises:
        UnknownNameError: A path leads nowhere; the near miss is named.
        RecipeError: A value is of the wrong type, or the config refuses it.
    """
    change = Change()
    for path, value in settings.items():
        change.add(path.split("."), value)
    made: C = changed(config, change, type(config), registry, where)
    return made


def component_of_settings(kind: Kind, name: str, settings: Mapping[str, Any], registry: Registry) -> Any:
    """A component's config from its settings alone, of which some may be mandatory.

    Args:
        kind: Of the component.
        name: Of the component, as `perceptio components` lists it.
        settings: Values by path, such as `rules.min_ratio`; a string is read as JSON where it is JSON and the setting
            wants no string.
        registry: Where components' names are looked up.

    Raises:
        UnknownNameError: There is no such component, or it has no such setting; the near miss is named.
        RecipeError: A mandatory setting is missing, or a value is of the wrong type or refused.
        PluginError: It belongs to a plugin that was set aside.
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
    """The function of a recipe's file, and how messages call it."""
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
    """What a text on the command line stands for."""
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
