"""Conversations -> one packed batch, without padding and without cutting anything."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import DataError
from perceptio.interfaces import Batch, Sample, device_of
from perceptio.model.inference.marks import shown_image
from perceptio.model.inference.sequence import SequenceWriter, stacked_coordinates
from perceptio.model.network import PerceptionNetwork
from perceptio.interfaces.depth_maps import from_map, resize_depth


class Packer:
    """Packs conversations for one model.

    Args:
        model: Whose token plan, text tokenizer, vision encoder and tokenizers' sizes the batches are for.
    """

    def __init__(self, model: PerceptionNetwork) -> None:
        self.recipe, self.plan = model.recipe, model.plan
        self.vision, self.depth, self.segmentation = model.vision, model.depth, model.segmentation
        self.text = model.language.text_tokenizer
        self.axes, self.limit = model.language.spec.position_axes, model.language.spec.max_length
        self._centers: dict[tuple[int, int], Tensor] = {}

    def pack(self, samples: Sequence[Sample]) -> Batch:
        """One batch, on the CPU; images without text come after those of conversations.

        Raises:
            DataError: A turn wants depth that its sample has not, or points are drawn and two turns have some; or a
                conversation is longer than the language model serves, unless `data.too_long` says to skip it, or all
                are.
        """
        asked = samples
        written = [(sample, self._write(sample)) for sample in asked if sample.turns]
        written = [(sample, writer) for sample, writer in written if self._fits(sample, len(writer.ids))]
        samples = [*(sample for sample, _ in written), *(sample for sample in asked if not sample.turns)]
        if not written and any(sample.turns for sample in asked):
            raise DataError(
                "Every conversation of a batch is longer than the language model serves: use fewer image tiles or "
                "turns (data.turns), or a larger max_length where the model allows it."
            )
        writers = [writer for _, writer in written]
        lengths = [len(writer.ids) for writer in writers]
        starts = np.cumsum([0, *lengths[:-1]]).tolist()
        with_image = [i for i, sample in enumerate(samples) if sample.image_3HW is not None]

        def rows(name: str, *shape: int) -> Tensor:
            held = [getattr(writer, name) for writer in writers]
            # Without a depth block a row has no columns, and numpy cannot tell how many such rows there are.
            shifted = [
                np.array(rows, dtype=np.int64).reshape(len(rows), *shape) + start
                for rows, start in zip(held, starts, strict=True)
            ]
            return torch.from_numpy(np.concatenate([np.zeros((0, *shape), dtype=np.int64), *shifted]))

        def integers(values: Sequence, *shape: int) -> Tensor:
            return torch.tensor(np.array(values, dtype=np.int64)).reshape(len(values), *shape)

        block, masks_NHW, owners = self.plan.depth, [], []
        for number, i in enumerate(with_image):
            for turn in samples[i].turns:
                if "segmentation" in turn.perceive:
                    masks_NHW += [self._mask_target(mask) for mask in turn.masks]
                    owners += [number] * len(turn.masks)
        return Batch(
            images=tuple(self._image(samples[i]) for i in with_image),
            ids_T=integers([token for writer in writers for token in writer.ids]),
            positions_AT=stacked_coordinates([p for writer in writers for p in writer.positions], 3)
            if self.axes == 3
            else torch.cat([stacked_coordinates(writer.positions, 1) for writer in writers], 1),
            query_positions_AT=stacked_coordinates(
                [p for writer in writers for p in writer.query_positions], 3
            )
            if self.axes == 3
            else torch.cat([stacked_coordinates(writer.query_positions, 1) for writer in writers], 1),
            lengths=tuple(lengths),
            vision_rows_M=rows("vision_rows"),
            text_rows_R=rows("text_rows"),
            text_targets_R=integers([target for writer in writers for target in writer.text_targets]),
            block_rows_SN=rows("block_rows", block.length + 2 if block else 0),
            block_codes_SL=integers(
                [codes for writer in writers for codes in writer.block_codes], block.length if block else 0
            ),
            block_image_S=integers(
                [n for n, i in enumerate(with_image) if samples[i].turns for _ in writers[i].block_rows]
            ),
            depth_B1HW=self._depth_targets([samples[i] for i in with_image]),
            image_codes_BL=self._image_codes([samples[i] for i in with_image]),
            prompt_rows_Ns=rows("prompt_rows", max(len(self.plan.segmentation), 1)),
            mask_image_N=integers(owners),
            masks_NHW=torch.stack(masks_NHW)
            if masks_NHW
            else torch.zeros(0, *self._mask_size(), dtype=torch.bool),
            too_long=len(asked) - len(samples),
        )

    def _fits(self, sample: Sample, length: int) -> bool:
        """Whether a conversation is as short as the language model needs it."""
        if self.limit is None or length <= self.limit:
            return True
        if self.recipe.data.too_long == "skip":
            return False
        raise DataError(
            f"A conversation about {sample.source} has {length} slots, and the language model serves at most "
            f'{self.limit}: use fewer image tiles or turns (data.turns), or set data.too_long to "skip"; '
            "`perceptio data check --recipe` lists all such samples."
        )

    def _write(self, sample: Sample) -> SequenceWriter:
        writer = SequenceWriter(self.plan, self.text)
        codes = None if sample.depth_codes_L is None else sample.depth_codes_L.tolist()
        image = sample.image_3HW
        has_block = any("depth" in turn.perceive for turn in sample.turns)
        centers = None if image is None else self._centers_of(image.shape[-2], image.shape[-1])
        for number, turn in enumerate(sample.turns):
            writer.write_question(turn, centers if number == 0 else None, self.recipe.points == "tokens")
            writer.write_answer(
                turn,
                codes,
                self._mask_codes(turn.masks),
                self.recipe.mask_prompt,
                block_in_context=image is None,
                readout_in_context=image is None and not has_block,
            )
        return writer

    def _centers_of(self, height: int, width: int) -> Tensor:
        if (height, width) not in self._centers:
            self._centers[height, width] = self.vision.centers(height, width)
        return self._centers[height, width]

    def _image(self, sample: Sample) -> Tensor:
        assert sample.image_3HW is not None
        return shown_image(sample.image_3HW, sample.turns, self.recipe.points)

    def _mask_codes(self, masks: Sequence[np.ndarray]) -> list[list[int]]:
        if self.segmentation is None or self.segmentation.spec.codes is None or not masks:
            return []
        targets_NHW = torch.stack([self._mask_target(mask) for mask in masks])
        return self.segmentation.encode_masks(targets_NHW.to(device_of(self.segmentation))).tolist()

    def _mask_size(self) -> tuple[int, int]:
        return self.segmentation.spec.image_size if self.segmentation else (0, 0)

    def _mask_target(self, mask: np.ndarray) -> Tensor:
        """The mask at the segmentation tokenizer's image size: a pixel belongs to what covers most of it."""
        full = torch.from_numpy(mask)[None, None].float()
        return F.interpolate(full, size=self._mask_size(), mode="area")[0, 0] >= 0.5

    def _image_codes(self, samples: Sequence[Sample]) -> Tensor:
        length = self.plan.depth.length if self.plan.depth else 0
        unknown = torch.full((length,), -1)
        rows = [unknown if s.depth_codes_L is None else s.depth_codes_L for s in samples]
        return torch.stack(rows) if rows else torch.zeros(0, length, dtype=torch.long)

    def _depth_targets(self, samples: Sequence[Sample]) -> Tensor:
        if self.depth is None:
            return torch.zeros(len(samples), 1, 0, 0)
        spec = self.depth.spec
        unknown = torch.full((1, *spec.image_size), float("nan"))
        maps = [
            unknown
            if sample.depth is None
            else resize_depth(from_map(sample.depth, spec.convention), spec.image_size)[0]
            for sample in samples
        ]
        return torch.stack(maps) if maps else torch.zeros(0, 1, *spec.image_size)
