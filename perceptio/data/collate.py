"""Packs conversations into one batch, without padding and without truncation.

Packing is a pure function of a recipe's specs. It involves no module and no device, so it can be pickled and run in
any process.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Self

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.errors import DataError
from perceptio.interfaces import (
    Batch,
    Sample,
    StreamBatch,
    StreamSpec,
    StreamTokens,
    TextTokenizer,
    TokenBlock,
    VisionEncoderConfig,
)
from perceptio.model.inference.sequence import SequenceWriter, stacked_coordinates
from perceptio.ops.marks import shown_image
from perceptio.recipe import PointSetting, Recipe
from perceptio.vocabulary import TokenPlan


@attrs.frozen(kw_only=True, slots=False)
class Collate:
    """Packs conversations for the model of a recipe; targets stay as the samples hold them.

    Attributes:
        plan: The token ids.
        streams: How each stream is written, and its target.
        text: The text tokenizer.
        vision: Gives the positions of an image's features.
        points: How marked points reach the model.
        looks_up: Whether the levels of marked points are given to the model, instead of written by it.
        axes: Number of position axes of the language backbone.
        limit: Maximum number of tokens of a conversation; None: unlimited.
        too_long: What to do with a longer conversation.
    """

    plan: TokenPlan
    streams: dict[str, StreamSpec]
    text: TextTokenizer
    vision: VisionEncoderConfig
    points: PointSetting
    looks_up: bool
    axes: int
    limit: int | None
    too_long: Literal["refuse", "skip"]

    @classmethod
    def of(cls, recipe: Recipe, text: TextTokenizer) -> Self:
        """Return the collate function for the model of a recipe, with its text tokenizer."""
        return cls(
            plan=recipe.plan,
            streams={stream.name: stream.spec for stream in recipe.streams},
            text=text,
            vision=recipe.vision,
            points=recipe.points,
            looks_up=recipe.answer_format == "lookup",
            axes=recipe.language.spec.position_axes,
            limit=recipe.language.spec.max_length,
            too_long=recipe.data.too_long,
        )

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return one batch on the CPU: conversations with their image in context, others, then images without text.

        Raises:
            DataError: A turn requires a stream whose codes its sample lacks; points are drawn and two turns have
                some; or a conversation exceeds the language model's limit, unless `data.too_long` is to skip it, or
                all exceed it.
        """
        asked = sorted(samples, key=lambda sample: not sample.in_context)  # A stable sort.
        written = [(sample, self._write(sample)) for sample in asked if sample.turns]
        written = [(sample, writer) for sample, writer in written if self._fits(sample, len(writer.ids))]
        samples = [*(sample for sample, _ in written), *(sample for sample in asked if not sample.turns)]
        if not written and any(sample.turns for sample in asked):
            raise DataError(
                "Every conversation of a batch is longer than the language model serves: use fewer image tiles or "
                "turns (data.turns), or a larger max_length where the model allows it."
            )
        writers = [writer for _, writer in written]
        starts = np.cumsum([0, *(len(writer.ids) for writer in writers)]).tolist()[:-1]
        with_image = [i for i, sample in enumerate(samples) if sample.image_3HW is not None]

        def rows(name: str) -> Tensor:
            held = [np.array(getattr(writer, name), dtype=np.int64) for writer in writers]
            shifted = [one + start for one, start in zip(held, starts, strict=True)]
            return _integers(np.concatenate([np.zeros(0, dtype=np.int64), *shifted]))

        def coordinates(name: str) -> Tensor:
            held = [getattr(writer, name) for writer in writers]
            if self.axes == 3:
                return stacked_coordinates([place for places in held for place in places], 3)
            return torch.cat([stacked_coordinates(places, 1) for places in held], 1)

        return Batch(
            images=tuple(self._image(samples[i]) for i in with_image),
            ids_T=_integers([token for writer in writers for token in writer.ids]),
            positions_AT=coordinates("positions"),
            query_positions_AT=coordinates("query_positions"),
            lengths=tuple(len(writer.ids) for writer in writers),
            vision_rows_M=rows("vision_rows"),
            text_rows_R=rows("text_rows"),
            text_targets_R=_integers([target for writer in writers for target in writer.text_targets]),
            streams={
                name: self._stream(name, tokens, samples, with_image, writers, starts)
                for name, tokens in self.plan.streams.items()
            },
            **_levels([(writers[i], starts[i]) if samples[i].turns else None for i in with_image]),
            too_long=len(asked) - len(samples),
        )

    def _stream(
        self,
        name: str,
        tokens: StreamTokens,
        samples: Sequence[Sample],
        with_image: Sequence[int],
        writers: Sequence[SequenceWriter],
        starts: Sequence[int],
    ) -> StreamBatch:
        """Return what the conversations write of a stream, and its targets."""
        spec, pictured = self.streams[name], [samples[i] for i in with_image]
        # Only streams of images that are shown are supervised.
        held = [
            (n, writers[i].streams[name], starts[i])
            for n, i in enumerate(with_image)
            if samples[i].turns and writers[i].streams[name].rows
        ]

        def table(field: str, columns: int, *, shifted: bool = True) -> Tensor:
            blocks = [np.zeros((0, columns), dtype=np.int64)]
            for _, written, start in held:
                rows = getattr(written, field)
                # Without columns, numpy cannot infer the number of rows.
                block = np.array(rows, dtype=np.int64).reshape(len(rows), columns)
                blocks.append(block + start if shifted else block)
            return _integers(np.concatenate(blocks))

        if isinstance(tokens, TokenBlock):
            length, width, slots = tokens.length, tokens.length + 2, len(tokens.slot_codes)
        else:
            length, width, slots = 0, len(tokens.ids), len(tokens.ids)
        image_N = _integers([n for n, (_, written, _) in enumerate(held) for _ in written.rows])
        images = tuple(number for number, _, _ in held)
        raw = _targets(name, spec, [pictured[number] for number in images])
        target_N = torch.arange(len(raw)) if spec.per == "object" else image_N
        return StreamBatch(
            rows_NX=table("rows", width),
            slots_NY=table("slots", slots),
            codes_NL=table("codes", length, shifted=False),
            images=images,
            image_N=image_N,
            target_N=target_N,
            known=tuple(spec.target == "image" or raw[n] is not None for n in target_N.tolist()),
            image_codes_BL=_image_codes(pictured, name, length if spec.per == "image" else 0),
            coded=tuple(name in sample.codes for sample in pictured),
            raw=tuple(raw),
        )

    def _fits(self, sample: Sample, length: int) -> bool:
        """Return whether a conversation is within the language model's limit."""
        if self.limit is None or length <= self.limit:
            return True
        if self.too_long == "skip":
            return False
        raise DataError(
            f"A conversation about {sample.source} has {length} slots, and the language model serves at most "
            f'{self.limit}: use fewer image tiles or turns (data.turns), or set data.too_long to "skip"; '
            "`perceptio data check --recipe` lists all such samples."
        )

    def _write(self, sample: Sample) -> SequenceWriter:
        writer = SequenceWriter(self.plan, self.text)
        codes = {name: codes_L.tolist() for name, codes_L in sample.codes.items()}
        image = sample.image_3HW
        has_block = any(self.plan.readout in turn.perceive for turn in sample.turns)
        centers = None
        if image is not None and sample.in_context:
            centers = self._centers_of(image.shape[-2], image.shape[-1])
        for number, turn in enumerate(sample.turns):
            writer.write_question(turn, centers if number == 0 else None, self.points == "tokens")
            writer.write_answer(
                turn,
                codes,
                block_in_context=image is None,
                readout_in_context=self.looks_up or (image is None and not has_block),
            )
        return writer

    @cached_property
    def _centers(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def _centers_of(self, height: int, width: int) -> Tensor:
        if (height, width) not in self._centers:
            self._centers[height, width] = self.vision.centers(height, width)
        return self._centers[height, width]

    def _image(self, sample: Sample) -> Tensor:
        assert sample.image_3HW is not None
        return shown_image(sample.image_3HW, sample.turns, drawn=self.points == "drawn")


def _targets(name: str, spec: StreamSpec, samples: Sequence[Sample]) -> list[Any]:
    """Return the targets of a stream as samples hold them: of each object that is written, or of each image."""
    if spec.per == "object":
        return [
            mask
            for sample in samples
            for turn in sample.turns
            if name in turn.perceive
            for mask in turn.masks
        ]
    return [] if spec.target == "image" else [sample.target(spec.target) for sample in samples]


def _image_codes(samples: Sequence[Sample], name: str, length: int) -> Tensor:
    """Return codes [B, L] of each image; a row of -1 for an image without codes."""
    unknown_L = torch.full((length,), -1)
    rows = [sample.codes.get(name, unknown_L) for sample in samples]
    return torch.stack(rows) if rows else torch.zeros(0, length, dtype=torch.long)


def _levels(writers: Sequence[tuple[SequenceWriter, int] | None]) -> dict[str, Tensor]:
    """Return, for each image, the rows and the points of the levels that are looked up on it; see `Batch`.

    Args:
        writers: For each image its conversation and that conversation's first row; None for an image without text.
    """
    held = [
        ([], []) if one is None else ([row + one[1] for row in one[0].level_rows], one[0].level_points)
        for one in writers
    ]
    most = max((len(rows) for rows, _ in held), default=0)
    rows_BQ = torch.full((len(held), most), -1)
    points_BQ2 = torch.zeros(len(held), most, 2)
    for image, (rows, points) in enumerate(held):
        if rows:
            rows_BQ[image, : len(rows)] = torch.tensor(rows)
            points_BQ2[image, : len(rows)] = torch.tensor(points)
    return {"level_rows_BQ": rows_BQ, "level_points_BQ2": points_BQ2}


def _integers(values: Sequence[int] | np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.int64).copy())
