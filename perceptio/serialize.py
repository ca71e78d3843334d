"""Serialization of recipes and configs to JSON and back, and their fingerprints.

Components are referred to by name, never by import path. A component is an object with the key `component`, such as
`{"component": "depth:vqvae", "codebook_size": 128, …}`, or just its name. All other values follow
`perceptio.setting_types`. Reading is strict: unknown keys and values of another type are refused, all of them in one
message.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import attrs

from perceptio import earlier
from perceptio.errors import PerceptioError, RecipeError, UnknownNameError, near_miss, quoted
from perceptio.hookspecs import HOOKS
from perceptio.interfaces import ComponentConfig, Kind
from perceptio.ops.identity import hash_of_files
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.setting_types import (
    COMPONENT,
    FrozenMapping,
    described,
    field_types,
    is_enum,
    is_mapping,
    is_settings,
    is_union,
    problems,
)


def to_json(value: Any, registry: Registry | None = None) -> Any:
    """Return a recipe or a config as dictionaries, lists, strings and numbers.

    Args:
        value: A recipe, a component's config, or any part of them.
        registry: The registry for the names of components; None: `Registry.discover`.

    Raises:
        UnknownNameError: A component is not registered.
    """
    return _unstructured(value, registry or Registry.discover(), lambda field, held: held)


def from_json(document: Any, registry: Registry | None = None) -> Any:
    """Return the component config, or otherwise the recipe, that a document describes; the inverse of `to_json`.

    A recipe of an earlier version is translated by `perceptio.earlier`.

    Raises:
        UnknownNameError: It names a component or a setting that does not exist.
        RecipeError: A value is missing or of another type, or does not fit the others.
    """
    target = ComponentConfig if isinstance(document, Mapping) and COMPONENT in document else Recipe
    of_format_1 = target is Recipe and isinstance(document, Mapping) and "streams" not in document
    if target is Recipe and isinstance(document, Mapping):
        document = earlier.current_recipe(document)
    value = structure(document, target, registry or Registry.discover())
    if isinstance(value, Recipe):
        if of_format_1:
            earlier.check_ids(value)
        value.check()
    return value


def unknown_setting(where: str, key: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown setting of a recipe: its present name, or a close match."""
    return earlier.now_called(f"{where}.{key}".lstrip(".")) or near_miss(key, known)


def component(name: str, /, **settings: Any) -> Any:
    """Return the config of a component by its name, for recipe files: `component("depth:bins/bins", bins=64)`.

    Args:
        name: `kind:name`, as listed by `perceptio components`.
        **settings: Settings, checked like JSON; configs and other attrs values are used unchanged.

    Raises:
        UnknownNameError: There is no such component or setting.
        RecipeError: A setting is of another type, missing, or refused by the config.
        PluginError: It belongs to a plugin that was set aside.
    """
    return structure({COMPONENT: name, **settings}, ComponentConfig, Registry.discover())


def fingerprint(value: Any, registry: Registry | None = None) -> str:
    """Return 16 hexadecimal digits that identify a recipe on any machine: a hash of `identity_of`."""
    document = identity_of(value, registry)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def identity_of(value: Any, registry: Registry | None = None, *, defaults: bool = True) -> Any:
    """Return a recipe or a config as `to_json` does, with the content of files instead of their location.

    A setting that names trained weights (field metadata `{"fingerprint": False}`) counts by a hash of its content,
    never by its path. A setting that only gives the location of files (`{"fingerprint": "ignore"}`) does not count.

    Args:
        value: The recipe or config.
        registry: The registry for the names of components; None: `Registry.discover`.
        defaults: Whether to include settings at their declared default. Without them, a setting that is declared
            later and left at its default changes nothing.
    """

    def identity(field: "attrs.Attribute[Any]", held: Any) -> Any:
        if field.metadata.get("fingerprint") == "ignore":
            return None
        return held if field.metadata.get("fingerprint", True) or held is None else hash_of_files(held)

    registry = registry or Registry.discover()
    # Through JSON, 1 becomes 1.0 if the type requires it, so that a value that is read back has the same identity.
    target = ComponentConfig if isinstance(value, ComponentConfig) else type(value)
    return _unstructured(structure(to_json(value, registry), target, registry), registry, identity, defaults)


