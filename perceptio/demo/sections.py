"""The parts of the report that are not galleries, each of which turns a demo's results into HTML."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from perceptio.demo import figures
from perceptio.demo.files import HISTORY
from perceptio.demo.plan import DEPTH_TOKENIZERS
from perceptio.demo.results import NAMES, Demo
from perceptio.demo.settings import PERCEPTIO
from perceptio.experiments.curves import Line, curves_svg, smoothed
from perceptio.experiments.display import clock
from perceptio.ops import page
from perceptio.ops.json_files import read_log

WHAT = {
    "perceptio": "writes the depth map as tokens, looks the points up on it, then answers",
    "readout_without_block": "says the same values of the points straight from the image, then answers",
    "lookup_from_vision": "looks the points up on a map that a head predicts, writing none, then answers",
    "direct": "same supervision, depth and masks included, but answers at once",
}
SHORTCUTS = {
    "majority": "always the commonest letter",
    "lowest": "the point lowest in the image",
    "largest": "the point on the largest object",
}
CURVES = {
    "next_token": "text, cross-entropy",
    "depth_token": "depth code, cross-entropy",
    "depth_soft_reconstruction": "soft-merged depth",
    "depth_cell_codes": "code from the visual feature",
    "segmentation_mask_bce": "mask, cross-entropy",
    "segmentation_dice": "mask, Dice",
}


def headline(demo: Demo) -> str:
    """Return what the demo is, and its main numbers."""
    metrics, seed = demo.metrics, demo.metrics["seed"]
    rows, bars = [], []
    for arm in demo.arms:
        found = metrics[arm]["relative_depth"]
        if arm in demo.learned:
            bars.append((NAMES[arm], found["mean"], tuple(found["interval"]), figures.ARM_COLORS[arm]))
        note = "" if arm in demo.learned else "; <b>has not learned to answer: no control</b>"
        rows.append([f"{NAMES[arm]}<br><span class='soft'>{WHAT[arm]}{note}</span>", *_accuracies(found)])
    for name, what in SHORTCUTS.items():
        share = page.percent(metrics["shortcuts"][name])
        interval = page.interval_text(metrics["shortcuts"][f"{name}_interval"])
        rows.append([f"<span class='soft'>shortcut: {what}</span>", "", "", "", share, interval])
    scenes, steps = metrics["scenes"], metrics["steps"]["perceptio"]
    return (
        "<h1>Perceive, then answer</h1>"
        '<p class="lead">A small Perceptio, trained from scratch on generated rooms, beside its controls. It looks '
        "at a picture, writes what it perceives as tokens (a mask, a depth map), and answers from them.</p>"
        "<p>The question: several points are marked with letters; which is closest to the camera? "
        f"Asked about {scenes['test']} test scenes that no arm has seen, with 3, 4 and 5 points.</p>"
        f"{page.bars(bars)}{_differences(demo)}"
        f'<p class="caption">Share of right answers, the mean of 3, 4 and 5 points; lines: 95% intervals (Wilson). '
        f"Guessing gives {page.percent((1 / 3 + 1 / 4 + 1 / 5) / 3)}. Every arm: {scenes['train']} training scenes, "
        f"{steps} optimizer steps, seed {seed}.</p>"
        + page.table(
            ["relative depth", "3 points", "4 points", "5 points", "mean", "95% interval"], rows, strong=1
        )
    )


def _differences(demo: Demo) -> str:
    """Return the difference of Perceptio's accuracy to that of each control that has learned, by question."""
    if demo.strongest is None:
        return "<p>No control has learned to answer, so that there is nothing to compare with.</p>"
    said, low = [], demo.metrics["paired"][f"{PERCEPTIO}_minus_{demo.strongest}"]["interval"][0]
    for arm in sorted(demo.learned[1:], key=lambda arm: arm != demo.strongest):
        found = demo.metrics["paired"][f"{PERCEPTIO}_minus_{arm}"]
        lowest, highest = found["interval"]
        which = "the strongest control, " if arm == demo.strongest else ""
        said.append(
            f"<b>{100 * found['difference']:+.1f} points</b> ({100 * lowest:+.1f} to {100 * highest:+.1f}) against "
            f"{which}{NAMES[arm]}"
        )
    return (
        f"<p>On the same {found['count']} questions, Perceptio is right more often by {'; '.join(said)}. In "
        "brackets: 95% intervals of the paired difference, by bootstrap over questions."
        + ("" if low > 0 else " The strongest control is as good, as far as these questions can tell.")
        + "</p>"
    )


