"""Which types settings may have, and that every value of them comes back from JSON as it was."""

import json
import math
from collections.abc import Mapping
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import ClassVar, Literal, Optional, Union

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import RecipeError
from perceptio.interfaces import ComponentConfig, DepthConvention, DepthTokenizerConfig
from perceptio.registry import Registry
from perceptio.serialize import structure, to_json
from perceptio.setting_types import FrozenMapping, described, problems, unsupported
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig

REGISTRY = Registry.discover()
FINITE = st.floats(allow_nan=False, allow_infinity=False)


class Mode(StrEnum):
    SOFT = "soft"
    HARD = "hard"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Fraction(Enum):
    HALF = 0.5


@attrs.frozen(kw_only=True)
class Inner:
    where: Path
    values: list[int] = attrs.Factory(list)


VALUES = {
    bool: st.booleans(),
    int: st.integers(),
    float: FINITE,
    str: st.text(),
    Path: st.sampled_from([Path("a/b"), Path("/c")]),
    int | float: st.integers() | FINITE,
    float | None: st.none() | FINITE,
    Optional[int]: st.none() | st.integers(),  # noqa: UP045 (older spellings are read, too)
    Union[bool, str]: st.booleans() | st.text(),  # noqa: UP007
    int | str | None: st.none() | st.integers() | st.text(),
    Literal["a", 1, True, None]: st.sampled_from(["a", 1, True, None]),
    Literal["auto"] | float: st.just("auto") | FINITE,
    Mode: st.sampled_from(Mode),
    Level: st.sampled_from(Level),
    Color | None: st.none() | st.sampled_from(Color),
    list[int]: st.lists(st.integers()),
    tuple[float, ...]: st.lists(FINITE).map(tuple),
    tuple[int, str]: st.tuples(st.integers(), st.text()),
    int | tuple[int, int]: st.integers() | st.tuples(st.integers(), st.integers()),
    dict[str, int]: st.dictionaries(st.text(), st.integers()),
    Mapping[str, list[int]]: st.dictionaries(st.text(), st.lists(st.integers())).map(FrozenMapping),
    Inner: st.builds(Inner, where=st.just(Path("x")), values=st.lists(st.integers())),
    Inner | str: st.text() | st.just(Inner(where=Path("y"))),
    FSQDepthConfig | VQVAEDepthConfig: st.sampled_from([FSQDepthConfig(), VQVAEDepthConfig()]),
    DepthTokenizerConfig | None: st.sampled_from([None, FSQDepthConfig(levels=(4, 4))]),
    DepthConvention: st.just(DepthConvention(near_m=1.0, far_m=2.0)),
}


@pytest.mark.parametrize("kind", VALUES, ids=described)
@given(data=st.data())
def test_what_is_written_is_read_as_it_was(kind, data):
    value = data.draw(VALUES[kind])
    assert unsupported(kind) is None and not list(problems(value, kind, "it"))
    document = json.loads(json.dumps(to_json(value, REGISTRY)))
    back = structure(document, kind, REGISTRY)
    assert back == value and type(back) is type(value)


class Handle:
    """No type of ours."""


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (object, "object is none of bool, int, float"),
        (Handle, "Handle is none of"),
        (tuple, "tuple is none of"),
        (list[Handle], "Handle is none of"),
        (dict[int, str], "the keys of dict.int, str. are no strings"),
        (set[int], r"set\[int\] is none of"),
        (Fraction, "Fraction is an enum of other values"),
        (Literal[b"a"], "has values that JSON cannot tell apart"),
        (str | Path, "str and Path look alike in JSON"),
        (Mode | Path, "look alike in JSON"),
        (list[int] | tuple[int, ...], "look alike in JSON"),
        (DepthConvention | Inner, "a DepthConvention and an Inner look alike"),
    ],
)
def test_what_json_could_not_say_is_refused(kind, reason):
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(unsupported(kind))


@pytest.mark.parametrize(
    ("document", "kind", "message"),
    [
        (True, int, "it is True; it must be int"),
        (1.5, int, "it is 1.5; it must be int"),
        ("1", int | float, "it is '1'; it must be int or a finite number"),
        (math.nan, float, "it is nan; it must be a finite number"),
        (math.inf, int | float, "it is inf; it must be a finite number"),
        (1, Literal[True], "it is 1; it must be True"),
        ("loud", Mode, "it is 'loud'; it must be 'soft' or 'hard'"),
        (3, Path, "it is 3; it must be Path"),
        ({"a": "b"}, dict[str, int], "it.a is 'b'; it must be int"),
        (
            [1, "b", None],
            list[int],
            "2 things are wrong:\n  1. it.1 is 'b'; it must be int.\n  2. it.2 is None",
        ),
        ({"where": "x", "values": [0.5]}, Inner | str, r"it.values.0 is 0.5; it must be int"),
        ("fsqq", DepthTokenizerConfig | None, "no depth component 'fsqq'; did you mean 'fsq'"),
    ],
)
def test_what_is_of_another_type_is_refused_where_it_is(document, kind, message):
    with pytest.raises(RecipeError, match=message):
        structure(document, kind, REGISTRY, "it")


def test_class_variables_are_no_settings():
    @attrs.frozen(kw_only=True)
    class Config(ComponentConfig):
        name: ClassVar[str] = "x"
        anything: ClassVar[object] = object()

    assert unsupported(Config) is None


@given(held=st.dictionaries(st.text(), st.integers()))
def test_a_frozen_mapping_is_a_value(held):
    frozen = FrozenMapping(held)
    assert frozen == held == FrozenMapping(dict(reversed(held.items()))) and len(frozen) == len(held)
    assert hash(frozen) == hash(FrozenMapping(dict(reversed(held.items()))))
    assert {**frozen} == held and not hasattr(frozen, "__setitem__")
