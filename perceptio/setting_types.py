"""The types that settings may have, and whether a value has its type.

| type | in JSON |
|---|---|
| `bool`, `int`, `float`, `str`, `None` | the same; floats accept integers, and must be finite |
| `Path` | a string |
| `Literal[...]`, enums of strings or of integers | their values |
| `tuple[X, ...]`, `tuple[X, Y]`, `list[X]` | a list |
| `Mapping[str, X]`, `dict[str, X]` | an object |
| another attrs class | an object of its settings |
| a component's config | the same, with the key `component` |
| unions of these | one of them; the JSON must show which one |
"""

import math
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from perceptio.errors import quoted
from perceptio.interfaces import ComponentConfig

COMPONENT = "component"
"""The key for the component's name in a config's JSON; no setting can have this name."""
SUPPORTED = (
    "bool, int, float, str, None, Path, Literal, enums of strings or whole numbers, tuple[X, ...], list[X], "
    "Mapping[str, X], dict[str, X], attrs classes, and unions of these"
)


class FrozenMapping(Mapping[str, Any]):
    """An immutable mapping that can be hashed, copied and pickled."""

    __slots__ = ("_held",)

    def __init__(self, held: Mapping[str, Any]) -> None:
        self._held = dict(held)

    def __getitem__(self, key: str) -> Any:
        return self._held[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __hash__(self) -> int:
        return hash(frozenset(self._held.items()))

    def __repr__(self) -> str:
        return repr(self._held)


def is_union(kind: Any) -> bool:
    """Whether a type is a union, however it is written."""
    return get_origin(kind) in (Union, types.UnionType)


def is_mapping(kind: Any) -> bool:
    """Whether a type is a mapping with stated keys and values."""
    return get_origin(kind) in (Mapping, dict)


def is_settings(kind: Any) -> bool:
    """Whether a type is an attrs class, whose settings are checked one by one."""
    return isinstance(kind, type) and attrs.has(kind)


def is_enum(kind: Any) -> bool:
    """Whether a type is an enum."""
    return isinstance(kind, type) and issubclass(kind, Enum)


def field_types(kind: type) -> dict[str, Any]:
    """The type of every setting of an attrs class, annotations in quotation marks resolved.

    Raises:
        NameError: An annotation names what its module does not know when it runs.
    """
    attrs.resolve_types(kind)
    return {field.name: field.type for field in attrs.fields(kind)}


def described(kind: Any) -> str:
    """A type in words, for the end of "it must be"."""
    if is_union(kind):
        return " or ".join(described(one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if is_enum(kind):
        return " or ".join(repr(one.value) for one in kind)
    if kind in (None, types.NoneType):
        return "None"
    if is_settings(kind):
        return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"
    if kind is float:
        return "a finite number"
    if get_origin(kind) is None and isinstance(kind, type):
        return kind.__name__
    return str(kind).replace("collections.abc.", "").replace("pathlib.", "")


# -- which types there are ----------------------------------------------------------------------------------------


def unsupported(kind: Any) -> str | None:
    """Why settings cannot be of a type; None where they can."""
    return next(_unsupported(kind, frozenset()), None)


def _unsupported(kind: Any, seen: frozenset[Any]) -> Iterator[str]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in (bool, int, float, str, Path, None, types.NoneType):
        return
    if origin is Literal:
        if not all(one is None or isinstance(one, bool | int | str) for one in arguments):
            yield f"{described(kind)} has values that JSON cannot tell apart"
    elif is_enum(kind):
        if not any(all(type(one.value) is value for one in kind) for value in (str, int)) or not list(kind):
            yield f"{kind.__name__} is an enum of other values than strings or whole numbers"
    elif is_settings(kind):
        if kind not in seen:
            yield from _unsupported_settings(kind, seen | {kind})
    elif origin in (tuple, list) and arguments:
        for one in arguments:
            if one is not Ellipsis:
                yield from _unsupported(one, seen)
    elif is_mapping(kind):
        if arguments[0] is not str:
            yield f"the keys of {described(kind)} are no strings"
        yield from _unsupported(arguments[1], seen)
    elif is_union(kind):
        for one in arguments:
            yield from _unsupported(one, seen)
        yield from _ambiguous(kind)
    else:
        yield f"{described(kind)} is none of {SUPPORTED}"


def _unsupported_settings(kind: type, seen: frozenset[Any]) -> Iterator[str]:
    try:
        held = field_types(kind)
    except Exception as error:
        yield f"the annotations of {kind.__name__} cannot be read ({error!r})"
        return
    for field in attrs.fields(kind):
        where = f"{kind.__name__}.{field.name}"
        if field.type is None:
            yield f"{where} has no annotation"
        elif not field.init or field.alias != field.name:
            yield f"{where} cannot be given by its name, so that what is written could not be read back"
        else:
            yield from (f"{where}: {reason}" for reason in _unsupported(held[field.name], seen))


def _ambiguous(kind: Any) -> Iterator[str]:
    """Two members of a union that look alike in JSON, so that what was written would be read as the other."""
    looks: dict[str, Any] = {}
    for one in get_args(kind):
        look = _look(one)
        if look in looks:
            yield (
                f"{described(looks[look])} and {described(one)} look alike in JSON, so that {described(kind)} could "
                "be read as the wrong one"
            )
        if look is not None:
            looks[look] = one


def _look(kind: Any) -> str | None:
    """What a type looks like in JSON, where that could be mistaken for another."""
    if kind in (str, Path) or (is_enum(kind) and all(isinstance(one.value, str) for one in kind)):
        return "string"
    if kind is int or is_enum(kind):
        return "whole number"
    if get_origin(kind) in (tuple, list):
        return "list"
    plain = is_settings(kind) and not issubclass(kind, ComponentConfig)
    return "object" if plain or is_mapping(kind) else None


# -- whether a value is of its type -------------------------------------------------------------------------------


def problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    """What is wrong with a value as one of a type, all through its settings: a sentence each.

    Args:
        value: The value.
        kind: A type as it stands in an annotation.
        where: The path to the value, for messages.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if is_union(kind):
        yield from _union_problems(value, kind, where)
    elif is_settings(kind):
        yield from _settings_problems(value, kind, where)
    elif origin in (tuple, list):
        any_length = origin is list or arguments[-1] is Ellipsis
        if not isinstance(value, origin) or not (any_length or len(value) == len(arguments)):
            yield _wrong(value, kind, where)
            return
        for number, held in enumerate(value):
            one = arguments[0] if any_length else arguments[number]
            yield from problems(held, one, f"{where}.{number}")
    elif is_mapping(kind):
        if not isinstance(value, origin):
            yield _wrong(value, kind, where)
            return
        for key, held in value.items():
            if isinstance(key, str):
                yield from problems(held, arguments[1], f"{where}.{key}")
            else:
                yield f"{where} has the key {quoted(key)}; keys must be strings."
    elif kind is Any:
        return
    elif not _is_of(value, kind):
        yield _wrong(value, kind, where)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{where} is {value}; it must be a finite number."


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value without parts is of a type."""
    if kind in (None, types.NoneType):
        return value is None
    if get_origin(kind) is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def _union_problems(value: Any, kind: Any, where: str) -> Iterator[str]:
    found = {one: list(problems(value, one, where)) for one in get_args(kind)}
    if all(found.values()):
        # Where the value is one of them as a whole, what is wrong lies in its parts.
        inside = [own for one, own in found.items() if own != [_wrong(value, one, where)]]
        yield from inside[0] if inside else [_wrong(value, kind, where)]


def _settings_problems(value: Any, kind: type, where: str) -> Iterator[str]:
    if not isinstance(value, kind):
        yield _wrong(value, kind, where)
        return
    try:
        held = field_types(type(value))
    except Exception as error:
        yield f"{where or type(value).__name__}: its annotations cannot be read ({error!r})."
        return
    for name, one in held.items():
        yield from problems(getattr(value, name), one, f"{where}.{name}".lstrip("."))


def _wrong(value: Any, kind: Any, where: str) -> str:
    subject = where or "The value"
    if isinstance(value, type) and is_settings(kind) and issubclass(value, kind):
        return f"{subject} is the class {value.__name__}; give one of its values: {value.__name__}(…)."
    return f"{subject} is {quoted(value)}; it must be {described(kind)}."
