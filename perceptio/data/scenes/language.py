"""Sentences about a scene: every sentence comes from a template, and `words` lists what templates can produce."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from perceptio.data.point_questions import CHOICE, CLOSEST
from perceptio.data.scenes.world import COLORS, MAX_OBJECTS, Shape, Thing
from perceptio.interfaces import LETTERS, Turn

MIN_PIXELS = 40
"""Objects with fewer visible pixels in an 80 x 80 image are not mentioned; for other sizes the share counts."""

CANONICAL_REQUEST = "Please segment {expression} in this image."
REQUESTS = (
    CANONICAL_REQUEST,
    "Segment {expression}.",
    "Where is {expression}? Show the mask.",
    "Can you outline {expression}?",
    "Highlight {expression} in the picture.",
)
"""Phrasings of a referring question; evaluation uses the canonical one, which is Sa2VA's."""
FOUND, FOUND_TWO, NOT_FOUND = (
    "Sure, it is segmented.",
    "Sure, they are segmented.",
    "There is no such object.",
)

BY_COLOR_AND_SHAPE, BY_COLOR, BY_SHAPE = "the {color} {shape}", "the {color} object", "the {shape}"
BY_EXTREME = "the {extreme} {shape}"
PAIR = "{first} and {second}"
LEFTMOST, RIGHTMOST, LARGEST = "leftmost", "rightmost", "largest"
EXTREMES = (LEFTMOST, RIGHTMOST, LARGEST)

ASK_COLOR, ASK_SHAPE, ASK_COUNT = (
    "What color is the {shape}?",
    "What shape is the {color} object?",
    "How many {plural} are there?",
)
PLURALS = {Shape.SPHERE: "spheres", Shape.BOX: "boxes", Shape.CYLINDER: "cylinders"}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")

MAX_POINTS = 5


class Seen(NamedTuple):
    """An object as seen in the image."""

    thing: Thing
    mask: np.ndarray
    pixels: int
    center_x: float


def words() -> tuple[str, ...]:
    """Return every word and punctuation mark in questions and answers about scenes, sorted."""
    sentences = [
        *REQUESTS,
        FOUND,
        FOUND_TWO,
        NOT_FOUND,
        BY_COLOR_AND_SHAPE,
        BY_COLOR,
        BY_SHAPE,
        BY_EXTREME,
        PAIR,
    ]
    sentences += [ASK_COLOR, ASK_SHAPE, ASK_COUNT, CLOSEST, CHOICE]
    fillings = [
        *COLORS,
        *Shape,
        *EXTREMES,
        *PLURALS.values(),
        *NUMBERS[: MAX_OBJECTS + 1],
        *LETTERS[:MAX_POINTS],
    ]
    text = " ".join([*(re.sub(r"{\w+}", " ", sentence) for sentence in sentences), *fillings])
    return tuple(sorted(set(re.findall(r"\w+|[^\w\s]", text))))


def expressions(seen: Sequence[Seen]) -> list[tuple[str, Seen]]:
    """Return every expression that refers to exactly one object, with the object; omit hardly visible ones."""
    floor = MIN_PIXELS / 80**2
    found: list[tuple[str, Seen]] = []
    named = [(BY_COLOR_AND_SHAPE, _color_and_shape), (BY_COLOR, _color), (BY_SHAPE, _shape)]
    for template, key in named:
        keys = [key(one) for one in seen]
        found += [
            (template.format(color=one.thing.color, shape=one.thing.shape), one)
            for one, own in zip(seen, keys, strict=True)
            if keys.count(own) == 1 and one.pixels >= floor * one.mask.size
        ]
    for shape in Shape:
        alike = [one for one in seen if one.thing.shape is shape]
        if len(alike) > 1 and all(one.pixels >= floor * one.mask.size for one in alike):
            found += [
                (BY_EXTREME.format(extreme=extreme, shape=shape), one) for extreme, one in _extremes(alike)
            ]
    return found


