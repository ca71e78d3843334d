"""Controls: the same questions with a stream's content replaced, to see how much answers depend on it.

As in Ablate-to-Validate (arXiv 2605.21642), a control changes only one stream of a question. Keeping the model's own
output in the other streams, and pairing the differences, are ours.

Shapes: B questions, R questions that are asked again; V values of a question, [L] codes or inputs [n, D].
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.evaluation.asking import Asked
from perceptio.evaluation.replacements import CONTROLS, Control, Replacements, own_values
from perceptio.evaluation.shortcuts import names_a_point, shortcuts
from perceptio.interfaces import Kept, Reply
from perceptio.model.inference.answer import text_of
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.intervals import bootstrap_ratio, wilson


@attrs.define
class ControlledAnswers:
    """The answers under one control.

    Attributes:
        points: Number of marked points of each question.
        right: Whether each answer is right.
        own_right: Whether the model's own answer is right.
        same: Whether both answers are the same text.
    """

    points: list[int] = attrs.field(factory=list)
    right: list[bool] = attrs.field(factory=list)
    own_right: list[bool] = attrs.field(factory=list)
    same: list[bool] = attrs.field(factory=list)

    def compute(self) -> dict[str, Any]:
        """Return figures over the questions that were asked under the control.

        Returns:
            `accuracy`, the mean over numbers of marked points as in HardBLINK, and Wilson's `interval` over all
            questions; its `difference` to the model's own accuracy on the same questions, with a
            `difference_interval` by bootstrap over pairs; `unchanged`, the share of answers whose text is identical
            to the model's own; `count`.
        """
        count, groups = len(self.right), Counter(self.points)
        weights = [1 / (len(groups) * groups[points]) for points in self.points]
        right = [weight * one for weight, one in zip(weights, self.right, strict=True)]
        own_right = [weight * one for weight, one in zip(weights, self.own_right, strict=True)]
        gained = [one - own for one, own in zip(right, own_right, strict=True)]
        return {
            "accuracy": sum(right),
            "interval": list(wilson(sum(self.right), count)),
            "difference": sum(gained),
            "difference_interval": list(bootstrap_ratio(gained, weights)),
            "unchanged": sum(self.same) / count,
            "count": count,
        }


class Controls:
    """Asks questions again, under each control in turn, and counts the answers.

    Args:
        model: The model, in eval mode.
        dataset: The folder to evaluate.
        count: Number of its samples that are evaluated.
        names: The controls.
    """

    def __init__(
        self, model: PerceptionModel, dataset: FolderDataset, count: int, names: Collection[Control]
    ) -> None:
        self.model, self.dataset, self.count = model, dataset, count
        self.names = tuple(name for name in CONTROLS if name in names)
        self._replacements: dict[tuple[str, str], Replacements] = {}
        self._answers: dict[tuple[str, str], dict[Control, ControlledAnswers]] = {}
        self._lettered: dict[str, bool] = {}

    def ask(self, asked: Asked) -> Iterator[tuple[Reply, Kept]]:
        """Ask the questions of a pass again, with each of its controlled streams replaced.

        Yields:
            Every reply, and what to keep of it, under `controls.TASK.STREAM.NAME`.
        """
        task, streams = asked.by.task, asked.written.streams
        turns = [question.turn for question in asked.questions]
        lettered = all(map(names_a_point, turns))
        self._lettered[task] = self._lettered.get(task, True) and lettered
        own_right = [asked.by.is_right(reply) for reply in asked.replies]
        # Streams that every question wrote are kept; what only some wrote remains the model's choice.
        held = {name: own_values(self.model, name, asked.written) for name in streams}
        held = {name: own for name, own in held.items() if bool(streams[name].whole_BO.all())}
        samples = [question.sample for question in asked.questions]
        for stream in asked.by.controlled:
            own_BV = own_values(self.model, stream, asked.written)
            assert own_BV is not None, "Controlled streams are written once per image."
            own = {row: own_BV[row] for row in streams[stream].whole_BO[:, 0].nonzero()[:, 0].tolist()}
            if (task, stream) not in self._replacements:
                made = Replacements(self.model, stream, self.dataset, self.count)
                self._replacements[task, stream] = made
            for name, values in self._replacements[task, stream].of(self.names, own, samples):
                rows = list(values)
                given = {other: own_BV[rows] for other, own_BV in held.items() if own_BV is not None}
                given[stream] = torch.stack([value.to(self.model.device) for value in values.values()])
                answers = self._answers.setdefault((task, stream), {}).setdefault(name, ControlledAnswers())
                for row, text in zip(rows, self._texts(asked, rows, given), strict=True):
                    reply = Reply(question=asked.questions[row], text=text)
                    right = asked.by.is_right(reply)
                    answers.points.append(len(turns[row].points))
                    answers.right.append(right)
                    answers.own_right.append(own_right[row])
                    answers.same.append(text == asked.texts[row])
                    yield reply, {f"controls.{task}.{stream}.{name}": {"right": right}}

    def _texts(self, asked: Asked, rows: Sequence[int], given: Mapping[str, Tensor]) -> list[str]:
        """Return the model's answers to some of the questions, with the given values [R, V]."""
        in_blocks = {name for name, _ in self.model.plan.blocks()}
        written = generate(
            self.model,
            [asked.questions[row].turn for row in rows],
            (),
            [asked.image_index[row] for row in rows],
            asked.settings,
            vision=asked.vision,
            given_codes={name: codes_RL for name, codes_RL in given.items() if name in in_blocks},
            given_inputs={name: inputs_RnD for name, inputs_RnD in given.items() if name not in in_blocks},
        )
        return [text_of(self.model, written, number) for number in range(len(rows))]

    def figures(self) -> dict[str, Any]:
        """Return `controls.TASK.STREAM.NAME`, and `shortcuts.TASK` for tasks whose answers are letters of points."""
        controls: dict[str, Any] = {}
        for (task, stream), by_name in self._answers.items():
            figures = {name: answers.compute() for name, answers in by_name.items()}
            controls.setdefault(task, {})[stream] = figures
        in_data = {task for number in range(self.count) for task in self.dataset.tasks[number]}
        lettered = [task for task in controls if self._lettered[task] and task in in_data]
        found = {task: shortcuts(self.dataset, task, limit=self.count) for task in lettered}
        return {"controls": controls} | ({"shortcuts": found} if found else {})
