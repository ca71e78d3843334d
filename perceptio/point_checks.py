"""Checks of a recipe's settings for marked points: whose grid locates them, and what is written about them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from perceptio.errors import near_miss
from perceptio.interfaces import Codes

if TYPE_CHECKING:
    from perceptio.recipe import PointValues, Recipe, Stream

_SAID = {
    "readout": "the readout format speaks the codes of a grid",
    "lookup": "the lookup format looks up a map whose codes lie on a grid",
}


def readout_problems(recipe: "Recipe") -> Iterator[str]:
    """Yield problems with the stream whose grid locates marked points."""
    known = [stream.name for stream in recipe.streams]
    if recipe.readout is not None and recipe.readout not in known:
        miss = near_miss(recipe.readout, known)
        yield f"readout names the stream {recipe.readout!r}, which is not among streams{miss}"
        return
    grids = [stream.name for stream in _on_grids(recipe)]
    if recipe.readout is not None and recipe.readout not in grids:
        yield f"readout names the stream {recipe.readout!r}, whose codes are not those of one grid; name another."
    elif recipe.answer_format != "direct" and not grids:
        yield (
            f"{_SAID[recipe.answer_format]}, and no stream has one; add such a stream, as of depth, or set "
            "answer_format='direct'."
        )


def point_value_problems(recipe: "Recipe") -> Iterator[str]:
    """Yield problems with looking up or reading out values of marked points."""
    values, answers = recipe.point_values, f"answer_format={recipe.answer_format!r}"
    if values is None:
        if recipe.answer_format == "lookup":
            yield (
                f"{answers} gives the model values of marked points, and point_values is not set; set it to "
                "PointValues(), or answer_format to 'readout'."
            )
        return
    if recipe.answer_format == "direct":
        yield (
            f"point_values is set, and with {answers} nothing is said of marked points; set it to None, or "
            "answer_format to 'readout' or 'lookup'."
        )
        return
    if recipe.answer_format == "readout":
        yield from _unused(values)
    if any(readout_problems(recipe)):
        return
    stream = next(one for one in _on_grids(recipe) if recipe.readout in (None, one.name))
    if not stream.spec.point_values:
        yield (
            f"point_values are of the stream {stream.name!r}, and its tokenizer {stream.tokenizer.name} has no "
            "values at points; name another stream with readout, or set point_values to None."
        )
    elif stream.spec.image_size is not None:
        yield (
            f"point_values are of the stream {stream.name!r}, which is decoded with the picture, and a look-up has "
            "only what was written; name another stream with readout, or set point_values to None."
        )
    elif recipe.answer_format == "lookup":
        yield from _unreachable(recipe, values, stream.name)


def _unused(values: "PointValues") -> Iterator[str]:
    """Yield settings of look-ups that have no effect because the model writes the levels itself."""
    for field in attrs.fields(type(values)):
        value = getattr(values, field.name)
        if field.name != "levels" and value != field.default:
            yield (
                f"point_values.{field.name} is {value!r}, and with answer_format='readout' nothing is looked up; "
                f"leave it at {field.default!r}."
            )


def _unreachable(recipe: "Recipe", values: "PointValues", stream: str) -> Iterator[str]:
    """Yield why there is no map to look up values on."""
    if values.source == "vision_head" and stream not in recipe.heads:
        yield (
            f"point_values.source is 'vision_head', and the stream {stream!r} has no auxiliary head; add "
            f'heads={{"{stream}": …}}, or look up what is "written".'
        )
    if values.source == "written" and recipe.data.perceive != "before":
        yield (
            f"what is written of the stream {stream!r} is looked up, and data.perceive is {recipe.data.perceive!r}, "
            "so that nothing is written before an answer; set it to 'before', or point_values.source to "
            "'vision_head'."
        )


def _on_grids(recipe: "Recipe") -> list["Stream"]:
    """Return the streams whose codes are those of one grid, written once per image."""
    return [
        stream
        for stream in recipe.streams
        if isinstance(stream.spec.written, Codes) and stream.spec.written.grid and stream.spec.per == "image"
    ]
