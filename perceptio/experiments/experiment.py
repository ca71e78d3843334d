"""An experiment as its file defines it: variants of a recipe, and which of them is the baseline."""

import ast
import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs

from perceptio.errors import RecipeError, near_miss
from perceptio.experiments.cell_summary import SUFFIX
from perceptio.experiments.grid import Variants
from perceptio.python_files import module_of
from perceptio.recipe import Recipe
from perceptio.recipe_files import find_recipe


@attrs.frozen(kw_only=True)
class Experiment:
    """The variants to compare.

    Attributes:
        name: The name of the experiment, which is that of its file.
        baseline: The variant that the others are compared with.
        variants: The recipes by name; a recipe is made when it is accessed.
        file: The file that defines it; None: it was not read from a file.

    Raises:
        RecipeError: There are no variants, or the baseline is not one of them.
    """

    name: str
    baseline: str
    variants: Mapping[str, Recipe]
    file: Path | None = None

    def __attrs_post_init__(self) -> None:
        if not len(self.variants):
            raise RecipeError(f"The experiment {self.name} has no variants: there is nothing to compare.")
        if self.baseline not in self.variants:
            raise RecipeError(
                f"The baseline of the experiment {self.name} is {self.baseline!r}, which is none of its variants"
                f"{near_miss(self.baseline, itertools.islice(self.variants, 50))}"
            )

    @property
    def summaries(self) -> Path | None:
        """The folder beside the file that may hold summaries of cells."""
        return None if self.file is None else self.file.with_suffix(SUFFIX)

    def recipe(self, variant: str) -> Recipe:
        """Return the recipe of a variant, checked.

        Raises:
            RecipeError: The recipe is invalid; the message lists all problems.
        """
        try:
            recipe = self.variants[variant]
            if isinstance(recipe, Recipe):
                recipe.check()
                return recipe
        except RecipeError as error:
            raise RecipeError(*(f"The variant {variant!r}: {one}" for one in error.problems)) from error
        raise RecipeError(
            f"The variant {variant!r} is of type {type(recipe).__name__}; it must be a perceptio.Recipe."
        )


def load_experiment(path: str | Path, *, tiny: bool = False) -> Experiment:
    """Load the experiment of a Python file, from its function `variants()` and its constant `BASELINE`.

    Args:
        path: The file, found in the same way as by `perceptio.load_recipe`.
        tiny: Use the function `tiny()` instead, which returns the same variants at sizes for a quick look.

    Raises:
        RecipeError: The file does not exist or lacks one of these, the variants are not a mapping of names to
            recipes, or two have the same name. An error inside the file is raised unchanged.
    """
    file = find_recipe(path, what="experiment")
    module, function = module_of(file, renew=True), "tiny" if tiny else "variants"
    make, baseline = getattr(module, function, None), getattr(module, "BASELINE", None)
    if not callable(make):
        what = "the same variants at tiny sizes" if tiny else "variants by their names"
        raise RecipeError(
            f"{file} has no function {function}(); write one that returns {what}, a dictionary of recipes"
            + (", or leave --tiny out." if tiny else ".")
        )
    if not isinstance(baseline, str):
        raise RecipeError(f'{file} names no baseline; write BASELINE = "NAME OF A VARIANT" in it.')
    _refuse_names_twice(file)
    variants = make()
    named = isinstance(variants, Mapping) and (
        isinstance(variants, Variants) or all(isinstance(name, str) for name in variants)
    )
    if not named:
        raise RecipeError(
            f"{function}() of {file} returned a {type(variants).__name__}; it must return a dictionary of recipes by "
            "name, or what perceptio.experiments.grid makes."
        )
    return Experiment(name=file.stem + "-tiny" * tiny, baseline=baseline, variants=variants, file=file)


def _refuse_names_twice(file: Path) -> None:
    """Refuse a dictionary literal with a repeated key, of which Python would silently keep the last."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Dict):
            names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            twice = next((name for name, count in Counter(names).items() if count > 1), None)
            if twice is not None:
                raise RecipeError(
                    f"{file} line {node.lineno} names {twice!r} twice in one dictionary, of which the last alone "
                    "would count: give each variant a name of its own."
                )
