"""Evaluating a model on a folder of data: every question asked, every figure with its count.

What is measured follows METHOD §7 of the field's benchmarks: HardBLINK's accuracy per number of points, referring
cIoU and gIoU, the depth block against truth in metres, and what the answers owe to the block (decoded-map readout,
true codes, another image's codes).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.data.conversations import DEPTH_MAP_QUESTION, MARKED
from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.evaluation.depth import DepthMeter
from perceptio.evaluation.intervals import wilson
from perceptio.evaluation.masks import MaskMeter
from perceptio.interfaces import Sample, Turn
from perceptio.model.answer import decode_depth, predict_masks, resize_masks
from perceptio.model.generation import Generated, GenerationSettings, generate
from perceptio.model.perception_model import PerceptionModel
from perceptio.model.sequence import LETTERS
from perceptio.ops.depth_maps import from_map, resize_depth

BATCH_SIZE = 48


@attrs.frozen(kw_only=True)
class Question:
    """One marked-point question and what was answered."""

    sample: int
    num_points: int
    expected: str
    answered: str

    @property
    def correct(self) -> bool:
        """Whether the letters agree."""
        return self.expected == self.answered


@attrs.frozen(kw_only=True)
class _Item:
    sample: int
    turn: Turn


class Evaluation:
    """Asks a model the questions of a folder.

    Args:
        model: The model, in eval mode.
        dataset: The questions.
        limit: Use only the first so many samples; None: all.
        progress: Called with how many questions are done over all passes of `run`, and of how many.
    """

    def __init__(
        self,
        model: PerceptionModel,
        dataset: FolderDataset,
        *,
        limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.model, self.dataset, self.progress = model.eval(), dataset, progress
        count = len(dataset) if limit is None else min(limit, len(dataset))
        if count == 0:
            raise DataError("There is nothing to evaluate on: the folder has no sample.")
        self.samples: list[Sample] = [dataset[i] for i in range(count)]
        self._true_codes: Tensor | None = None
        self._asked = self._to_ask = 0

    def run(self) -> dict[str, Any]:
        """Every figure the model and the data allow, as nested dictionaries."""
        perceives = self.model.recipe.data.perceive == "before" and "depth" in self.model.recipe.order
        self._asked, self._to_ask = 0, self._count_questions(perceives)
        metrics: dict[str, Any] = {}
        if self._items(MARKED):
            metrics |= self.marked_points(perceives)
        if "segmentation" in self.model.recipe.order and self._items("referring"):
            metrics["referring"] = self.referring()
        if "depth" in self.model.recipe.order and not perceives:
            metrics["depth_map"] = self.depth_maps()
        if self._items("attribute"):
            metrics["attribute"] = self.attributes()
        return metrics

    def marked_points(self, perceives: bool) -> dict[str, Any]:
        """Relative depth per number of points; where the model perceives first, also what that is worth."""
        items = self._items(MARKED)
        settings = GenerationSettings(
            order=("depth",) if perceives else (), force=("depth",) if perceives else ()
        )
        settings = attrs.evolve(settings, max_new_tokens=8)
        own = list(self._generate(items, settings))
        metrics: dict[str, Any] = {"relative_depth": _accuracy(self._answers(items, own))}
        if not perceives:
            return metrics
        metrics["relative_depth_readout"] = _accuracy(self._decoded_answers(items, own))
        metrics["depth_block"] = self._block_figures(items, own)
        codes_nL = self.true_codes()
        another_nL = codes_nL.roll(1, 0)
        for name, given_nL in (("oracle_codes", codes_nL), ("shuffled_codes", another_nL)):
            metrics[name] = _accuracy(self._answers(items, self._generate(items, settings, given_nL)))
        return metrics

    def referring(self) -> dict[str, Any]:
        """Masks of referring expressions; an answer without `[SEG]` is an empty mask and counts."""
        items = self._items("referring")
        meter = MaskMeter()
        settings = GenerationSettings(order=("segmentation",), max_new_tokens=1)
        for batch, images, index, generated in self._batches(items, settings):
            logits = predict_masks(self.model, images, index, generated)
            rows_N = generated.objects.row_N.tolist()
            for row, item in enumerate(batch):
                height, width = item.turn.masks[0].shape if item.turn.masks else images[index[row]].shape[-2:]
                found = [
                    resize_masks(logits[n], (height, width)) for n, owner in enumerate(rows_N) if owner == row
                ]
                target = (
                    np.logical_or.reduce(item.turn.masks)
                    if item.turn.masks
                    else np.zeros((height, width), dtype=bool)
                )
                predicted = np.logical_or.reduce(found) if found else None
                meter.update(predicted, target)
        return meter.compute()

    def depth_maps(self) -> dict[str, Any]:
        """The depth block as a task of its own, for models that answer without perceiving."""
        items = [
            _Item(sample=i, turn=Turn(question=DEPTH_MAP_QUESTION, answer="", task="depth_map"))
            for i, sample in enumerate(self.samples)
            if sample.depth is not None
        ]
        settings = GenerationSettings(order=("depth",), force=("depth",), readout=False, max_new_tokens=1)
        return self._map_figures(items, list(self._generate(items, settings)))

    def attributes(self) -> dict[str, Any]:
        """Plain questions, answered without perceiving; the whole answer must agree."""
        items = self._items("attribute")
        settings = GenerationSettings(order=(), readout=False, max_new_tokens=8)
        text = self.model.language.text_tokenizer
        right = 0
        for item, (generated, row) in zip(items, self._rows(self._generate(items, settings)), strict=True):
            ids = generated.text_BT[row].tolist()
            ids = ids[: ids.index(text.end_id)] if text.end_id in ids else ids
            right += text.decode(ids).strip().lower() == item.turn.answer.strip().lower()
        return _share(right, len(items))

    def true_codes(self) -> Tensor:
        """The depth codes [n, L] of the samples' true depth."""
        if self._true_codes is None:
            assert self.model.depth is not None
            spec = self.model.depth.spec
            maps = [
                resize_depth(from_map(sample.depth, spec.convention), spec.image_size)[0]
                for sample in self.samples
                if sample.depth is not None
            ]
            if len(maps) != len(self.samples):
                raise DataError("True codes need the depth of every sample, and some have none.")
            with torch.inference_mode():
                chunks = torch.stack(maps).to(self.model.device).split(64)
                self._true_codes = torch.cat([self.model.depth.encode(chunk) for chunk in chunks])
        return self._true_codes

    # -- asking ------------------------------------------------------------------------------------------------

    def _items(self, task: str) -> list[_Item]:
        return [
            _Item(sample=i, turn=turn)
            for i, sample in enumerate(self.samples)
            for turn in sample.turns
            if turn.task == task
        ]

    def _count_questions(self, perceives: bool) -> int:
        """How many `run` asks: who perceives is asked with own, true and other codes, and once per image freely."""
        marked = [item.sample for item in self._items(MARKED)]
        count = 3 * len(marked) + len(set(marked)) if perceives else len(marked)
        if "segmentation" in self.model.recipe.order:
            count += len(self._items("referring"))
        if "depth" in self.model.recipe.order and not perceives:
            count += sum(sample.depth is not None for sample in self.samples)
        return count + len(self._items("attribute"))

    @torch.inference_mode()
    def _batches(
        self, items: Sequence[_Item], settings: GenerationSettings, given_nL: Tensor | None = None
    ) -> Iterator[tuple[Sequence[_Item], list[Tensor], list[int], Generated]]:
        for first in range(0, len(items), BATCH_SIZE):
            batch = items[first : first + BATCH_SIZE]
            used = sorted({item.sample for item in batch})
            images = [self._image(i) for i in used]
            index = [used.index(item.sample) for item in batch]
            given = None if given_nL is None else given_nL[[item.sample for item in batch]]
            turns = [item.turn for item in batch]
            yield (
                batch,
                images,
                index,
                generate(self.model, turns, images, index, settings, given_codes_BL=given),
            )
            if self.progress is not None:
                self._asked += len(batch)
                self.progress(self._asked, max(self._asked, self._to_ask))

    def _generate(
        self, items: Sequence[_Item], settings: GenerationSettings, given_nL: Tensor | None = None
    ) -> Iterator[Generated]:
        for _, _, _, generated in self._batches(items, settings, given_nL):
            yield generated

    def _rows(self, generated: Any) -> Iterator[tuple[Generated, int]]:
        for batch in generated:
            for row in range(len(batch.text_BT)):
                yield batch, row

    def _image(self, number: int) -> Tensor:
        image = self.samples[number].image_3HW
        assert image is not None, "A data folder's samples have images."
        return image.to(self.model.device)

    # -- judging -----------------------------------------------------------------------------------------------

    def _answers(self, items: Sequence[_Item], generated: Any) -> list[Question]:
        text = self.model.language.text_tokenizer
        questions = []
        for item, (batch, row) in zip(items, self._rows(generated), strict=True):
            ids = [token for token in batch.text_BT[row].tolist() if token < self.model.plan.base_vocab]
            questions.append(_question(item, parse_letter(text.decode(ids))))
        return questions

    def _decoded_answers(self, items: Sequence[_Item], generated: Sequence[Generated]) -> list[Question]:
        """The nearest marked point on the map that the block decodes to, whatever the answer says."""
        maps = [depth for batch in generated for depth in decode_depth(self.model, batch)]
        questions = []
        for item, depth in zip(items, maps, strict=True):
            if depth is None:
                questions.append(_question(item, ""))
                continue
            h, w = depth.values_HW.shape
            values = [
                depth.values_HW[min(int(y * h), h - 1), min(int(x * w), w - 1)] for x, y in item.turn.points
            ]
            best = int(np.argmin(values) if depth.unit == "metres" else np.argmax(values))
            questions.append(_question(item, LETTERS[best]))
        return questions

    def _block_figures(self, items: Sequence[_Item], own: Sequence[Generated]) -> dict[str, Any]:
        free = GenerationSettings(order=("depth",), grammar=False, readout=False, max_new_tokens=1)
        one_each = list({item.sample: item for item in items}.values())
        formed = sum(int(g.depth.whole_B.sum()) for g in own)
        free_formed = sum(
            int((g.depth.whole_B & g.depth.closed_B).sum()) for g in self._generate(one_each, free)
        )
        figures = self._map_figures(items, own)
        return figures | {
            "well_formed": formed / len(items),
            "well_formed_free": free_formed / len(one_each),
        }

    def _map_figures(self, items: Sequence[_Item], generated: Sequence[Generated]) -> dict[str, Any]:
        meter = DepthMeter()
        seen: set[int] = set()
        for item, depth in zip(
            items, (d for batch in generated for d in decode_depth(self.model, batch)), strict=True
        ):
            truth = self.samples[item.sample].depth
            if item.sample in seen or depth is None or truth is None or truth.unit != "metres":
                continue
            seen.add(item.sample)
            predicted = torch.from_numpy(depth.values_HW)[None, None]
            height, width = depth.values_HW.shape
            target = resize_depth(torch.from_numpy(truth.values_HW)[None, None], (height, width))
            meter.update(predicted, target)
        return meter.compute() if seen else {}


