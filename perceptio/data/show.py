"""An HTML page about a data folder: its content in numbers and images, in one self-contained file.

Counts cover all samples. Anything that requires reading files (sizes of images, lengths in tokens) is measured on
samples spread evenly over the folder, and the page says on how many.

Shapes: H W pixels.
"""

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from perceptio.data.folder import FolderDataset
from perceptio.data.lengths import ConversationLengths
from perceptio.errors import DataError, InputError
from perceptio.interfaces import Sample, Turn
from perceptio.ops import page
from perceptio.ops.image_files import shown_size
from perceptio.ops.marks import draw_marks
from perceptio.ops.pictures import overlaid, picture_of
from perceptio.ops.wording import number_of
from perceptio.recipe import Recipe

SHOWN, MEASURED = 12, 300
"""Number of samples that are shown, and of samples whose files are measured."""
TURNS, WIDTH = 6, 360
"""Number of turns shown of a sample, and the longer side of its images in pixels."""
BINS = 10
COLOR = "#3b7ddd"


class FolderPage:
    """Collects the content of a page about a data folder.

    Args:
        path: The folder, or the address of a packed one.
        recipe: The recipe whose model determines lengths in tokens; None: they are not measured.
        progress: Called with the number of samples read, and the total.

    Raises:
        DataError: The folder or one of its lines does not follow the format.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        recipe: Recipe | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.dataset, self.recipe = FolderDataset(path), recipe
        self.progress = progress
        self.broken: list[str] = []

    def html(self) -> str:
        """Return the page."""
        sections = (self._headline(), self._turns(), self._pictures(), self._lengths(), self._samples())
        return page.page(f"{self.dataset.name}", [section for section in sections if section])

    def _headline(self) -> str:
        dataset, count = self.dataset, len(self.dataset)
        named = {"picture": "image", "depth": "depth", "masks": "masks", **{n: n for n in dataset.info.maps}}
        rows = [[escape(what), f"{len(dataset.with_target(target)):,}"] for what, target in named.items()]
        unit = "" if dataset.info.depth_unit is None else f" Depth is in {escape(dataset.info.depth_unit)}."
        roots = "".join(
            f"<li><code>{escape(name)}</code> is <code>{escape(place)}</code></li>"
            for name, place in dataset.info.roots.items()
        )
        return (
            f"<h1>{escape(str(dataset.name))}</h1>"
            f'<p class="lead">{number_of(count, "sample")}.{unit}</p>'
            + page.table(["samples with", "count"], rows)
            + (f"<p>Files lie in these roots, too:</p><ul>{roots}</ul>" if roots else "")
        )

    def _turns(self) -> str:
        """Return turns by task, and the lengths of questions, answers and conversations, over all lines."""
        turns, samples, objects, points = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
        per_sample, segmented, words = [], [], []
        for number, record in enumerate(self.dataset.records, start=1):
            samples.update({turn.task for turn in record.turns})
            per_sample.append(len(record.turns))
            if record.masks is not None:
                segmented.append(len(record.objects))
            for turn in record.turns:
                turns[turn.task] += 1
                objects[turn.task] += len(turn.objects)
                points[turn.task] += len(turn.points)
                words.append(len(turn.answer.split()))
            if self.progress is not None:
                self.progress(number, len(self.dataset))
        rows = [
            [escape(task), f"{count:,}", f"{samples[task]:,}", f"{objects[task]:,}", f"{points[task]:,}"]
            for task, count in turns.most_common()
        ]
        ordered = sum(self.dataset.records[n].ordered for n in _spread(len(self.dataset), MEASURED))
        kind = "" if not ordered else "<p>Turns of ordered samples are one conversation each.</p>"
        return (
            "<h2>Turns</h2>"
            + page.table(["task", "turns", "samples", "objects", "points"], rows)
            + kind
            + _distribution("Turns of a sample", per_sample)
            + _distribution("Objects that the answers of a sample segment, of samples with masks", segmented)
            + _distribution("Words of an answer", words)
        )

    def _pictures(self) -> str:
        """Return the sizes of images, read from their headers."""
        pictured = self.dataset.with_target("image")
        heights, widths, shapes = [], [], Counter[str]()
        for place in _spread(len(pictured), MEASURED):
            image = self.dataset.records[int(pictured[place])].image
            assert image is not None
            try:
                height, width = shown_size(self.dataset.files.found(image))
            except (DataError, InputError) as error:
                self.broken.append(str(error))
                continue
            heights.append(height)
            widths.append(width)
            shapes[
                "wider than high" if width > height else "higher than wide" if height > width else "square"
            ] += 1
        if not heights:
            return ""
        shares = [(what, count / len(heights), None, COLOR) for what, count in shapes.most_common()]
        return (
            "<h2>Pictures</h2>"
            + _measured_on(len(heights), len(pictured))
            + page.bars(shares)
            + _distribution("Width in pixels", widths)
            + _distribution("Height in pixels", heights)
        )

    def _lengths(self) -> str:
        """Return the longest conversations that training can draw, in slots of the model."""
        if self.recipe is None:
            return ""
        lengths, found = ConversationLengths(self.recipe), []
        for number in _spread(len(self.dataset), MEASURED):
            record = self.dataset.records[number]
            if not record.turns:
                continue
            try:
                found.append(lengths.longest(record, self.dataset[number]))
            except DataError as error:
                self.broken.append(str(error))
        if not found:
            return ""
        limit = "" if lengths.limit is None else f" It serves at most {lengths.limit:,}."
        return (
            f"<h2>Lengths for {escape(self.recipe.name)}</h2>"
            f"<p>Slots of the longest conversation that training can draw from a sample, pictures and all.{limit}</p>"
            + _measured_on(len(found), len(self.dataset))
            + _distribution("Slots", found)
        )

    def _samples(self) -> str:
        cards = [self._card(number) for number in _spread(len(self.dataset), SHOWN)]
        broken = "".join(f"<li>{escape(message)}</li>" for message in dict.fromkeys(self.broken))
        return (
            f'<h2>Samples</h2>{_measured_on(len(cards), len(self.dataset))}<div class="cards broad">'
            + "".join(cards)
            + "</div>"
            + (f'<h2>Files that cannot be read</h2><ul class="wrong">{broken}</ul>' if broken else "")
        )

    def _card(self, number: int) -> str:
        name = f"<h3>{escape(self.dataset.records[number].id)}</h3>"
        try:
            sample = self.dataset[number]
            pictures = list(_figures(sample))
        except DataError as error:
            self.broken.append(str(error))
            return page.card(name, f'<p class="wrong">{escape(str(error))}</p>')
        more = len(sample.turns) - TURNS
        rest = f'<p class="soft">… and {more} more.</p>' if more > 0 else ""
        said = "".join(map(_turn, sample.turns[:TURNS]))
        row = f'<div class="row">{"".join(pictures)}</div>' if pictures else '<p class="soft">No picture.</p>'
        return page.card(name, row, said, rest)


def _figures(sample: Sample) -> Iterator[str]:
    """Yield the image with the objects of answers and the first marked points, and with depth over it."""
    if sample.image_3HW is None:
        return
    masks = [mask_HW for turn in sample.turns for mask_HW in turn.masks] or list(sample.objects)
    marked = next((turn for turn in sample.turns if turn.points), None)
    shown_3HW = sample.image_3HW if marked is None else draw_marks(sample.image_3HW, marked.points)
    image_HW3 = (shown_3HW.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    what = f"the picture with {number_of(len(masks), 'object')}" if masks else "the picture"
    what += "" if marked is None else f" and {number_of(len(marked.points), 'point')}"
    yield _figure(overlaid(image_HW3, masks), f"{sample.id}: {what}", what)
    depth_HW3 = None if sample.depth is None else picture_of(sample.depth)
    if depth_HW3 is not None:
        gray_HW1 = image_HW3.mean(2, keepdims=True)
        mixed_HW3 = (0.7 * depth_HW3 + 0.3 * gray_HW1).round().astype(np.uint8)
        yield _figure(mixed_HW3, f"{sample.id}: depth over the picture", "depth, near is bright")


def _figure(pixels_HW3: np.ndarray, alt: str, caption: str) -> str:
    picture = Image.fromarray(pixels_HW3)
    picture.thumbnail((WIDTH, WIDTH))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    image = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" style="width:100%">'
    return page.figure(image, escape(caption))


def _turn(turn: Turn) -> str:
    """Return a question and its answer."""
    counted = number_of(len(turn.masks), "object")
    objects = f' <span class="soft">{counted}</span>' if turn.masks else ""
    return (
        f'<p><span class="soft">{escape(turn.task)}</span><br>{escape(turn.question)}<br>'
        f"<b>{escape(turn.answer)}</b>{objects}</p>"
    )


def _distribution(title: str, values: Sequence[int]) -> str:
    """Return shares of integers in ranges of equal width; the last range includes the highest hundredth."""
    if not values:
        return ""
    ordered = np.sort(np.asarray(values))
    low, high = int(ordered[0]), int(np.quantile(ordered, 0.99, method="higher"))
    step = max(1, -(-(high - low + 1) // BINS))
    rows: list[tuple[str, float, None, str]] = []
    for start in range(low, high + 1, step):
        stop = start + step - 1
        last = stop >= high
        inside = (ordered >= start) & ((ordered <= stop) | last)
        top = int(ordered[-1]) if last else stop
        label = f"{start:,}" if top == start else f"{start:,}–{top:,}"
        rows.append((label, float(inside.mean()), None, COLOR))
    middle = f"median {int(np.median(ordered)):,}, mean {ordered.mean():,.1f}, most {int(ordered[-1]):,}"
    return f'<h3>{escape(title)}</h3><p class="caption">{middle}</p>{page.bars(rows)}'


def _measured_on(count: int, all_of: int) -> str:
    if count == all_of:
        return ""
    return f'<p class="caption">{count:,} of {all_of:,}, spread evenly over the folder.</p>'


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` numbers below `count`, evenly spaced."""
    return torch.linspace(0, count - 1, min(count, most)).round().long().unique().tolist() if count else []
