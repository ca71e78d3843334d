"""Asking the questions of a pass: each image is encoded once for all passes and batches that use it."""

from collections.abc import Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import attrs
import torch
from torch import Tensor

from perceptio.interfaces import (
    GenerationSettings,
    Pass,
    Question,
    Reply,
    Sample,
    TaskData,
    Turn,
    VisionFeatures,
)
from perceptio.model.inference.answer import decode_streams, decode_written, text_of
from perceptio.model.inference.generated import Generated
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.eval_mode import in_eval_mode
from perceptio.ops.marks import draw_marks

BATCH_SIZE = 48
"""Number of questions in a batch."""

Marks = tuple[tuple[float, float], ...]
"""The points (x, y) that are drawn on an image."""


@attrs.frozen(kw_only=True, eq=False)
class Asked:
    """A batch of questions and the model's replies.

    Attributes:
        by: The pass that the questions belong to.
        questions: The questions; those about one sample are adjacent.
        settings: The generation settings.
        vision: Features of their images.
        image_index: Index of the image of each question.
        written: The tokens that the model generated.
        texts: The answers as text.
        replies: The replies.
    """

    by: Pass
    questions: Sequence[Question]
    settings: GenerationSettings
    vision: VisionFeatures
    image_index: Sequence[int]
    written: Generated
    texts: Sequence[str]
    replies: Sequence[Reply]


class Asker:
    """Asks a model questions, in batches.

    Encoded images are kept while their sample is in use, so that later questions about it reuse them. An image with
    drawn marks is encoded once for each set of marks.

    Args:
        model: The model; its mode is not changed.
    """

    def __init__(self, model: PerceptionModel) -> None:
        self.model = in_eval_mode(model)
        self._seen: WeakKeyDictionary[Sample, dict[Marks, _Seen]] = WeakKeyDictionary()

    @torch.inference_mode()
    def ask(self, one: Pass, questions: Sequence[Question]) -> Asked:
        """Ask questions of a pass in one batch.

        Args:
            one: The pass.
            questions: The questions; those about one sample must be adjacent, so that the language model reads the
                sample only once.
        """
        model, turns = self.model, [question.turn for question in questions]
        seen, index = self._pictures(questions)
        images = [one.image_3HW for one in seen]
        vision = VisionFeatures.joined([one.vision for one in seen])
        given = {name: torch.stack([question.codes[name] for question in questions]) for name in one.gives}
        settings = one.settings(questions)
        written = generate(model, turns, images, index, settings, vision=vision, given_codes=given)
        decoded = decode_streams(model, images, index, written, one.decodes)
        compared = {name: self._compared(name, questions, images, index, written) for name in one.compares}
        closed = {
            name: stream.closed_BO[:, 0].tolist()
            for name, stream in written.streams.items()
            if model.plan.streams[name].per == "image"
        }
        texts = [text_of(model, written, row) for row in range(len(questions))]
        replies = [
            Reply(
                question=question,
                text=texts[row],
                decoded={name: values[row] for name, values in decoded.items()},
                closed={name: values[row] for name, values in closed.items()},
                compared={name: values[row] for name, values in compared.items()},
                readout=tuple(written.readout_BP[row, : len(question.turn.points)].tolist()),
            )
            for row, question in enumerate(questions)
        ]
        return Asked(
            by=one,
            questions=questions,
            settings=settings,
            vision=vision,
            image_index=index,
            written=written,
            texts=texts,
            replies=replies,
        )

    def _pictures(self, questions: Sequence[Question]) -> tuple[list["_Seen"], list[int]]:
        """Return the images of the questions, each once and encoded, and the index of the image of each question."""
        keys = [(question.sample, self._marks(question.turn)) for question in questions]
        order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        new = [key for key in order if key[1] not in self._seen.get(key[0], {})]
        if new:
            shown = [draw_marks(_image(sample), marks) if marks else _image(sample) for sample, marks in new]
            shown = [image.to(self.model.device) for image in shown]
            encoded = self.model.encode_vision(shown).each()
            for (sample, marks), image, vision in zip(new, shown, encoded, strict=True):
                self._seen.setdefault(sample, {})[marks] = _Seen(image_3HW=image, vision=vision)
        return [self._seen[sample][marks] for sample, marks in order], [order[key] for key in keys]

    def _marks(self, turn: Turn) -> Marks:
        """Return the points that are drawn on the image of a question."""
        return turn.points if self.model.recipe.points == "drawn" else ()

    def _compared(
        self,
        name: str,
        questions: Sequence[Question],
        images: Sequence[Tensor],
        index: Sequence[int],
        written: Generated,
    ) -> list[dict[str, tuple[float, ...]]]:
        """Return what the stream's tokenizer measures for each row against its target; see `Reply.compared`."""
        stream, which, raw = self.model.stream(name), [], []
        spec = stream.spec
        for row, number, place in written.streams[name].whole():
            sample, turn = questions[row].sample, questions[row].turn
            targets = turn.masks if spec.per == "object" else (sample.target(spec.target),)
            if place < len(targets) and targets[place] is not None:
                which.append((row, number))
                raw.append(targets[place])
        values: list[dict[str, tuple[float, ...]]] = [{} for _ in questions]
        if which:
            made = decode_written(self.model, name, images, index, written.streams[name], which)
            compared = stream.tokenizer.compare(made, stream.tokenizer.targets(raw))
            for figure, values_N in compared.items():
                for (row, _), value in zip(which, values_N.tolist(), strict=True):
                    values[row][figure] = (*values[row].get(figure, ()), value)
        return values


def batches(waiting: list[Question], new: Sequence[Question]) -> Iterator[list[Question]]:
    """Yield full batches before the questions about another sample are added; the rest stays in `waiting`.

    Questions about a sample stay together unless they exceed a batch.

    Args:
        waiting: Questions that were not asked yet; modified in place.
        new: The questions about the next sample.
    """
    if waiting and len(waiting) + len(new) > BATCH_SIZE:
        yield waiting.copy()
        waiting.clear()
    waiting.extend(new)
    while len(waiting) >= BATCH_SIZE:
        yield waiting[:BATCH_SIZE]
        del waiting[:BATCH_SIZE]


def task_data(model: PerceptionModel, units: Mapping[str, str]) -> TaskData:
    """Return what tasks may know about the model and the data."""
    recipe = model.recipe
    per_image = tuple(stream.name for stream in recipe.streams if stream.spec.per == "image")
    return TaskData(
        model=recipe.specs,
        perceives=per_image if recipe.data.perceive == "before" else (),
        units=units,
        text=model.language.text_tokenizer,
    )


@attrs.frozen(kw_only=True, eq=False)
class _Seen:
    """An image [3, H, W] on the model's device as it is shown, and its features."""

    image_3HW: Tensor
    vision: VisionFeatures


def _image(sample: Sample) -> Tensor:
    assert sample.image_3HW is not None, "Questions are about samples that have a picture."
    return sample.image_3HW