def reliance(demo: Demo) -> str:
    """Return how much Perceptio's answers depend on its depth block."""
    own = demo.metrics["perceptio"]
    rows = [
        ["its own block", *_accuracies(own["relative_depth"])],
        ["the true codes instead", *_accuracies(own["oracle_codes"])],
        ["another scene's codes instead", *_accuracies(own["shuffled_codes"])],
        [
            "no answer: the nearest point on the decoded map",
            *_accuracies(own["relative_depth_readout"]),
        ],
    ]
    followed = page.percent(own["relative_depth_values"]["followed"])
    return (
        "<h2>Is the block read?</h2><p>The same model answers the same questions with other codes put in the place "
        "of its own. True codes show what a better map would give; another scene's show what is left when the map is "
        "wrong. The last line asks the written map itself, whatever the answer says. The answer names the nearest of "
        f"the values that it was given in {followed} of the questions.</p>"
        + page.table(["answers from", "3 points", "4 points", "5 points", "mean", "95% interval"], rows)
    )


def other_results(demo: Demo) -> str:
    """Return masks, maps and plain questions of every arm."""
    rows = []
    for arm in demo.arms:
        own = demo.metrics[arm]
        masks, plain = own.get("referring"), own.get("attribute")
        depth = own.get("depth_block", own.get("depth_map"))
        rows.append(
            [
                NAMES[arm],
                f"{masks['ciou']:.3f} ({page.range_text(masks['ciou_interval'])})" if masks else "–",
                f"{masks['missing']} of {masks['count']}" if masks else "–",
                f"{depth['absrel']:.3f}" if depth else "–",
                page.percent(depth["delta1"]) if depth else "–",
                f"{page.percent(plain['accuracy'])} ({page.interval_text(plain['interval'])})"
                if plain
                else "–",
            ]
        )
    return (
        "<h2>What else each arm can do</h2><p>Masks of referring expressions, the depth map it writes (Perceptio's "
        "before its answers, the others' when asked for one), and plain questions about color, shape and number. In "
        "brackets: 95% intervals.</p>"
        + page.table(
            ["arm", "masks, cIoU", "without [SEG]", "depth, AbsRel", "depth, delta1", "plain questions"], rows
        )
    )


def training_curves(demo: Demo) -> str:
    """Return the losses of all arms during training."""
    panels: dict[str, list[Line]] = {}
    for loss, title in CURVES.items():
        curves = []
        for arm in demo.arms:
            lines = [line for line in read_log(demo.root / arm / "metrics.jsonl")[0] if loss in line]
            if lines:
                curve = smoothed(([line["step"] for line in lines], [line[loss] for line in lines]))
                curves.append(Line(curve=curve, color=figures.ARM_COLORS[arm]))
        if curves:
            panels[title] = curves
    colors = {NAMES[arm]: figures.ARM_COLORS[arm] for arm in demo.arms}
    drawn = curves_svg(panels, logarithmic=True)
    return (
        "<h2>Training</h2><p>Each loss over the optimizer steps, as a running mean. An arm is missing where the loss "
        "is not part of it. Text holds whatever is not a depth block: answers, <code>[SEG]</code> and what is read "
        "out, so it is not the same task in every arm.</p>"
        f'{page.key(colors)}<div class="curves">{drawn}</div>'
    )


