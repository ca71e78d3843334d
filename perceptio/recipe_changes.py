"""The differences between two recipes, setting by setting, computed from the documents that `to_json` returns.

Comparing documents instead of recipes also supports a run's `recipe.json` whose plugins are not installed. Settings
are identified by paths as for `--set`.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import attrs

from perceptio.setting_types import COMPONENT

NAMED = ("streams", "losses")
"""Lists of a recipe whose items have names instead of numbers in a path."""
_ABSENT: Any = object()


@attrs.frozen(kw_only=True)
class Change:
    """A setting or a part in which two recipes differ.

    Attributes:
        path: The path, as for `--set`, such as `streams.depth.tokenizer.codebook_size`.
        first: The first recipe's value: text unchanged, a part by its component, anything else as JSON; None: it has
            no such setting.
        second: The second recipe's value.
    """

    path: str
    first: str | None
    second: str | None

    def shown(self, longest: int, *, absent: str) -> tuple[str, str]:
        """Return both values; of long ones only the parts that differ, at most `longest` characters."""
        if self.first is None or self.second is None:
            known = self.first or self.second or ""
            cut = known if len(known) <= longest else f"{known[:longest]}…"
            return (absent, cut) if self.first is None else (cut, absent)
        return _distinct_parts(self.first, self.second, longest)


def changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    """Return the settings that differ between two recipes' documents, in the order of the first, except their names.

    A part that only one recipe has gives a single entry. A part with different components gives an entry for the
    component, and entries for the settings.
    """
    return [one for one in _changes("", first, second) if one.path != "name"]


def _distinct_parts(first: str, second: str, longest: int) -> tuple[str, str]:
    """Return two texts; if one is longer than `longest` characters, without their common beginning and end."""
    if max(len(first), len(second)) <= longest:
        return first, second
    start = _common(first, second)
    rest = first[start:], second[start:]
    end = _common(rest[0][::-1], rest[1][::-1])
    parts = [text[: len(text) - end] for text in rest]
    one, other = (
        f"{'…' * (start > 0)}{part[:longest]}{'…' * (end > 0 or len(part) > longest)}" for part in parts
    )
    return one, other


def _common(first: str, second: str) -> int:
    """Return the number of characters at the beginning that two texts share."""
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in alike)


def _changes(path: str, first: Any, second: Any) -> Iterator[Change]:
    if first == second and type(first) is type(second):
        return
    if path in NAMED and isinstance(first, list) and isinstance(second, list):
        first, second = _by_name(first), _by_name(second)
        shared = [[name for name in one if name in first and name in second] for one in (first, second)]
        if shared[0] != shared[1]:
            yield Change(path=f"{path}, in order", first=", ".join(first), second=", ".join(second))
    if _of_settings(first) and _of_settings(second):
        first, second = (dict(enumerate(one)) for one in (first, second))
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        yield Change(path=path, first=_said(first), second=_said(second))
        return
    if first.get(COMPONENT) != second.get(COMPONENT):
        yield Change(path=path, first=_said(first), second=_said(second))
    for key in dict.fromkeys((*first, *second)):
        if key != COMPONENT:
            inner = f"{path}.{key}".lstrip(".")
            yield from _changes(inner, first.get(key, _ABSENT), second.get(key, _ABSENT))


def terms(document: Mapping[str, Any]) -> list[str]:
    """Return the names of the losses of a recipe's document, as used in its log."""
    return list(_by_name(document.get("losses", [])))


def _by_name(items: list[Any]) -> dict[str, Any]:
    """Return streams by name, and losses by term; paths of a loss's settings need no `loss`."""
    named = {}
    for item in items:
        if "loss" not in item:
            named[item["name"]] = {key: value for key, value in item.items() if key != "name"}
            continue
        plugin, slash, name = item["loss"][COMPONENT].partition(":")[2].rpartition("/")
        stream = item["loss"].get("stream")
        term = f"{plugin}{slash}{f'{stream}_' if stream else ''}{name}"
        named[term] = {**item["loss"], "weight": item["weight"]}
    return named


def _of_settings(value: Any) -> bool:
    """Return whether a value is a list of settings, whose items are compared one by one."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _said(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if COMPONENT in value:
            weight = f", weight {value['weight']:g}" if "weight" in value else ""
            return f"{value[COMPONENT]}{weight}"
        if "tokenizer" in value:  # A stream.
            return _said(value["tokenizer"])
    return json.dumps(value, ensure_ascii=False)
