"""Evaluating a model on a folder of data: every question asked, every figure with its count.

What is measured follows the field's benchmarks: HardBLINK's accuracy per number of points, referring cIoU and gIoU,
the depth block against truth, and what the answers owe to the block (decoded-map readout, true codes, another image's
codes). Samples are read one after the other; questions wait until a batch of their pass is full, and nothing else of
a sample is kept.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perceptio.data.conversations import MARKED
from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.evaluation.passes import (
    Case,
    DepthMaps,
    FreeBlock,
    GivenBlock,
    MarkedPoints,
    Pass,
    PlainQuestions,
    Question,
    Referring,
    Reply,
)
from perceptio.interfaces import DepthMap, Sample, Turn
from perceptio.model.inference.answer import decode_depth, predict_masks, resize_masks, text_ids
from perceptio.model.inference.generation import generate
from perceptio.model.inference.marks import shown_images
from perceptio.model.perception_model import PerceptionModel
from perceptio.interfaces.depth_maps import from_map, resize_depth
from perceptio.ops.eval_mode import in_eval_mode

BATCH_SIZE = 48


class Evaluation:
    """Asks a model the questions of a folder.

    Args:
        model: The model; its mode is left alone.
        dataset: The questions.
        limit: Use only the first so many samples; None: all.
        progress: Called with how many samples have been read and asked about, and of how many.

    Raises:
        DataError: There is no sample.
    """

    def __init__(
        self,
        model: PerceptionModel,
        dataset: FolderDataset,
        *,
        limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.model, self.dataset, self.progress = in_eval_mode(model), dataset, progress
        self.count = len(dataset) if limit is None else min(limit, len(dataset))
        if self.count == 0:
            raise DataError("There is nothing to evaluate on: the folder has no sample.")

    @torch.inference_mode()
    def run(self) -> dict[str, Any]:
        """Every figure the model and the data allow, as nested dictionaries.

        Of samples without depth, what needs it is left out, and the counts say so. `not_scored` counts the questions,
        by task, that this model cannot answer.
        """
        passes = self._passes()
        scored = set().union(*passes.values())
        waiting: dict[Pass, list[Question]] = {one: [] for one in passes}
        left_out: Counter[str] = Counter()
        for number, case in enumerate(self._cases(), start=1):
            left_out.update(turn.task for turn in case.sample.turns if turn.task not in scored)
            for one, questions in waiting.items():
                questions.extend(one.questions(case))
                while len(questions) >= BATCH_SIZE:
                    self._ask(one, questions[:BATCH_SIZE])
                    del questions[:BATCH_SIZE]
            if self.progress is not None and number < self.count:
                self.progress(number, self.count)
        figures: dict[str, Any] = {}
        for one, questions in waiting.items():
            if questions:
                self._ask(one, questions)
            if one.asked:
                for name, found in one.figures().items():
                    figures[name] = figures.get(name, {}) | found
        if self.progress is not None:
            self.progress(self.count, self.count)
        return figures | ({"not_scored": dict(left_out)} if left_out else {})

    def _passes(self) -> dict[Pass, set[str]]:
        """The ways of asking that suit the model and the data, and the tasks that each scores."""
        order = self.model.recipe.order
        perceives = self.model.recipe.data.perceive == "before" and "depth" in order
        spec = None if self.model.depth is None else self.model.depth.spec
        metric = spec is not None and spec.convention.metric and self.dataset.info.depth_unit == "metres"
        passes: dict[Pass, set[str]] = {MarkedPoints(perceives=perceives, metric=metric): {MARKED}}
        if perceives:
            passes[FreeBlock()] = passes[GivenBlock("oracle_codes", true=True)] = {MARKED}
            passes[GivenBlock("shuffled_codes", true=False)] = {MARKED}
        elif "depth" in order:
            passes[DepthMaps(metric=metric)] = {"depth_map"}
        if "segmentation" in order:
            passes[Referring()] = {"referring"}
        known = {MARKED, "referring", "depth_map"}
        for task in sorted(set().union(*(self.dataset.tasks[n] for n in range(self.count))) - known):
            passes[PlainQuestions(task, self.model.language.text_tokenizer)] = {task}
        return passes

    def _cases(self) -> Iterator[Case]:
        """The samples in order; other codes are those of the sample with depth before it, of the first the last's."""
        before: Tensor | None = None
        for number in range(self.count):
            sample = self.dataset[number]
            own = self._codes(sample.depth)
            if own is not None and before is None:
                last = self._last_with_depth(number)
                before = None if last is None else self._codes(self.dataset.depth(last))
            yield Case(sample=sample, true_codes_L=own, other_codes_L=None if own is None else before)
            before = before if own is None else own

    def _last_with_depth(self, first: int) -> int | None:
        """The last sample with depth after the first one."""
        others = range(self.count - 1, first, -1)
        return next((n for n in others if self.dataset.records[n].depth is not None), None)

    def _codes(self, depth: DepthMap | None) -> Tensor | None:
        """The codes [L] of a map; None where the model's are of metres and the map has none."""
        if depth is None or self.model.depth is None:
            return None
        spec = self.model.depth.spec
        if spec.convention.metric and depth.unit != "metres":
            return None
        unit_11HW = resize_depth(from_map(depth, spec.convention), spec.image_size)
        return self.model.depth.encode(unit_11HW.to(self.model.device))[0]

    def _ask(self, one: Pass, questions: Sequence[Question]) -> None:
        """Ask a batch of questions of a pass, and score the replies."""
        one.asked += len(questions)
        for reply in self._replies(one, questions):
            one.score(reply)

    def _replies(self, one: Pass, questions: Sequence[Question]) -> Iterator[Reply]:
        model, turns = self.model, [question.turn for question in questions]
        samples: list[Sample] = []
        index = []
        for question in questions:
            if not samples or samples[-1] is not question.sample:
                samples.append(question.sample)
            index.append(len(samples) - 1)
        images, index = shown_images(list(map(_image, samples)), index, turns, model.recipe.points)
        images = [image.to(model.device) for image in images]
        codes = [question.codes_L for question in questions if question.codes_L is not None]
        given_BL = torch.stack(codes) if codes else None
        written = generate(model, turns, images, index, one.settings(questions), given_codes_BL=given_BL)
        depths = decode_depth(model, written)
        masks = predict_masks(model, images, index, written) if one.reads_masks else []
        owners, closed = written.objects.row_N.tolist(), written.depth.closed_B.tolist()
        text = model.language.text_tokenizer
        for row, question in enumerate(questions):
            size = _size(question.turn, images[index[row]])
            mine = [resize_masks(masks[n], size) for n, owner in enumerate(owners) if masks and owner == row]
            ids, _ = text_ids(model, written, row)
            yield Reply(
                question=question,
                text=text.decode([token for token in ids if token < model.plan.base_vocab]),
                depth=depths[row],
                closed=closed[row],
                mask_HW=np.logical_or.reduce(mine) if mine else None,
            )


def _image(sample: Sample) -> Tensor:
    assert sample.image_3HW is not None, "A data folder's samples have images."
    return sample.image_3HW


def _size(turn: Turn, image_3HW: Tensor) -> tuple[int, int]:
    height, width = turn.masks[0].shape if turn.masks else image_3HW.shape[-2:]
    return int(height), int(width)