def structure(document: Any, target: Any, registry: Registry, where: str = "") -> Any:
    """Return a value of a type from plain JSON values, strictly: only integers are converted, to floats.

    Args:
        document: Dictionaries, lists, strings, numbers, booleans, None. Configs and other attrs values of the type
            are used unchanged.
        target: A type, as in an annotation of a config.
        registry: The registry for the names of components.
        where: The path to this value, for messages.

    Raises:
        UnknownNameError: A component or a setting does not exist.
        RecipeError: Values are missing, of another type, or refused by their config; the message lists all.
    """
    origin, arguments = get_origin(target), get_args(target)
    if attrs.has(type(document)) or isinstance(document, Enum | Path):
        found = list(problems(document, target, where))
        if found:
            raise RecipeError(*found)
        return document
    if is_union(target):
        return _one_of(document, arguments, registry, where)
    if is_settings(target):
        return _config(document, target, registry, where)
    if origin in (tuple, list):
        return _sequence(document, target, registry, where)
    if is_mapping(target) and isinstance(document, Mapping):
        values = _all_of({key: (held, arguments[1]) for key, held in document.items()}, registry, where)
        return values if origin is dict else FrozenMapping(values)
    if is_enum(target):
        found = [one for one in target if type(one.value) is type(document) and one.value == document]
        if found:
            return found[0]
    if target is Path and isinstance(document, str):
        return Path(document)
    wrong = list(problems(document, target, where))
    if wrong:
        raise RecipeError(*wrong)
    return float(document) if target is float else document


def _all_of(parts: Mapping[Any, tuple[Any, Any]], registry: Registry, where: str) -> dict[Any, Any]:
    """Return the values of several documents, each with its type.

    Raises:
        RecipeError: All problems with any of them.
    """
    values, errors = {}, []
    for key, (held, target) in parts.items():
        try:
            values[key] = structure(held, target, registry, f"{where}.{key}".lstrip("."))
        except RecipeError as error:
            errors.append(error)
    raise_together(errors)
    return values


