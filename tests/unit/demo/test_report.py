import re
from pathlib import Path

import attrs
import numpy as np
from balanced_html import assert_balanced
from PIL import Image

from perceptio.demo import figures, sections, streams
from perceptio.demo.metrics import has_learned
from perceptio.demo.picture import draw_picture
from perceptio.demo.report import write_report
from perceptio.demo.results import Demo


def test_the_report_is_whole_and_needs_nothing_else(demo: Demo) -> None:
    write_report(demo, demo.root / "report.html")
    html = (demo.root / "report.html").read_text(encoding="utf-8")
    assert_balanced(html)
    links = re.findall(r'(?:src|href)="([^"]{1,20})', html)
    assert links and all(link.startswith(("data:image/png", "#")) for link in links)
    for text in ("75.0%", "70.0–80.0%", "no mask: it did not emit [SEG]", "&lt;perceptio&gt;", "0.123"):
        assert text in html
    assert "+15.0 points</b> (+11.0 to +19.0) against the strongest control, read-out without a block" in html
    # An arm that has not learned has a line of its own, and neither a bar nor a difference.
    assert "look-up without tokens</span>" not in sections.headline(demo) and "+43.0" not in html
    assert html.count("has not learned to answer: no control") == 1


def test_a_difference_that_may_be_chance_is_called_so(demo: Demo) -> None:
    assert "as good, as far as these questions can tell" not in sections.headline(demo)
    found = {"difference": 0.002, "interval": [-0.02, 0.03], "count": 629}
    paired = demo.metrics["paired"] | {"perceptio_minus_readout_without_block": found}
    unsure = Demo(root=demo.root, metrics=demo.metrics | {"paired": paired})
    assert "as good, as far as these questions can tell" in sections.headline(unsure)


def test_without_a_control_that_has_learned_nothing_is_compared(demo: Demo) -> None:
    own = demo.metrics["readout_without_block"] | {"learned": False}
    alone = Demo(root=demo.root, metrics=demo.metrics | {"readout_without_block": own})
    assert alone.strongest is None and alone.learned == ("perceptio",)
    assert "No control has learned to answer" in sections.headline(alone)


def test_a_control_has_learned_above_the_commonest_letter_and_with_parsed_answers() -> None:
    answers = {"interval": [0.35, 0.41], "unparsed": 6, "count": 600}
    assert has_learned(answers, 0.34)
    assert not has_learned(answers, 0.35)
    assert not has_learned(answers | {"unparsed": 7}, 0.34)


def test_right_and_wrong_answers_are_told_apart(demo: Demo) -> None:
    write_report(demo, demo.root / "report.html")
    html = (demo.root / "report.html").read_text(encoding="utf-8")
    shown = demo.galleries["perceptio"]
    right = sum(one.marked.answered == one.marked.expected for one in shown)
    assert html.count("✓") == right * len(demo.arms)
    assert html.count("✗") == (len(shown) - right) * len(demo.arms)


def test_the_picture_is_wide(demo: Demo) -> None:
    draw_picture(demo, demo.root / "picture.png")
    with Image.open(demo.root / "picture.png") as picture:
        assert picture.width > 2 * picture.height


def test_a_scene_without_questions_is_shown_without(demo: Demo) -> None:
    first, *others = demo.galleries["perceptio"]
    bare = attrs.evolve(first, marked=None, referring=None, decoded={})
    demo.__dict__["galleries"] = {**demo.galleries, "perceptio": (bare, *others)}
    write_report(demo, demo.root / "report.html")
    draw_picture(demo, Path(demo.root / "picture.png"))
    assert (demo.root / "report.html").read_text(encoding="utf-8").count("scene 0<") == 1


def test_every_kind_of_stream_has_a_section_and_is_compared_with_no_arm(
    demo: Demo, demo_with_streams: Demo
) -> None:
    assert streams.every_stream(demo) == ""
    for section in (sections.headline, sections.other_results, sections.training_curves):
        assert section(demo_with_streams) == section(demo)
    write_report(demo_with_streams, demo.root / "report.html")
    html = (demo.root / "report.html").read_text(encoding="utf-8")
    assert_balanced(html)
    section = streams.every_stream(demo_with_streams)
    assert section in html and html.count("98.7%") == section.count("98.7%") == 1
    # Written, of the codebook, of another scene; and 5 of 12 boxes are missing.
    assert "0.310 <span class='soft'>0.290–0.330</span>" in section
    assert re.search(r">17.3<.*?>6.5<.*?>50.0<.*?>4<.*?>0<", section)
    assert re.search(r"0.951.*?>0.100<.*?>12<.*?>5<", section)
    assert re.search(r">0.412<.*?>0.730<.*?>0.020<", section)
    assert "<summary>every kind of stream" in html


def test_pictures_of_streams_show_truth_and_writing_alike(demo_with_streams: Demo) -> None:
    section = streams.every_stream(demo_with_streams)
    for name in ("depth", "edges", "normals"):
        drawn = re.findall(rf'aria-label="{name}: [^"]*"><image href="([^"]*)"', section)
        assert len(drawn) == 3 * len(demo_with_streams.galleries["streams"])
        assert drawn[0::3] == drawn[1::3] == drawn[2::3]
    boxes = re.findall(r'class="(predicted|true)" d="(M\d+ \d+H\d+V\d+H\d+Z)"', section)
    assert boxes[0][0] == "true" and section.count("box: not written") == 1
    assert boxes[1][1] == boxes[2][1] and {boxes[1][0], boxes[2][0]} == {"predicted", "true"}


def test_a_stronger_edge_of_another_map_darkens_this_one() -> None:
    weak, strong = np.full((2, 2, 1), 0.25, dtype=np.float32), np.eye(2, dtype=np.float32)[..., None]
    weak[0, 0] = 0.0
    drawn = streams.drawn_together({"true": weak, "written": strong})
    assert drawn["true"].max() == 64 and drawn["written"].max() == 255


def test_a_box_lies_around_its_mask() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 2:6] = True
    assert figures.box_around(mask) == (2, 1, 6, 3)
    assert figures.box_svg((2, 1, 6, 3.5), "true") == '<path class="true" d="M2 1H6V3.5H2Z"/>'


def test_outline_follows_the_edges_of_pixels() -> None:
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 2] = True
    drawn = figures.outline_svg(mask, "true")
    assert set(re.findall(r"M\d \d[hv]1", drawn)) == {"M2 1h1", "M2 2h1", "M2 1v1", "M3 1v1"}
    mask[:] = True
    assert len(re.findall("M", figures.outline_svg(mask, "true"))) == 16


def test_depth_colors_are_logarithmic_and_clipped() -> None:
    colors = figures.depth_colors(np.array([[0.5, 1.0, 4.0, 16.0, 99.0]]))
    assert (colors[0, 0] == colors[0, 1]).all() and (colors[0, 3] == colors[0, 4]).all()
    middle = figures.depth_colors(np.geomspace(1.0, 16.0, 3)[None])[0, 1]
    assert (colors[0, 2] == middle).all()
