"""Changes of a value by paths of settings: all at once, with all problems in one error."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import attrs

from perceptio.errors import RecipeError, UnknownNameError, near_miss
from perceptio.interfaces import ComponentConfig, LossConfig
from perceptio.ops.json_files import InvalidJSONError, parse_json
from perceptio.recipe import Stream, WeightedLoss
from perceptio.registry import Registry
from perceptio.serialize import raise_together, refusals, structure, unknown_setting
from perceptio.setting_types import field_types, is_mapping, is_union

_KEPT: Any = object()


@attrs.define
class Change:
    """The changes of a value: a replacement, or changes inside of it, or both in this order."""

    value: Any = _KEPT
    inner: dict[str, "Change"] = attrs.Factory(dict)

    def add(self, path: Sequence[str], value: Any) -> None:
        """Set the value at a path."""
        if path:
            self.inner.setdefault(path[0], Change()).add(path[1:], value)
        else:
            self.value = value


def changed(held: Any, change: Change, kind: Any, registry: Registry, where: str) -> Any:
    """Return `held` changed; `kind` is the type that its place requires. Settings of one config change at once.

    Raises:
        RecipeError: All problems.
    """
    if change.value is not _KEPT:
        held = _exchanged(held, change.value, converted(change.value, kind, registry, where), where)
    if not change.inner:
        return held
    if attrs.has(type(held)):
        return _config(held, change.inner, registry, where)
    if isinstance(held, Mapping):
        return _mapping(held, change.inner, kind, registry, where)
    if isinstance(held, tuple | list):
        return _sequence(held, change.inner, kind, registry, where)
    raise UnknownNameError(f"{where} is {held!r} and has no setting {next(iter(change.inner))!r}.")


def _exchanged(former: Any, given: Any, new: Any, where: str) -> Any:
    """Return `new`; a component that is `given` by its name alone keeps the settings that `former` has, too.

    A setting is the same if its name and type are. Trained weights are not kept: they fit one component.
    """
    by_name = isinstance(given, str) and not given.lstrip().startswith("{")
    if not (by_name and isinstance(new, ComponentConfig) and isinstance(former, ComponentConfig)):
        return new
    if type(new) is type(former):
        return former
    own, types = field_types(type(former)), field_types(type(new))
    kept = {
        field.name: getattr(former, field.name)
        for field in attrs.fields(type(new))
        if own.get(field.name) == types[field.name] and field.metadata.get("fingerprint", True) is True
    }
    with refusals(where, "The recipe"):
        return attrs.evolve(new, **kept)


def _config(held: Any, inner: Mapping[str, Change], registry: Registry, where: str) -> Any:
    """Return a config with fields changed."""
    types = field_types(type(held))
    if isinstance(held, WeightedLoss):
        # `losses.segmentation_dice.sampling` needs no `.loss`.
        of_loss = {key: change for key, change in inner.items() if key in field_types(type(held.loss))}
        inner = {key: change for key, change in inner.items() if key not in of_loss}
        if of_loss:
            loss = changed(held.loss, Change(inner=of_loss), LossConfig, registry, where)
            held = attrs.evolve(held, loss=loss)

    def field(key: str) -> Any:
        own = getattr(held, _setting(held, key, types, where))
        return changed(own, inner[key], types[key], registry, f"{where}.{key}".lstrip("."))

    values = each(inner, field)
    with refusals(where, "The recipe"):
        return attrs.evolve(held, **values)


def _mapping(
    held: Mapping[str, Any], inner: Mapping[str, Change], kind: Any, registry: Registry, where: str
) -> dict[str, Any]:
    """Return a mapping with entries changed or added, by key."""
    item = next(get_args(one)[1] for one in _members(kind) if is_mapping(one))

    def entry(key: str) -> Any:
        if key not in held and inner[key].inner:
            raise UnknownNameError(f"{where} has no entry {key!r}{near_miss(key, held)}")
        return changed(held.get(key), inner[key], item, registry, f"{where}.{key}")

    return {**held, **each(inner, entry)}


def _sequence(
    held: tuple[Any, ...] | list[Any],
    inner: Mapping[str, Change],
    kind: Any,
    registry: Registry,
    where: str,
) -> tuple[Any, ...] | list[Any]:
    """Return a tuple or a list with items changed, by name or number."""
    names = [_name_of(one, number, registry) for number, one in enumerate(held)]
    members = get_args(next(one for one in _members(kind) if get_origin(one) is type(held)))
    any_length = isinstance(held, list) or Ellipsis in members

    def element(key: str) -> Any:
        if key not in names:
            raise UnknownNameError(f"{where} has no item {key!r}{unknown_setting(where, key, names)}")
        number = names.index(key)
        item = members[0] if any_length else members[number]
        return changed(held[number], inner[key], item, registry, f"{where}.{key}")

    values = each(inner, element)
    return type(held)(values.get(name, one) for name, one in zip(names, held, strict=True))


def _name_of(item: Any, number: int, registry: Registry) -> str:
    """Return the name of a tuple's item in a path."""
    if isinstance(item, WeightedLoss):
        return registry.term_of(item.loss)
    return item.name if isinstance(item, Stream) else str(number)


def _setting(held: Any, key: str, types: Mapping[str, Any], where: str) -> str:
    if key not in types:
        raise UnknownNameError(
            f"{where or 'A recipe'} has no setting {key!r}{unknown_setting(where, key, types)}"
        )
    return key


def each(keys: Iterable[str], make: Callable[[str], Any]) -> dict[str, Any]:
    """Return the result of `make` for each key; raise all errors together."""
    made, errors = {}, []
    for key in keys:
        try:
            made[key] = make(key)
        except RecipeError as error:
            errors.append(error)
    raise_together(errors)
    return made


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, or a type alone."""
    return get_args(kind) if is_union(kind) else (kind,)


def converted(value: Any, kind: Any, registry: Registry, where: str) -> Any:
    """Return a value of a type, parsing a string as JSON; a string that the type accepts stays a string.

    None may also be written as `None` or `none`, if the type does not accept such a text.
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
