"""Reading recipes from Python files, and changing single settings by name.

Settings are paths of field names, such as `train.lr`. A stream goes by its name,
`streams.depth.tokenizer.codebook_size`; a loss by its term, `losses.depth_token.weight`, or
`losses.acme/depth_token.weight` where a plugin offers it; any other item of a tuple by its number; and an entry of a
mapping by its key, `data.mixture.referring`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs

from perceptio import earlier
from perceptio.errors import RecipeError, UnknownNameError, near_miss, quoted
from perceptio.interfaces import Kind, LossConfig
from perceptio.ops.json_files import InvalidJSONError, parse_json
from perceptio.python_files import module_of
from perceptio.recipe import Recipe, Stream, WeightedLoss
from perceptio.recipe_files import find_recipe, split_function
from perceptio.registry import Registry
from perceptio.serialize import raise_together, refusals, structure, unknown_setting
from perceptio.setting_types import COMPONENT, field_types, is_mapping, is_union, problems

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
    change, errors = _Change(), []
    for path, value in settings.items():
        now_path, now = earlier.current_setting(path, value)
        if now_path == path and now != value:
            errors.append(RecipeError(f"{path} is {value!r}, which is called {now!r} now."))
        else:
            change.add(path.split("."), value)
    try:
        recipe = _changed(recipe, change, Recipe, registry or Registry.discover(), "")
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
    change = _Change()
    for path, value in settings.items():
        change.add(path.split("."), value)
    changed: C = _changed(config, change, type(config), registry, where)
    return changed


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
    values = _each(known, lambda key: _converted(known[key], types[key], registry, f"{name}.{key}"))
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


_KEPT: Any = object()


@attrs.define
class _Change:
    """What becomes of a value: another in its place, or changes inside of it, or both, one after the other."""

    value: Any = _KEPT
    inner: dict[str, "_Change"] = attrs.Factory(dict)

    def add(self, path: Sequence[str], value: Any) -> None:
        """Set the value at a path."""
        if path:
            self.inner.setdefault(path[0], _Change()).add(path[1:], value)
        else:
            self.value = value


def _changed(held: Any, change: _Change, kind: Any, registry: Registry, where: str) -> Any:
    """`held` changed; `kind` is the type that its place wants. Settings of one config are changed at once.

    Raises:
        RecipeError: Everything that is wrong.
    """
    if change.value is not _KEPT:
        held = _converted(change.value, kind, registry, where)
    inner = dict(change.inner)
    if not inner:
        return held

    def changed(key: str, one: Any, wanted: Any) -> Any:
        return _changed(one, inner[key], wanted, registry, f"{where}.{key}".lstrip("."))

    if attrs.has(type(held)):
        types = field_types(type(held))
        if isinstance(held, WeightedLoss):
            # `losses.segmentation_dice.sampling` needs no `.loss`.
            own = {key: inner.pop(key) for key in [*inner] if key in field_types(type(held.loss))}
            if own:
                held = attrs.evolve(
                    held, loss=_changed(held.loss, _Change(inner=own), LossConfig, registry, where)
                )
        values = _each(
            inner, lambda key: changed(key, getattr(held, _setting(held, key, types, where)), types[key])
        )
        with refusals(where, "The recipe"):
            return attrs.evolve(held, **values)
    if isinstance(held, Mapping):
        item = next(get_args(one)[1] for one in _members(kind) if is_mapping(one))

        def entry(key: str) -> Any:
            if key not in held and inner[key].inner:
                raise UnknownNameError(f"{where} has no entry {key!r}{near_miss(key, held)}")
            return changed(key, held.get(key), item)

        return {**held, **_each(inner, entry)}
    if isinstance(held, tuple | list):
        names = [_name_of(one, number, registry) for number, one in enumerate(held)]
        members = get_args(next(one for one in _members(kind) if get_origin(one) is type(held)))

        def element(key: str) -> Any:
            if key not in names:
                raise UnknownNameError(f"{where} has no item {key!r}{unknown_setting(where, key, names)}")
            number = names.index(key)
            any_length = isinstance(held, list) or Ellipsis in members
            return changed(key, held[number], members[0] if any_length else members[number])

        values = _each(inner, element)
        return type(held)(values.get(name, one) for name, one in zip(names, held, strict=True))
    raise UnknownNameError(f"{where} is {held!r} and has no setting {next(iter(inner))!r}.")


def _name_of(item: Any, number: int, registry: Registry) -> str:
    """By what an item of a tuple is named in a path."""
    if isinstance(item, WeightedLoss):
        return registry.term_of(item.loss)
    return item.name if isinstance(item, Stream) else str(number)


def _setting(held: Any, key: str, types: Mapping[str, Any], where: str) -> str:
    if key not in types:
        raise UnknownNameError(
            f"{where or 'A recipe'} has no setting {key!r}{unknown_setting(where, key, types)}"
        )
    return key


def _each(keys: Iterable[str], make: Callable[[str], Any]) -> dict[str, Any]:
    """What is made of each key; all that is refused is raised together."""
    made, errors = {}, []
    for key in keys:
        try:
            made[key] = make(key)
        except RecipeError as error:
            errors.append(error)
    raise_together(errors)
    return made


def _members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or a type alone."""
    return get_args(kind) if is_union(kind) else (kind,)


def _converted(value: Any, kind: Any, registry: Registry, where: str) -> Any:
    """A value of a type, of which a string may be the JSON; one that the type takes as it is stays a string.

    None may be written as Python writes it, too, `none`, where it is no text that the type takes.
    """
    if isinstance(value, str) and kind is not str:
        try:
            parsed = parse_json(value)
        except InvalidJSONError:
            try:
                return structure(value, kind, registry, where)
            except RecipeError:
                if value.lower() == "none" and NoneType in _members(kind):
                    return None
                raise
        try:
            return structure(parsed, kind, registry, where)
        except RecipeError:
            if str in _members(kind) or Path in _members(kind):
                return structure(value, kind, registry, where)
            raise
    return structure(value, kind, registry, where)
