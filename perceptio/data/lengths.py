"""How long the conversations about a sample become for the model of a recipe, before anything is packed."""

from collections.abc import Sequence

import numpy as np
import torch

from perceptio.data.conversations import DEPTH_MAP_ANSWER, DEPTH_MAP_QUESTION, DEPTH_TASKS, MARKED
from perceptio.data.records import TurnRecord
from perceptio.interfaces import StreamName, TextTokenizer, Turn
from perceptio.model.inference.sequence import SequenceWriter
from perceptio.model.parts import build_part
from perceptio.recipe import Recipe

_PLACEHOLDER = np.zeros((1, 1), dtype=bool)
_DEPTH_MAP = TurnRecord(question=DEPTH_MAP_QUESTION, answer=DEPTH_MAP_ANSWER, task="depth_map")


class ConversationLengths:
    """Counts slots as `SequenceWriter` writes them.

    Args:
        recipe: Whose parts and data settings apply; no weights are read, but the text tokenizer's files.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.plan = recipe, recipe.plan
        with torch.device("meta"):
            self.text: TextTokenizer = build_part(recipe.language).text_tokenizer
        template = self.text.template
        self._start = sum(
            len(self.text.encode_template(text))
            for text in (template.start, template.before_image, template.after_image)
            if text
        )
        self._block = self._block_slots()

    @property
    def limit(self) -> int | None:
        """The longest conversation that the model serves; None: any."""
        return self.recipe.language.spec.max_length

    def longest(self, records: Sequence[TurnRecord], size: tuple[int, int], *, has_depth: bool) -> int:
        """Slots of the longest conversation that training can draw from a sample.

        Args:
            records: The sample's turns.
            size: Height and width of the picture.
            has_depth: Whether the sample has depth.
        """
        if self.recipe.data.perceive == "never":
            records = [record for record in records if record.task != "referring"]
        reads_depth = has_depth and "depth" in self.recipe.order and self.recipe.data.perceive != "never"
        has_codes = has_depth and self.plan.depth is not None
        costs = [self._turn_slots(record, has_codes) for record in records]
        own_turn = reads_depth and (
            self.recipe.data.perceive == "separate_task" or "depth_map" in self.recipe.data.mixture
        )
        if own_turn:
            costs.append(self._turn_slots(_DEPTH_MAP, False))
        room = self.recipe.data.turns + (self.recipe.data.perceive == "separate_task")
        block = (
            self._block
            if reads_depth and (own_turn or any(one.task in DEPTH_TASKS for one in records))
            else 0
        )
        features = self.recipe.vision.num_features(*size)
        return self._start + features + sum(sorted(costs, reverse=True)[:room]) + block

    def _turn_slots(self, record: TurnRecord, has_codes: bool) -> int:
        objects = len(record.objects)
        segmented = objects and "segmentation" in self.recipe.order and self.recipe.data.perceive != "never"
        perceive: tuple[StreamName, ...] = ("segmentation",) if segmented else ()
        turn = Turn(
            question=record.question,
            answer=record.answer,
            task=record.task,
            points=record.points,
            masks=(_PLACEHOLDER,) * objects,
            perceive=perceive,
            readout=has_codes and record.task == MARKED and self.recipe.answer_format == "readout",
        )
        length = self.plan.depth.length if self.plan.depth else 0
        segmentation = self.recipe.segmentation
        per_object = segmentation.spec.codes.length if segmentation and segmentation.spec.codes else 0
        writer = self._writer()
        before = len(writer.ids)
        writer.write_question(turn, None, self.recipe.points == "tokens")
        writer.write_answer(turn, [0] * length, [[0] * per_object] * objects, self.recipe.mask_prompt)
        return len(writer.ids) - before

    def _block_slots(self) -> int:
        if self.plan.depth is None:
            return 0
        writer = self._writer()
        before = len(writer.ids)
        writer.write_block([0] * self.plan.depth.length)
        return len(writer.ids) - before

    def _writer(self) -> SequenceWriter:
        return SequenceWriter(self.plan, self.text)
