"""The lengths of conversations about a sample for the model of a recipe, before anything is packed."""

from collections.abc import Sequence

import numpy as np
import torch

from perceptio.data.folder.records import SampleRecord
from perceptio.data.tasks import TaskTable
from perceptio.interfaces import Sample, SpecialTokens, TextTokenizer, Turn, TurnRecord
from perceptio.model.inference.sequence import SequenceWriter
from perceptio.model.parts import build_part
from perceptio.recipe import Recipe, Stream

_PLACEHOLDER = np.zeros((1, 1), dtype=bool)


class ConversationLengths:
    """Counts slots as `SequenceWriter` writes them.

    Args:
        recipe: The recipe whose parts and data settings apply. Only the text tokenizer's files are read, no weights.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.plan = recipe, recipe.plan
        with torch.device("meta"):
            self.text: TextTokenizer = build_part(recipe.language).text_tokenizer
        self._tasks = TaskTable(recipe)
        self._start = len(self._writer().ids)
        self._around_image = sum(
            len(self.text.encode_template(text))
            for text in (self.text.template.before_image, self.text.template.after_image)
            if text
        )
        perceives = recipe.data.perceive != "never"
        self._per_image = [stream for stream in recipe.streams if stream.spec.per == "image" and perceives]
        self._per_object = tuple(
            stream.name for stream in recipe.streams if stream.spec.per == "object" and perceives
        )
        self._written = {stream.name: self._stream_slots(stream.name) for stream in self._per_image}
        mixed = [name for name, weight in recipe.data.mixture.items() if weight > 0]
        self._own_tasks = [name for name in mixed if self._tasks[name].writes_turns]

    @property
    def limit(self) -> int | None:
        """Maximum length of a conversation that the model supports; None: unlimited."""
        return self.recipe.language.spec.max_length

    def longest(self, record: SampleRecord, sample: Sample) -> int:
        """Return the number of slots of the longest conversation that training can draw from a sample.

        Args:
            record: The sample's record.
            sample: The sample, with its image if it has one; its own turns are ignored.
        """
        data, has_target = self.recipe.data, sample.has_target
        known = [stream for stream in self._per_image if has_target(stream.spec.target)]
        tasks = [(turn, self._tasks[turn.task]) for turn in record.turns]
        if data.perceive == "never":
            tasks = [(turn, task) for turn, task in tasks if not task.perception_only]
        readable = self.plan.readout is not None and has_target(
            self.recipe.stream(self.plan.readout).spec.target
        )
        costs = [self._turn_slots(_turn(turn), task.reads_points and readable) for turn, task in tasks]
        total, own = self._start, []
        if sample.image_3HW is not None:
            total += self._around_image + self.recipe.vision.num_features(*sample.image_3HW.shape[-2:])
            own = [name for name in self._own_tasks if self._is_possible(name, known)]
        if data.perceive == "separate_task":
            own = [name for name in own if not self._tasks[name].perception_only]
            written = known
            total += sum(self._own_slots(self._tasks.of_stream(stream.name), sample) for stream in known)
        else:
            asking = [task for _, task in tasks] + [self._tasks[name] for name in own]
            written = [
                stream
                for stream in known
                if any(task.may_perceive or stream.name in task.required for task in asking)
            ]
        total += sum(self._written[stream.name] for stream in written)
        longest_own = [max(self._own_slots(name, sample) for name in own)] if own else []
        if record.ordered and len(costs) >= data.turns:  # Then a turn that a task writes stands alone.
            return total + max(sum(costs), *longest_own, 0)
        if record.ordered:
            return total + sum([*costs, *longest_own])
        return total + sum(sorted([*costs, *longest_own], reverse=True)[: data.turns])

    def _is_possible(self, name: str, known: Sequence[Stream]) -> bool:
        """Return whether an image with the targets of these streams has all that a task's own turn requires."""
        return set(self._tasks[name].required) <= {stream.name for stream in known}

    def _own_slots(self, name: str, sample: Sample) -> int:
        return self._turn_slots(self._tasks[name].own_turn(name, sample), readout=False)

    def _turn_slots(self, turn: Turn, readout: bool) -> int:
        """Return the slots of a turn including its objects, without streams that are written once per image."""
        task = self._tasks[turn.task]
        asked = Turn(
            question=turn.question,
            answer=turn.answer,
            task=turn.task,
            points=turn.points,
            masks=turn.masks,
            perceive=self._per_object if task.about_objects and turn.masks else (),
            readout=readout and self.recipe.answer_format != "direct",
            levels=(0,) * len(turn.points),
        )
        name = self.plan.readout
        codes = {} if name is None else {name: [0] * self.plan.readout_block.length}
        writer = self._writer()
        before = len(writer.ids)
        writer.write_question(asked, None, self.recipe.points == "tokens")
        writer.write_answer(asked, codes)
        return len(writer.ids) - before

    def _stream_slots(self, name: str) -> int:
        """Return the slots of a stream that is written once."""
        tokens, writer = self.plan.streams[name], self._writer()
        before = len(writer.ids)
        if isinstance(tokens, SpecialTokens):
            writer.write_special_tokens(name)
        else:
            writer.write_block(name, [0] * tokens.length)
        return len(writer.ids) - before

    def _writer(self) -> SequenceWriter:
        return SequenceWriter(self.plan, self.text)


def _turn(record: TurnRecord) -> Turn:
    """Return a turn with as many masks as it has objects, whatever they show."""
    return Turn(
        question=record.question,
        answer=record.answer,
        task=record.task,
        points=record.points,
        masks=(_PLACEHOLDER,) * len(record.objects),
    )