def parse_letter(text: str) -> str:
    """The letter an answer chooses, or `""`: `(B)`, `point B is closer`, `answer is B`, or a lone letter."""
    for pattern in (
        r"\(([A-Z])\)",
        r"\bpoint ([A-Z])\b[^.]*\bclose(?:r|st)\b",
        r"\banswer is \W*([A-Z])\b",
        r"^\W*([A-Z])\W*$",
    ):
        found = re.search(pattern, text)
        if found:
            return found.group(1)
    return ""


def _question(item: _Item, answered: str) -> Question:
    return Question(
        sample=item.sample,
        num_points=len(item.turn.points),
        expected=parse_letter(item.turn.answer),
        answered=answered,
    )


def _accuracy(questions: Sequence[Question]) -> dict[str, Any]:
    """Accuracy per number of points and the mean of these, as HardBLINK reports it."""
    figures: dict[str, Any] = {}
    for points in sorted({question.num_points for question in questions}):
        mine = [question for question in questions if question.num_points == points]
        figures[str(points)] = sum(question.correct for question in mine) / len(mine)
    mean = sum(figures.values()) / len(figures)
    right, count = sum(question.correct for question in questions), len(questions)
    low, high = wilson(right, count)
    unparsed = sum(question.answered == "" for question in questions)
    return figures | {"mean": mean, "interval": [low, high], "count": count, "unparsed": unparsed}


def _share(right: int, count: int) -> dict[str, Any]:
    low, high = wilson(right, count)
    return {"accuracy": right / count, "interval": [low, high], "count": count}
