"""`report.html`: all results of a demo on one page."""

from pathlib import Path

from perceptio.demo import figures, galleries, sections, streams
from perceptio.demo.results import Demo
from perceptio.errors import DataError
from perceptio.ops import page
from perceptio.ops.files import disk_errors, new_file

REPORT = "report.html"
SECTIONS = (
    sections.headline,
    galleries.question_gallery,
    galleries.depth_gallery,
    galleries.mask_gallery,
    sections.reliance,
    sections.other_results,
    streams.every_stream,
    sections.training_curves,
    sections.depth_tokenizers,
    sections.notes,
    sections.seconds,
    sections.recipes,
)


def write_report(demo: Demo, path: Path) -> None:
    """Write the report of a complete demo."""
    sections_of_page = [html for section in SECTIONS if (html := section(demo))]
    html = page.page("Perceptio: perceive, then answer", sections_of_page, style=figures.STYLE)
    with disk_errors(path, DataError), new_file(path) as new:
        new.write_text(html, encoding="utf-8")
