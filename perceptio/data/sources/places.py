"""Make expressions that mean exactly one object of a picture, from category names and positions.

The rules are ours:

- An object is "the dog" if it is the only one of its category and covers at least a given share of the picture.
- Among several objects of a category, all of which must cover that share, an object is "the leftmost dog" or "the
  rightmost dog" if the center of its box is more than `APART` of the picture's width from the next one's.
- Among the same objects, one is "the largest dog" if it covers more than `LARGER` times as many pixels as the next
  largest.
- A category gets no expression if the picture has a crowd of it, or if its name could mean another category in the
  picture: next to a teddy bear, nothing is "the bear".
"""

from collections.abc import Iterator, Sequence

import attrs

from perceptio.data.scenes.language import LARGEST, LEFTMOST, RIGHTMOST

APART, LARGER = 0.05, 1.5
"""The same values as for generated scenes."""


@attrs.frozen(kw_only=True)
class NamedObject:
    """An object of a picture.

    Attributes:
        id: Its number.
        category: The name of its category.
        share: Its share of the picture's pixels, in [0, 1].
        center_x: Horizontal center of its box, in [0, 1] from the left.
        crowd: Whether it is a group of objects.
    """

    id: int
    category: str
    share: float
    center_x: float
    crowd: bool = False


def expressions(objects: Sequence[NamedObject], smallest: float) -> Iterator[tuple[str, NamedObject]]:
    """Yield every expression with its object, in the order of the categories in the picture.

    Args:
        objects: All objects of the picture.
        smallest: Minimum share of the picture's pixels that an object must cover, in [0, 1].
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
    """Whether the name of another category in the picture ends with this one, so that it may be a kind of it."""
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
