"""A recipe with one more stream, the palette, and one more task, the dominant color."""

import attrs

from perceptio import Recipe, Stream, WeightedLoss, component, load_recipe

LOSSES = {"marker": 0.2, "token": 1.0, "count": 0.2, "soft_reconstruction": 8.0}
"""Of the palette, by their weights: those that the small Perceptio gives depth."""


def recipe(base: str = "perceptio_tiny") -> Recipe:
    """Another recipe, by default the small Perceptio, which at last sketches the colors of the picture."""
    recipe = load_recipe(base)
    palette = Stream(name="palette", tokenizer=component("perception:palette/mean_colors"), codes_per_step=5)
    losses = [
        WeightedLoss(loss=component(f"loss:{name}", stream=palette.name), weight=weight)
        for name, weight in LOSSES.items()
    ]
    return attrs.evolve(
        recipe,
        name=f"{recipe.name}-palette",
        streams=(*recipe.streams, palette),
        losses=(*recipe.losses, *losses),
        tasks={"dominant_color": component("task:color_questions/dominant_color")},
        data=attrs.evolve(recipe.data, mixture={**recipe.data.mixture, "dominant_color": 1.0}),
    )
