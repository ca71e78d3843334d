"""The report's section on the arm with every kind of stream: its outputs, and their figures.

Shapes: H W pixels, C channels.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import attrs
import numpy as np

from perceptio.demo import figures
from perceptio.demo.gallery import DEPTH, MASKS, GalleryItem, pick_turns
from perceptio.demo.limits import ANOTHER_SCENE, TRUE_CODES
from perceptio.demo.results import Demo
from perceptio.demo.settings import STREAMS
from perceptio.ops import page
from perceptio.ops.pictures import picture_of

BOX, MAPS = "box", ("edges", "normals")
SHOWN = 6
"""Number of scenes of the gallery that are shown here, as each has many images."""


@attrs.frozen
class Row:
    """A row of the table: a stream, how it is written, and the location of its figure in the evaluation."""

    stream: str
    written: str
    group: str
    figure: str
    unit: str


TABLE = (
    Row(MASKS, "special token an object", "referring", "ciou", "cIoU ↑"),
    Row(BOX, "4 codes an object", "referring_box", "iou", "IoU ↑"),
    Row(DEPTH, "100 codes", "depth_block", "absrel", "AbsRel ↓"),
    Row("edges", "100 codes", "edges_map", "correlation", "correlation ↑"),
    Row("normals", "100 codes", "normals_map", "angle_degrees", "angle, degrees ↓"),
    Row("features", "4 special tokens", "features_map", "cosine", "cosine ↑"),
)
HEAD = ("stream", "written as", "figure", "as written", "true codes", "another scene", "count", "missing")


def every_stream(demo: Demo) -> str:
    """Return the whole section; empty if the arm was not trained."""
    if STREAMS not in demo.metrics:
        return ""
    own, steps = demo.metrics[STREAMS], demo.metrics["steps"][STREAMS]
    answers = own["relative_depth"]
    cards = [_card(demo, number) for number in range(min(SHOWN, len(demo.galleries[STREAMS])))]
    return (
        "<h2>Every kind of stream</h2><p>What a model perceives is written as streams. This one has six: masks, "
        "boxes, depth, edges, surface normals, and the features of another vision encoder; as codes or as special "
        "tokens, once per image or once per object. It stands apart from the arms above: other losses and other "
        f"questions share its {steps} optimizer steps, so its answers about the closest point, "
        f"{page.percent(answers['mean'])} right ({page.interval_text(answers['interval'])}), are compared with none "
        "of theirs.</p>"
        + page.table(
            HEAD,
            [_row(demo, row) for row in TABLE if row.group in own],
        )
        + "<p><i>As written</i> is what the model's own codes and tokens stand for. <i>True codes</i> is about the "
        "codebook alone: the truth encoded and decoded, which is what the model would reach with every code right. "
        "<i>Another scene</i> is the truth of another test scene in place of what is written. Figures are over the "
        "test scenes, or over the objects of referring expressions, with 95% intervals (bootstrap). What was not "
        "written is left out of the means; cIoU counts it as an empty mask. The encoder whose features are learned "
        "has random weights, since the library brings no trained one.</p>"
        f'<div class="cards broad">{"".join(cards)}</div>'
        "<p class='caption'>These are the first test scenes: nobody chose them. The outlines are of what the "
        "expression is about, true dotted and written solid. The maps of a row share one scale. Of normals, red "
        "grows to the right, green downwards, blue into the scene.</p>"
    )


def _row(demo: Demo, row: Row) -> list[str]:
    found = demo.metrics[STREAMS][row.group]
    return [
        row.stream,
        row.written,
        row.unit,
        _value(found, row.figure),
        _value(_true_codes(demo, row.stream), row.figure),
        _value(demo.metrics[STREAMS][ANOTHER_SCENE].get(row.stream, {}), row.figure),
        str(found["count"]),
        str(found.get("missing", 0)),
    ]


def _true_codes(demo: Demo, stream: str) -> Any:
    """Return figures of a codebook; the codebook of depth is trained, and measured, separately."""
    if stream == DEPTH:
        return demo.metrics["depth_tokenizer"]["vqvae"]
    return demo.metrics[STREAMS][TRUE_CODES].get(stream, {})


def _value(found: Any, figure: str) -> str:
    if figure not in found:
        return "–"
    digits = 1 if figure.endswith("degrees") else 3
    interval = found.get(f"{figure}_interval")
    between = (
        f" <span class='soft'>{'–'.join(f'{end:.{digits}f}' for end in interval)}</span>" if interval else ""
    )
    return f"{found[figure]:.{digits}f}{between}"


def _card(demo: Demo, number: int) -> str:
    sample, shown = demo.samples[number], demo.galleries[STREAMS][number]
    depth = {
        name: figures.depth_colors(one)
        for name, one in _versions(shown, DEPTH, demo.true_depth(number)).items()
    }
    maps = {name: drawn_together(_versions(shown, name, sample.target(name))) for name in MAPS}
    return page.card(
        _objects(demo, number, shown),
        *(_row_of(name, drawn) for name, drawn in {DEPTH: depth, **maps}.items()),
    )


def _objects(demo: Demo, number: int, shown: GalleryItem) -> str:
    """Return the scene with the outlines of the objects that the referring expression is about."""
    pixels = demo.pixels(number)
    _, turn = pick_turns(demo.samples[number], shown.sample)
    drawn = [page.figure(figures.scene_svg(pixels, "scene"), f"scene {shown.sample}")]
    if turn is None:
        return f'<div class="row">{drawn[0]}</div>'
    masks = {"predicted": shown.decoded.get(MASKS, ()), "true": turn.masks}
    boxes: dict[str, Sequence[Any]] = {
        "predicted": shown.decoded.get(BOX, ()),
        "true": tuple(map(figures.box_around, turn.masks)),
    }
    outlines = {
        "mask": [figures.outline_svg(mask_HW, name) for name, held in masks.items() for mask_HW in held],
        "box": [figures.box_svg(box, name) for name, held in boxes.items() for box in held],
    }
    for name, overlays in outlines.items():
        written = "" if len(overlays) > len(turn.masks) else ": not written"
        drawn.append(page.figure(figures.scene_svg(pixels, name, *overlays), f"{name}{written}"))
    return f'<div class="row">{"".join(drawn)}</div><p>{escape(turn.question)}</p>'


def _versions(shown: GalleryItem, stream: str, truth: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the true map, the map decoded from its codes, and the map that the model wrote, by caption, if any."""
    held = {
        f"{stream}, true": () if truth is None else (truth,),
        "true codes": shown.true_codes.get(stream, ()),
        "as written": shown.decoded.get(stream, ()),
    }
    return {caption: arrays[0] for caption, arrays in held.items() if arrays}


def drawn_together(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return maps of one size as images with a common scale."""
    picture_HW3 = picture_of(np.concatenate(list(maps.values()), axis=1))
    assert picture_HW3 is not None, "Maps have one channel or three."
    return dict(zip(maps, np.split(picture_HW3, len(maps), axis=1), strict=True))


def _row_of(stream: str, pictures: Mapping[str, np.ndarray]) -> str:
    drawn = (
        page.figure(figures.scene_svg(picture_HW3, f"{stream}: {caption}"), caption)
        for caption, picture_HW3 in pictures.items()
    )
    return f'<div class="row">{"".join(drawn)}</div>'