def depth_tokenizers(demo: Demo) -> str:
    """Return a comparison of the depth tokenizers."""
    rows = []
    for name in DEPTH_TOKENIZERS:
        found = demo.metrics["depth_tokenizer"][name]
        rows.append(
            [
                f"<code>{name}</code>",
                f"{found['absrel']:.3f}",
                f"{found['rmse']:.2f} m",
                page.percent(found["delta1"]),
                f"{found['codes_used']}",
                f"{found['perplexity']:.0f}",
            ]
        )
    colors = dict(zip(DEPTH_TOKENIZERS, figures.ARM_COLORS.values(), strict=False))
    histories = {
        name: read_log(demo.root / "depth_tokenizers" / name / HISTORY)[0] for name in DEPTH_TOKENIZERS
    }
    panels = {
        title: [
            Line(
                curve=([line["step"] for line in lines], [line[field] for line in lines]), color=colors[name]
            )
            for name, lines in histories.items()
        ]
        for field, title in (("absolute_error", "absolute error"), ("perplexity", "perplexity of codes"))
    }
    return (
        "<h2>Depth tokenizers</h2><p>A depth map becomes a row of codes, and back. What is lost on the way, over "
        "the test scenes, in metres and without any alignment:</p>"
        + page.table(["tokenizer", "AbsRel", "RMSE", "delta1", "codes used", "perplexity"], rows)
        + page.key(colors)
        + f'<div class="curves">{curves_svg(panels, columns=2)}</div>'
    )


def seconds(demo: Demo) -> str:
    """Return how long everything took."""
    rows = [[name.replace("_", " "), clock(value)] for name, value in demo.metrics["seconds"].items()]
    return (
        "<h2>Time</h2><p>Wall-clock, in minutes and seconds, during which a job of each stage ran. Jobs run side by "
        "side, one to a core, so the stages add up to more than the total.</p>"
        + page.table(["stage", "time"], rows)
    )


def notes(demo: Demo) -> str:
    """Return what a reader must know to judge the numbers."""
    recipe = demo.recipe("perceptio")["recipe"]
    (codes,) = (stream["codes_per_step"] for stream in recipe["streams"] if stream["name"] == "depth")
    return (
        "<h2>How to read this</h2>"
        "<p><b>It departs from the paper in three ways</b>, named wherever a number depends on them. The answer "
        "format is <i>look-up</i>: the depth block that Perceptio wrote is decoded and looked up at the marked "
        "points, and the values stand as tokens before its answer; the paper answers at once. The depth codes are "
        f"predicted {codes} at a time, where the paper predicts one. And comparing values is also taught apart, as "
        "text alone, in every arm alike.</p>"
        "<p><b>A control must have learned.</b> One counts where, on validation scenes, its 95% interval lies above "
        "the commonest letter and at most 1% of its answers name none. All arms see the same scenes, questions and "
        "lessons of comparing for the same number of steps; the settings of each were chosen on validation scenes, "
        "with as many trials. <i>Read-out without a block</i> is taught the same depth maps and masks, as tasks of "
        "their own after the answers, and says the same values straight from the image. <i>Look-up without "
        "tokens</i> looks them up on a map that a head predicts, and writes no map before it answers. Answering at "
        "once (<code>perceptio demo --direct</code>) takes more steps to learn than these.</p>"
        "<p><b>One seed is one sample.</b> The intervals speak of the questions asked, not of other seeds of "
        "training, which differ by several points.</p>"
        "<p><b>Scenes are not photographs.</b> What is shown here says that the method works as built, and nothing "
        "about pictures of the world.</p>"
    )


def recipes(demo: Demo) -> str:
    """Return the recipe of every arm as JSON, with its fingerprint."""
    parts = []
    for arm in demo.trained:
        document = demo.recipe(arm)
        parts.append(
            f"<details><summary>{NAMES[arm]} · <code>{document['fingerprint']}</code></summary>"
            f"<pre>{escape(json.dumps(document['recipe'], indent=2))}</pre></details>"
        )
    return (
        "<h2>Recipes</h2><p>Everything that was chosen, and the fingerprint that stands in every checkpoint.</p>"
        + "".join(parts)
    )


def _accuracies(found: Mapping[str, Any]) -> list[str]:
    return [
        *(page.percent(found[points]) if points in found else "–" for points in ("3", "4", "5", "mean")),
        page.interval_text(found["interval"]),
    ]
