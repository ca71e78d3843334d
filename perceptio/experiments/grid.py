"""Variants of a recipe: a grid of settings, and losses left out one at a time. Recipes are made when accessed."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from perceptio.errors import RecipeError, UnknownNameError, near_miss, quoted
from perceptio.interfaces import ComponentConfig
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.settings import with_settings
from perceptio.training.objective import Objective


class Variants(Mapping[str, Recipe]):
    """Recipes by name, made when they are accessed. `|` joins two of them, or one and a dictionary.

    Args:
        names: Returns the names in order; called for each iteration.
        make: Returns the recipe of a name.
        count: Number of variants.
    """

    def __init__(self, names: Callable[[], Iterator[str]], make: Callable[[str], Recipe], count: int) -> None:
        self._names, self._make, self._count = names, make, count

    def __iter__(self) -> Iterator[str]:
        return self._names()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> Recipe:
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        # The default would make the recipe to find out, and fail if the recipe is invalid.
        return any(name == own for own in self._names())

    def __or__(self, other: Mapping[str, Recipe]) -> "Variants":
        """Return both, with these first.

        Raises:
            RecipeError: Both have the same name.
        """
        return _joined(self, other)

    def __ror__(self, other: Mapping[str, Recipe]) -> "Variants":
        """Return both, with the others first.

        Raises:
            RecipeError: Both have the same name.
        """
        return _joined(other, self)


def grid(base: Recipe, settings: Mapping[str, Sequence[Any] | Mapping[str, Any]]) -> Variants:
    """Return every combination of values of some settings of a recipe.

    Args:
        base: The recipe; it is among the variants only if its own values are.
        settings: The values of each setting by its path, as for `--set`: numbers, whole components
            (`"streams.depth.tokenizer"`), or any other valid value. In the names of variants, a value stands for
            itself and a component for its registered name; a mapping provides names instead.

    Returns:
        The variants, named by what differs, such as `codebook_size=32,lr=0.001`; the last setting changes fastest.

    Raises:
        RecipeError: A setting has no values or two of the same name, or is a seed, which the experiment sets itself.
    """
    for path in settings:
        if path.split(".")[-2:] in (["train", "seed"], ["training", "seed"]):
            raise RecipeError(
                f"The grid varies {path}, which an experiment sets to each of its seeds: leave it out, and give the "
                "seeds with --seeds."
            )
    axes = {path: _named_values(path, values) for path, values in settings.items()}
    short = _short_names(list(axes))
    labeled = {path: {f"{short[path]}={name}": one for name, one in axes[path].items()} for path in axes}

    def names() -> Iterator[str]:
        return map(",".join, itertools.product(*labeled.values()))

    def make(name: str) -> Recipe:
        labels = name.split(",")
        if len(labels) != len(labeled):
            raise KeyError(name)
        chosen = {path: values[label] for label, (path, values) in zip(labels, labeled.items(), strict=True)}
        return with_settings(base, chosen)

    return Variants(names, make, math.prod(map(len, axes.values())))


def with_all(variants: Mapping[str, Recipe], settings: Mapping[str, Any]) -> Variants:
    """Return the variants under the same names with some settings replaced, for example for a quick look.

    Args:
        variants: The variants.
        settings: The value of each setting by its path, as for `--set`.
    """
    return Variants(
        lambda: iter(variants), lambda name: with_settings(variants[name], settings), len(variants)
    )


def leave_out(base: Recipe, *losses: str) -> Variants:
    """Return variants of a recipe that each leave out one loss; auxiliary heads that nothing reads are removed, too.

    Args:
        base: The recipe, which is not among the variants.
        *losses: Terms of losses, such as `"depth_count"`; none: all losses of the recipe.

    Returns:
        The variants, named `without TERM`.

    Raises:
        UnknownNameError: The recipe has no such loss.
    """
    registry = Registry.discover()
    terms = [registry.term_of(weighted.loss) for weighted in base.losses]
    for term in losses:
        if term not in terms:
            raise UnknownNameError(f"{base.name} has no loss {term!r}{near_miss(term, terms)}")

    def make(name: str) -> Recipe:
        term = name.removeprefix("without ")
        if name == term or term not in (losses or terms):
            raise KeyError(name)
        left = tuple(weighted for weighted, own in zip(base.losses, terms, strict=True) if own != term)
        recipe = attrs.evolve(base, losses=left)
        read = Objective(recipe).required_outputs
        recipe = attrs.evolve(
            recipe, heads={key: head for key, head in base.heads.items() if f"heads.{key}" in read}
        )
        recipe.check()
        return recipe

    named = [f"without {term}" for term in losses or terms]
    return Variants(lambda: iter(named), make, len(named))


def _joined(first: Mapping[str, Recipe], second: Mapping[str, Recipe]) -> Variants:
    fewer, more = sorted((first, second), key=len)
    known = set(fewer)
    twice = next((name for name in more if name in known), None)
    if twice is not None:
        raise RecipeError(f"Two variants are called {twice!r}: give each a name of its own.")
    return Variants(
        lambda: itertools.chain(first, second),
        lambda name: (fewer if name in known else more)[name],
        len(first) + len(second),
    )


def _named_values(path: str, values: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a setting, by their names within names of variants."""
    if isinstance(values, str) or not isinstance(values, Sequence | Mapping):
        raise RecipeError(f"The values of {path} are {quoted(values)}; give a list of values.")
    if not values:
        raise RecipeError(f"{path} has no values in the grid: give some, or leave it out.")
    if isinstance(values, Mapping):
        return {_one_word(name): value for name, value in values.items()}
    named: dict[str, Any] = {}
    for value in values:
        name = _name_of(value)
        if name in named:
            raise RecipeError(
                f"Two values of {path} are called {name}: leave one out, or name them with a mapping, such as "
                f'{{"{path}": {{"first": …, "second": …}}}}.'
            )
        named[name] = value
    return named


def _name_of(value: Any) -> str:
    """Return the name of a value within the name of a variant."""
    if isinstance(value, ComponentConfig):
        return Registry.discover().name_of(value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "x".join(map(_name_of, value))
    return _one_word(getattr(value, "name", value))


def _one_word(name: Any) -> str:
    """Return a name without the characters that separate settings."""
    return "_".join(str(name).replace(",", " ").split())


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """Return the shortest end of each path that distinguishes it from the others."""
    parts = {path: path.split(".") for path in paths}
    short = {}
    for path, own in parts.items():
        for length in range(1, len(own) + 1):
            end = own[-length:]
            if Counter(other[-length:] == end for other in parts.values())[True] == 1:
                break
        short[path] = ".".join(end)
    return short
