"""The report's galleries: the first test scenes, with questions, answers and what was perceived."""

from html import escape

import numpy as np

from perceptio.demo import figures
from perceptio.demo.gallery import GalleryItem, pick_turns
from perceptio.demo.results import NAMES, Demo, depth_at
from perceptio.interfaces import LETTERS
from perceptio.ops import page
from perceptio.ops.mask_metrics import ratio


def question_gallery(demo: Demo) -> str:
    """Return questions with marked points: the values that were looked up, and every arm's answer."""
    cards = []
    for number, shown in enumerate(demo.galleries["perceptio"]):
        if shown.marked is None:
            continue
        pixels, true_HW, points = demo.pixels(number), demo.true_depth(number), shown.marked.points
        marks = figures.marks_svg(points, (pixels.shape[0], pixels.shape[1]))
        depths = [depth_at(true_HW, point) for point in points]
        read = shown.marked.readout_m or (float("nan"),) * len(points)
        rows = [
            [
                f"<b>{letter}</b>" if letter == shown.marked.expected else letter,
                f"{one:.1f} m",
                "–" if np.isnan(other) else f"{other:.1f} m",
            ]
            for letter, one, other in zip(LETTERS, depths, read, strict=False)
        ]
        answers = "".join(_answer_row(arm, demo.galleries[arm][number]) for arm in demo.arms)
        cards.append(
            page.card(
                figures.scene_svg(pixels, f"scene {shown.sample} with marked points", marks),
                page.table(["point", "truly", "on the map"], rows),
                f"<table>{answers}</table>",
            )
        )
    question = next((s.marked.question for s in demo.galleries["perceptio"] if s.marked), "")
    return (
        f"<h2>Questions and answers</h2><p>“{escape(question)}” Perceptio is given a value of each point, "
        "looked up on the map that it wrote, before it answers; the metres are those of the value. The bold letter "
        "is right. These are the first test scenes, with 3, 4 and 5 points in turn: nobody chose them.</p>"
        f'<div class="cards">{"".join(cards)}</div>'
    )


def depth_gallery(demo: Demo) -> str:
    """Return scenes with their true depth and the depth that Perceptio wrote."""
    cards = []
    for number, shown in enumerate(demo.galleries["perceptio"]):
        true_HW = demo.true_depth(number)
        row = [
            page.figure(figures.scene_svg(demo.pixels(number), "scene"), f"scene {shown.sample}"),
            page.figure(figures.scene_svg(figures.depth_colors(true_HW), "true depth"), "true depth"),
        ]
        if shown.depth_HW is not None:
            error = float(np.mean(np.abs(shown.depth_HW - true_HW) / true_HW))
            written = figures.scene_svg(figures.depth_colors(shown.depth_HW), "written depth")
            row.append(page.figure(written, f"as written, AbsRel {error:.3f}"))
        cards.append(page.card(f'<div class="row">{"".join(row)}</div>'))
    block = demo.metrics["perceptio"]["depth_block"]
    return (
        "<h2>Depth, written as tokens</h2><p>Before it answers, the model writes a depth map as a block of codes "
        "between two markers; the depth tokenizer's decoder turns the codes into metres. Over all test scenes the "
        f"map is off by {page.percent(block['absrel'])} of the distance (AbsRel), and "
        f"{page.percent(block['delta1'])} of the pixels are within a quarter of the truth (delta1). The block is "
        f"well-formed in {page.percent(block['well_formed'])} of the answers, and in "
        f"{page.percent(block['well_formed_free'])} where nothing but the model itself sees to it.</p>"
        f'{figures.depth_scale_svg()}<div class="cards broad">{"".join(cards)}</div>'
    )


def mask_gallery(demo: Demo) -> str:
    """Return referring expressions with the true and the predicted outline."""
    cards = []
    for number, shown in enumerate(demo.galleries["perceptio"]):
        _, turn = pick_turns(demo.samples[number], shown.sample)
        if turn is None or shown.referring is None:
            continue
        true_HW = np.logical_or.reduce(turn.masks)
        overlays = [figures.outline_svg(true_HW, "true")]
        said = "<span class='wrong'>no mask: it did not emit [SEG]</span>"
        if shown.mask_HW is not None:
            overlays.insert(0, figures.outline_svg(shown.mask_HW, "predicted"))
            iou = ratio(float((true_HW & shown.mask_HW).sum()), float((true_HW | shown.mask_HW).sum()))
            said = f"IoU {iou:.2f}"
        drawn = figures.scene_svg(demo.pixels(number), turn.question, *overlays)
        cards.append(page.card(drawn, f"<p>{escape(turn.question)}</p><span class='caption'>{said}</span>"))
    found = demo.metrics["perceptio"]["referring"]
    return (
        "<h2>Masks over referring expressions</h2><p>The hidden state at <code>[SEG]</code> prompts a mask: the "
        f"solid line. The true outline is dotted. Over {found['count']} expressions cIoU is {found['ciou']:.3f} "
        f"({page.range_text(found['ciou_interval'])}) and gIoU {found['giou']:.3f} "
        f"({page.range_text(found['giou_interval'])}); "
        f"{found['missing']} answers had no <code>[SEG]</code>.</p>"
        f'<div class="cards small">{"".join(cards)}</div>'
    )


def _answer_row(arm: str, shown: GalleryItem) -> str:
    if shown.marked is None:
        return ""
    right = shown.marked.answered == shown.marked.expected
    said = shown.marked.answered or f"no letter: “{escape(_shortened(shown.marked.text))}”"
    judged = "<span class='right'>{} ✓</span>" if right else "<span class='wrong'>{} ✗</span>"
    return f"<tr><td>{NAMES[arm]}</td><td class='number'>{judged.format(said)}</td></tr>"


def _shortened(text: str, longest: int = 24) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