def _extremes(alike: Sequence[Seen]) -> Iterator[tuple[str, Seen]]:
    """Yield the clear cases: 5% of the image apart, or half as large again both in pixels and in metres."""
    by_x = sorted(alike, key=lambda one: one.center_x)
    if by_x[1].center_x - by_x[0].center_x > 0.05:
        yield LEFTMOST, by_x[0]
    if by_x[-1].center_x - by_x[-2].center_x > 0.05:
        yield RIGHTMOST, by_x[-1]
    by_size = sorted(alike, key=lambda one: one.pixels)
    first, second = by_size[-1], by_size[-2]
    if first.pixels > 1.5 * second.pixels and first is max(alike, key=lambda one: one.thing.radius):
        yield LARGEST, first


def _color_and_shape(one: Seen) -> tuple[str, str]:
    return one.thing.color, one.thing.shape


def _color(one: Seen) -> str:
    return one.thing.color


def _shape(one: Seen) -> str:
    return one.thing.shape


def referring_turns(
    seen: Sequence[Seen], count: int, random: np.random.Generator, *, varied: bool
) -> tuple[Turn, ...]:
    """Return up to `count` referring questions about different objects.

    Args:
        seen: The objects that show at least one pixel.
        count: Number of questions wanted; fewer are returned if fewer objects can be distinguished.
        random: The random number generator.
        varied: Whether to use all phrasings, and sometimes (one in ten each) two objects or an absent one; otherwise
            the canonical phrasing and one object, for evaluation.
    """
    known = expressions(seen)
    order = random.permutation(len(known))
    turns: list[Turn] = []
    asked: set[int] = set()
    for index in order:
        expression, one = known[index]
        if len(turns) == count:
            break
        if id(one) in asked:
            continue
        asked.add(id(one))
        request = REQUESTS[random.integers(len(REQUESTS))] if varied else CANONICAL_REQUEST
        answer, kind = FOUND, random.random() if varied else 1.0
        masks: tuple[np.ndarray, ...] = (one.mask,)
        if kind < 0.1:
            absent = _absent(seen, random)
            if absent is not None:
                expression, answer, masks = absent, NOT_FOUND, ()
        elif kind < 0.2:
            others = [(text, other) for text, other in known if other is not one]
            if others:
                text, other = others[random.integers(len(others))]
                expression = PAIR.format(first=expression, second=text)
                answer, masks = FOUND_TWO, (one.mask, other.mask)
        turns.append(
            Turn(task="referring", question=request.format(expression=expression), answer=answer, masks=masks)
        )
    return tuple(turns)


def _absent(seen: Sequence[Seen], random: np.random.Generator) -> str | None:
    """Return a color and shape that no object has, although its color or its shape occurs; None if there is none."""
    here = {_color_and_shape(one) for one in seen}
    colors, shapes = {color for color, _ in here}, {shape for _, shape in here}
    absent = [
        pair
        for pair in itertools.product(COLORS, Shape)
        if pair not in here and (pair[0] in colors or pair[1] in shapes)
    ]
    color, shape = absent[random.integers(len(absent))]
    return BY_COLOR_AND_SHAPE.format(color=color, shape=shape)


def attribute_turns(seen: Sequence[Seen], count: int, random: np.random.Generator) -> tuple[Turn, ...]:
    """Return up to `count` questions about color, shape and number, each answered by one word."""
    floor = MIN_PIXELS / 80**2
    questions: list[tuple[str, str]] = []
    colors, shapes = [_color(one) for one in seen], [_shape(one) for one in seen]
    for one in seen:
        if one.pixels < floor * one.mask.size:
            continue
        if shapes.count(one.thing.shape) == 1:
            questions.append((ASK_COLOR.format(shape=one.thing.shape), one.thing.color))
        if colors.count(one.thing.color) == 1:
            questions.append((ASK_SHAPE.format(color=one.thing.color), str(one.thing.shape)))
    for shape in Shape:
        alike = [one for one in seen if one.thing.shape is shape]
        if all(one.pixels >= floor * one.mask.size for one in alike):
            questions.append((ASK_COUNT.format(plural=PLURALS[shape]), NUMBERS[len(alike)]))
    chosen = random.permutation(len(questions))[:count]
    return tuple(Turn(task="attribute", question=questions[i][0], answer=questions[i][1]) for i in chosen)
