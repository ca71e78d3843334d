"""Expressions that mean exactly one object of a picture, made from the names of categories and from places.

The rules are ours. An object is "the dog" where it is the only one of its category, and shows at least a stated
share of the picture. Of several, all of which show that share, one is "the leftmost dog" or "the rightmost dog" where
the middle of its box is more than `APART` of the picture's width from the next one's, and "the largest dog" where it
shows more than `LARGER` times as many pixels as the next. Nothing is said of a category of which the picture has a
crowd, or whose name could mean another one there: with a teddy bear, nothing is "the bear".
"""

from collections.abc import Iterator, Sequence

import attrs

from perceptio.data.scenes.language import LARGEST, LEFTMOST, RIGHTMOST

APART, LARGER = 0.05, 1.5
"""As of generated scenes."""


@attrs.frozen(kw_only=True)
class NamedObject:
    """An object of a picture.

    Attributes:
        id: Its number.
        category: The name of its category.
        share: Of the picture's pixels.
        center_x: The middle of its box, in [0, 1] from the left.
        crowd: Whether it stands for several.
    """

    id: int
    category: str
    share: float
    center_x: float
    crowd: bool = False


def expressions(objects: Sequence[NamedObject], smallest: float) -> Iterator[tuple[str, NamedObject]]:
    """Every expression, with its object, in the order of categories in the picture.

    Args:
        objects: All objects of the picture.
        smallest: Of which share of the picture's pixels an object is spoken of.
    """
    groups: dict[str, list[NamedObject]] = {}
    for one in objects:
        groups.setdefault(one.category, []).append(one)
    for category, alike in groups.items():
        if any(one.crowd for one in alike) or _means_another(category, groups):
            continue
        if all(one.share > 0 and one.share >= smallest for one in alike):
            if len(alike) == 1:
                yield f"the {category}", alike[0]
            else:
                yield from ((f"the {extreme} {category}", one) for extreme, one in _extremes(alike))


def _means_another(category: str, present: Sequence[str] | dict[str, list[NamedObject]]) -> bool:
    """Whether another category that is present is a kind of this one, by its name."""
    return any(other.endswith(f" {category}") for other in present)


def _extremes(alike: Sequence[NamedObject]) -> Iterator[tuple[str, NamedObject]]:
    by_x = sorted(alike, key=lambda one: one.center_x)
    if by_x[1].center_x - by_x[0].center_x > APART:
        yield LEFTMOST, by_x[0]
    if by_x[-1].center_x - by_x[-2].center_x > APART:
        yield RIGHTMOST, by_x[-1]
    by_size = sorted(alike, key=lambda one: one.share)
    if by_size[-1].share > LARGER * by_size[-2].share:
        yield LARGEST, by_size[-1]
