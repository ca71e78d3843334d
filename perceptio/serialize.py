"""Recipes and configs as JSON and back, and their fingerprints. Components are named, never imported by path.

A component is an object with the key `component`, such as `{"component": "depth:vqvae", "codebook_size": 128, …}`;
every other value is what its type says. Reading is strict: unknown keys and values of another type are refused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from perceptio.errors import PerceptioError, RecipeError, UnknownNameError, near_miss
from perceptio.hookspecs import HOOKS
from perceptio.interfaces import ComponentConfig, Kind
from perceptio.ops.identity import hash_of_files
from perceptio.recipe import Recipe
from perceptio.registry import Registry

COMPONENT = "component"


def to_json(value: Any, registry: Registry | None = None) -> Any:
    """A recipe or a config as dictionaries, lists, strings and numbers.

    Args:
        value: A recipe, a component's config, or any part of them.
        registry: Where components' names are looked up; None: built-ins and installed plugins.

    Raises:
        UnknownNameError: A component is not registered.
    """
    return _unstructured(value, registry or Registry.discover(), lambda field, held: held)


def from_json(document: Any, registry: Registry | None = None) -> Any:
    """The component config, or else the recipe, that a document describes; the inverse of `to_json`.

    Raises:
        UnknownNameError: It names a component or a setting that does not exist.
        RecipeError: A value is missing or of another type, or does not fit the others.
    """
    target = ComponentConfig if isinstance(document, Mapping) and COMPONENT in document else Recipe
    return structure(document, target, registry or Registry.discover())


def fingerprint(value: Any, registry: Registry | None = None) -> str:
    """Sixteen hexadecimal digits that tell two recipes apart, whatever the machine.

    A setting that names trained weights (field metadata `{"fingerprint": False}`) counts by a hash of what it names,
    never by its path; one that only says where files lie (`{"fingerprint": "ignore"}`) does not count.
    """

    def identity(field: "attrs.Attribute[Any]", held: Any) -> Any:
        if field.metadata.get("fingerprint") == "ignore":
            return None
        return held if field.metadata.get("fingerprint", True) or held is None else hash_of_files(held)

    registry = registry or Registry.discover()
    # From JSON a 1 is a 1.0 where the type says so: what is read back has the fingerprint of what was written.
    document = _unstructured(from_json(to_json(value, registry), registry), registry, identity)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def structure(document: Any, target: Any, registry: Registry, where: str = "") -> Any:
    """A value of a type from plain JSON values, strictly: nothing is converted but whole numbers to floats.

    Args:
        document: Dictionaries, lists, strings, numbers, booleans, None.
        target: A type as it stands in an annotation of a config.
        registry: Where components' names are looked up.
        where: The path to this value, for messages.

    Raises:
        UnknownNameError: A component or a setting does not exist.
        RecipeError: A value is missing, of another type, or refused by its config.
    """
    origin, arguments = get_origin(target), get_args(target)
    if origin in (Union, UnionType):
        if document is None and NoneType in arguments:
            return None
        (target,) = (one for one in arguments if one is not NoneType)
        return structure(document, target, registry, where)
    if isinstance(target, type) and attrs.has(target):
        return _config(document, target, registry, where)
    if origin is tuple:
        return _tuple(document, arguments, registry, where)
    if origin is Mapping and isinstance(document, Mapping):
        return {
            key: structure(held, arguments[1], registry, f"{where}.{key}") for key, held in document.items()
        }
    if origin is Literal and document in arguments:
        return document
    if target is float and isinstance(document, int) and not isinstance(document, bool):
        return float(document)
    if isinstance(target, type) and type(document) is target:
        return document
    wanted = (
        " or ".join(map(repr, arguments)) if origin is Literal else getattr(target, "__name__", str(target))
    )
    raise RecipeError(f"{where or 'The value'} is {document!r}; it must be {wanted}.")


def _config(document: Any, target: type[attrs.AttrsInstance], registry: Registry, where: str) -> Any:
    if isinstance(document, str) and issubclass(target, ComponentConfig):
        document = {COMPONENT: document if ":" in document else f"{_kind_of(target)}:{document}"}
    if not isinstance(document, Mapping):
        raise RecipeError(f"{where or 'The document'} is {document!r}; it must be a {target.__name__}.")
    settings = dict(document)
    if issubclass(target, ComponentConfig):
        full = settings.pop(COMPONENT, None)
        kind, _, name = str(full).partition(":")
        if kind not in list(Kind) or not name:
            raise RecipeError(
                f"{where or 'The document'} names the component {full!r}; it must be kind:name."
            )
        found = registry.get(Kind(kind), name)
        if not issubclass(found, target):
            raise RecipeError(f"{where} is the component {full}; it must be a {target.__name__}.")
        target = found
    for key in getattr(target, "retired", {}):
        settings.pop(key, None)
    attrs.resolve_types(target)
    fields = attrs.fields_dict(target)
    for key in settings:
        if key not in fields:
            raise UnknownNameError(
                f"{where or target.__name__} has no setting {key!r}{near_miss(key, fields)}"
            )
    values = {
        key: structure(held, fields[key].type, registry, f"{where}.{key}".lstrip("."))
        for key, held in settings.items()
    }
    try:
        return target(**values)
    except TypeError as error:
        raise RecipeError(f"{where or target.__name__} is incomplete: {error}.") from error
    except ValueError as error:
        if isinstance(error, PerceptioError):
            raise
        raise RecipeError(f"{where or target.__name__}: {error}") from error


def _kind_of(base: type[ComponentConfig]) -> Kind:
    return next(kind for kind, (_, known) in HOOKS.items() if known is base)


def _tuple(document: Any, arguments: tuple[Any, ...], registry: Registry, where: str) -> tuple[Any, ...]:
    any_length = len(arguments) == 2 and arguments[1] is Ellipsis
    if not isinstance(document, list | tuple) or not (any_length or len(document) == len(arguments)):
        count = "any number of" if any_length else len(arguments)
        raise RecipeError(f"{where} is {document!r}; it must be a list of {count} values.")
    types = [arguments[0]] * len(document) if any_length else arguments
    return tuple(
        structure(held, one, registry, f"{where}.{number}")
        for number, (held, one) in enumerate(zip(document, types, strict=True))
    )


def _unstructured(
    value: Any, registry: Registry, identity: Callable[["attrs.Attribute[Any]", Any], Any]
) -> Any:
    if attrs.has(type(value)):
        named = (
            {COMPONENT: f"{value.kind}:{registry.name_of(value)}"}
            if isinstance(value, ComponentConfig)
            else {}
        )
        return named | {
            field.name: _unstructured(identity(field, getattr(value, field.name)), registry, identity)
            for field in attrs.fields(type(value))
        }
    if isinstance(value, Mapping):
        return {key: _unstructured(held, registry, identity) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return [_unstructured(held, registry, identity) for held in value]
    return value