def raise_together(errors: Sequence[RecipeError]) -> None:
    """Raise one error unchanged, and several as one that lists all problems."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise RecipeError(*(problem for error in errors for problem in error.problems))


def _one_of(document: Any, members: tuple[Any, ...], registry: Registry, where: str) -> Any:
    """Return the value of a union, of the member whose JSON looks like the document."""
    if document is None and NoneType in members:
        return None
    exact = [one for one in members if type(document) is one]
    errors = []
    for one in exact or [one for one in members if one is not NoneType]:
        try:
            return structure(document, one, registry, where)
        except RecipeError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    # If the document as a whole looks like one of them, the problem is in its parts.
    whole = f"{where or 'The value'} is "
    inside = [error for error in errors if not error.problems[0].startswith(whole)]
    if inside:
        raise inside[0]
    wanted = " or ".join(described(one) for one in members)
    raise RecipeError(f"{where or 'The value'} is {quoted(document)}; it must be {wanted}.")


def _config(document: Any, target: type, registry: Registry, where: str) -> Any:
    if issubclass(target, ComponentConfig):
        if isinstance(document, str):
            full = document if ":" in document else f"{_kind_of(document, target, registry)}:{document}"
            document = {COMPONENT: full}
        if isinstance(document, Mapping):
            target, document = _component_of(document, target, registry, where)
    elif not isinstance(document, Mapping):
        document = _alone(document, target)
    if not isinstance(document, Mapping):
        raise RecipeError(f"{where or 'The value'} is {quoted(document)}; it must be {described(target)}.")
    retired = getattr(target, "retired", {})
    types, parts = field_types(target), {}
    errors: list[RecipeError] = []
    for key, held in document.items():
        if key in types:
            parts[key] = (held, types[key])
        elif key not in retired:
            of_recipe = where or target is Recipe
            end = unknown_setting(where, str(key), types) if of_recipe else near_miss(str(key), types)
            errors.append(UnknownNameError(f"{where or target.__name__} has no setting {quoted(key)}{end}"))
    try:
        values = _all_of(parts, registry, where)
    except RecipeError as error:
        errors.append(error)
    raise_together(errors)
    missing = [name for name in _mandatory(target) if name not in values]
    if missing:
        raise RecipeError(f"{where or target.__name__} is incomplete: it has no {', '.join(missing)}.")
    with refusals(where, target.__name__):
        return target(**values)


@contextmanager
def refusals(where: str, name: str) -> Iterator[None]:
    """Turn any exception of a config about its settings into a sentence with their location.

    Args:
        where: The path of the settings; "" if they are the whole document.
        name: The name of the whole document.

    Raises:
        RecipeError: The config refuses its settings, or cannot process them.
    """
    try:
        yield
    except RecipeError as error:
        if not where or type(error) is not RecipeError:
            raise
        raise RecipeError(*(f"{where}: {problem}" for problem in error.problems)) from error
    except PerceptioError:
        raise
    except ValueError as error:
        raise RecipeError(f"{where or name}: {error}") from error
    except Exception as error:
        raise RecipeError(f"{where or name} has settings that cannot be worked with: {error!r}.") from error


def _component_of(
    document: Mapping[str, Any], target: type, registry: Registry, where: str
) -> tuple[type, dict[str, Any]]:
    """Return the config class that a document names, and its settings."""
    settings = dict(document)
    full = settings.pop(COMPONENT, None)
    kind, _, name = str(full).partition(":")
    if kind not in list(Kind) or not name:
        raise RecipeError(
            f"{where or 'It'} names the component {quoted(full)}; it must be kind:name, where the kind is one of "
            f"{', '.join(Kind)}."
        )
    if name not in registry.names(Kind(kind)) and (now := earlier.current_component(full)):
        raise UnknownNameError(f"{where or 'It'} is the component {full}, which is called {now}.")
    found = registry.get(Kind(kind), name)
    if not issubclass(found, target):
        raise RecipeError(f"{where or 'It'} is the component {full}; it must be {described(target)}.")
    return found, settings


def _alone(document: Any, target: type) -> Any:
    """Expand a bare value for a type with a single mandatory setting, such as a path for a data folder."""
    mandatory = _mandatory(target)
    return {mandatory[0]: document} if len(mandatory) == 1 else document


def _mandatory(target: type) -> list[str]:
    return [field.name for field in attrs.fields(target) if field.default is attrs.NOTHING]


def _kind_of(name: str, base: type[ComponentConfig], registry: Registry) -> Kind:
    """Return the kind of a component that is given by name only, where configs of a class are expected.

    Raises:
        UnknownNameError: Several kinds are possible here, and none or more than one of them has this name.
    """
    kinds = [kind for kind, (_, known) in HOOKS.items() if issubclass(known, base)]
    if not kinds:
        return next(kind for kind, (_, known) in HOOKS.items() if issubclass(base, known))
    having = [kind for kind in kinds if name in registry.names(kind)]
    if len(kinds) == 1 or len(having) == 1 or registry.why_missing(name) is not None:
        return (having or kinds)[0]
    if having:
        full = " or ".join(f"{kind}:{name}" for kind in having)
        raise UnknownNameError(f"{quoted(name)} is the name of several components: write {full}.")
    known = [one for kind in kinds for one in registry.names(kind)]
    raise UnknownNameError(
        f"There is no {' or '.join(kinds)} component {quoted(name)}{near_miss(name, known)}"
    )


def _sequence(document: Any, target: Any, registry: Registry, where: str) -> Any:
    origin, arguments = get_origin(target), get_args(target)
    any_length = origin is list or arguments[-1] is Ellipsis
    if not isinstance(document, list | tuple) or not (any_length or len(document) == len(arguments)):
        count = "any number of" if any_length else len(arguments)
        raise RecipeError(
            f"{where or 'The value'} is {quoted(document)}; it must be a list of {count} values."
        )
    types = [arguments[0]] * len(document) if any_length else arguments
    parts = {number: (held, one) for number, (held, one) in enumerate(zip(document, types, strict=True))}
    return origin(_all_of(parts, registry, where).values())


def _is_set(field: "attrs.Attribute[Any]", held: Any) -> bool:
    """Return whether a setting counts and differs from its default; named weights do, whatever their name."""
    counts, default, converter = field.metadata.get("fingerprint", True), field.default, field.converter
    if counts == "ignore":
        return False
    if default is attrs.NOTHING or (counts is False and held is not None):
        return True
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()  # type: ignore[union-attr]
    if callable(converter):
        default = converter(default)
    return bool(held != default) or isinstance(held, bool) != isinstance(default, bool)


def _unstructured(
    value: Any,
    registry: Registry,
    identity: Callable[["attrs.Attribute[Any]", Any], Any],
    defaults: bool = True,
) -> Any:
    if attrs.has(type(value)):
        named = (
            {COMPONENT: f"{value.kind}:{registry.name_of(value)}"}
            if isinstance(value, ComponentConfig)
            else {}
        )
        settings = [(field, getattr(value, field.name)) for field in attrs.fields(type(value))]
        return named | {
            field.name: _unstructured(identity(field, held), registry, identity, defaults)
            for field, held in settings
            if defaults or _is_set(field, held)
        }
    if isinstance(value, Mapping):
        return {key: _unstructured(held, registry, identity, defaults) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return [_unstructured(held, registry, identity, defaults) for held in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
