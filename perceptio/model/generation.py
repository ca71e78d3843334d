"""The decoding loop: perceive, in the order asked for, then answer.

The rows of a batch go through the phases together. The host waits for the device once per object that is segmented
and once per `STOP_CHECK` tokens of free text, to see whether every row is done: never per token.

Shapes: B rows, D hidden width, V vocabulary, L depth codes, K codebook size, k codes per step, s special tokens per
object, M mask codes per object, N objects found, P marked points.
"""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from perceptio.errors import InputError
from perceptio.interfaces import Part, Turn, VisionFeatures
from perceptio.model.feeding import Feeder
from perceptio.model.perception_model import PerceptionModel
from perceptio.model.sequence import SequenceWriter, Slot, code_slots, opening_slots, reading_slots

STOP_CHECK = 8


@attrs.frozen(kw_only=True)
class GenerationSettings:
    """How to perceive and decode.

    Attributes:
        order: What may be perceived, in order; None: the recipe's. A part left out is never written.
        force: Parts that every row perceives; for the others the model decides, by writing their marker or not.
        readout: Whether points are read out before the answer; None: as the recipe's answer format says.
        grammar: Whether a block holds codes and nothing else, and text no codes. Without it every token is chosen
            from the whole vocabulary and a block may come out malformed.
        temperature: 0 takes the likeliest token; above, tokens are sampled.
        max_new_tokens: Most tokens of text.
        max_objects: Most objects segmented in one answer.
        seed: For sampling.
    """

    order: tuple[Part, ...] | None = None
    force: tuple[Part, ...] = ()
    readout: bool | None = None
    grammar: bool = True
    temperature: float = 0.0
    max_new_tokens: int = 32
    max_objects: int = 4
    seed: int = 0


@attrs.frozen(kw_only=True, eq=False)
class Objects:
    """The objects that a batch segments, row by row and in order of mention.

    Attributes:
        hidden_NsD: Hidden states that prompt their masks.
        codes_NM: Their mask codes, for a segmentation tokenizer that reads codes; M is 0 otherwise.
        row_N: The row each belongs to.
    """

    hidden_NsD: Tensor
    codes_NM: Tensor
    row_N: Tensor


@attrs.frozen(kw_only=True, eq=False)
class DepthBlocks:
    """The depth blocks that a batch wrote.

    Attributes:
        opened_B: Rows with a block.
        closed_B: Rows whose likeliest token after the last code was the closing marker.
        codes_BL: The codes; -1 in rows without a block and, with the grammar off, where something else was written.
        logits_BLK: What they were chosen from, for soft decoding; None where codes were given.
    """

    opened_B: Tensor
    closed_B: Tensor
    codes_BL: Tensor
    logits_BLK: Tensor | None = None

    @property
    def whole_B(self) -> Tensor:
        """Rows with a block of nothing but codes."""
        return self.opened_B & (self.codes_BL >= 0).all(1)


@attrs.frozen(kw_only=True, eq=False)
class Generated:
    """What a batch wrote.

    Attributes:
        objects: What was segmented.
        depth: The depth blocks.
        readout_BP: The code read out for each marked point, -1 where a row has fewer.
        text_BT: Text ids; after the end token a row holds only end tokens.
    """

    objects: Objects
    depth: DepthBlocks
    readout_BP: Tensor
    text_BT: Tensor


class Generator:
    """One batch being decoded, in the phases segmentation, depth, read-out, text.

    Args:
        model: The model, in eval mode.
        turns: One question per row.
        image_index: Which of the images each row is about.
        vision: Features of the images, from `model.encode_vision`.
        settings: How to perceive and decode.
        given_codes_BL: Depth codes to write instead of the model's own, or None.

    Raises:
        InputError: A part is forced that is not in the order, or the model lacks a tokenizer that it needs.
    """

    def __init__(
        self,
        model: PerceptionModel,
        turns: Sequence[Turn],
        image_index: Sequence[int],
        vision: VisionFeatures,
        settings: GenerationSettings,
        given_codes_BL: Tensor | None = None,
    ) -> None:
        self.model, self.plan, self.turns, self.settings = model, model.plan, turns, settings
        self.given_codes_BL = given_codes_BL
        self.order = model.recipe.order if settings.order is None else settings.order
        for part in settings.force:
            if part not in self.order:
                raise InputError(f"{part} is forced but not in the order {self.order}; add it there.")
        for part in self.order:
            if not getattr(self.plan, part):
                raise InputError(
                    f"{part} is in the order {self.order}, and the model has no {part} tokenizer."
                )
        readout = model.recipe.answer_format == "readout"
        self.readout = readout if settings.readout is None else settings.readout
        if self.readout and self.plan.depth is None:
            raise InputError("A read-out speaks depth codes, and the model has no depth tokenizer.")
        self.text = model.language.text_tokenizer
        self.random = torch.Generator(model.device).manual_seed(settings.seed)
        self.left_out = torch.tensor(self._markers_left_out(), dtype=torch.long, device=model.device)
        places = vision.places_M2.split(vision.counts)
        features = vision.features_MD.split(vision.counts)
        tokens = model.recipe.points == "tokens"
        self.rows = Feeder(
            model.language,
            [
                SequenceWriter(self.plan, self.text).write_question(turn, places[image], tokens)
                for turn, image in zip(turns, image_index, strict=True)
            ],
            [features[image] for image in image_index],
            self._room(),
        )

    def run(self) -> Generated:
        """Write everything."""
        objects, depth = self._no_objects(), self._no_blocks()
        for part in self.order:
            if part == "segmentation":
                objects = self.segment(part in self.settings.force)
            else:
                depth = self.write_depth(part in self.settings.force)
        readout_BP = self.read_out() if self.readout else depth.codes_BL[:, :0]
        return Generated(objects=objects, depth=depth, readout_BP=readout_BP, text_BT=self.write_text())

    def segment(self, forced: bool) -> Objects:
        """Write special tokens while rows ask for another object; `forced` rows have at least one."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        active_B = self.rows.all_rows
        for number in range(self.settings.max_objects):
            active_B = active_B & self._wants(self.plan.segmentation[0], forced and number == 0)
            if not bool(active_B.any()):
                break
            states = []
            for token in self.plan.segmentation:
                before_BD = self.rows.flush_last(1)[:, 0]
                self.rows.queue([Slot(token)], active_B)
                at_BD = self.rows.flush_last(1)[:, 0]
                states.append(at_BD if self.model.recipe.prompt_state == "at" else before_BD)
            found.append((torch.stack(states, 1), self._write_mask_codes(active_B), active_B))
        if not found:
            return self._no_objects()
        states_BOsD, codes_BOM, active_BO = (torch.stack(column, 1) for column in zip(*found, strict=True))
        row_N, number_N = active_BO.nonzero(as_tuple=True)
        return Objects(
            hidden_NsD=states_BOsD[row_N, number_N], codes_NM=codes_BOM[row_N, number_N], row_N=row_N
        )

    def write_depth(self, forced: bool) -> DepthBlocks:
        """Write depth blocks: markers are appended, codes chosen, `per_step` at a time."""
        block = self.plan.depth
        assert block is not None
        opened_B = self._wants(block.opening, forced)
        self.rows.queue(opening_slots(self.plan), opened_B)
        if self.given_codes_BL is not None:
            codes_BL = self.given_codes_BL.to(self.model.device)
            self.rows.queue(self._code_slots(0, block.length), opened_B, codes_BL + block.codes.start)
            self.rows.queue([Slot(block.closing)], opened_B)
            return DepthBlocks(opened_B=opened_B, closed_B=opened_B, codes_BL=codes_BL)
        chosen, logits = [], []
        for first in range(0, block.length, block.per_step):
            logits_BkV = self.model.language.logits(self.rows.flush_last(block.per_step))
            tokens_Bk = self._choose(logits_BkV, block.codes.slice)
            chosen.append(tokens_Bk)
            logits.append(logits_BkV[..., block.codes.slice])
            self.rows.queue(self._code_slots(first, block.per_step), opened_B, tokens_Bk)
        # The last codes and the closing marker are fed together; the slot before the marker is what predicts it.
        self.rows.queue([Slot(block.closing)], opened_B)
        closing_BV = self.model.language.logits(self.rows.flush_last(2)[:, 0])
        tokens_BL = torch.cat(chosen, 1)
        is_code_BL = block.codes.contains(tokens_BL) & opened_B[:, None]
        return DepthBlocks(
            opened_B=opened_B,
            closed_B=opened_B & (closing_BV.argmax(-1) == block.closing),
            codes_BL=torch.where(is_code_BL, tokens_BL - block.codes.start, -1),
            logits_BLK=torch.cat(logits, 1),
        )

    def read_out(self) -> Tensor:
        """For each marked point append its letter and cell, and let the model write its depth code: [B, P]."""
        block = self.plan.depth
        assert block is not None
        counts = [len(turn.points) for turn in self.turns]
        letters = SequenceWriter(self.plan, self.text).letters(max(counts))
        codes = []
        for number, letter in enumerate(letters):
            has_B = torch.tensor([number < count for count in counts], device=self.model.device)
            points = [turn.points[number] if number < len(turn.points) else (0.0, 0.0) for turn in self.turns]
            self.rows.queue_rows([reading_slots(self.plan, letter, point) for point in points], has_B)
            token_B1 = self._choose(self.model.language.logits(self.rows.flush_last(1)), block.codes.slice)
            self.rows.queue([Slot(block.codes.start)], has_B, token_B1)
            codes.append(torch.where(has_B[:, None], token_B1 - block.codes.start, -1))
        return torch.cat(codes, 1) if codes else self.rows.past_B.new_zeros(len(self.turns), 0)

    def write_text(self) -> Tensor:
        """Write free text until every row has ended or `max_new_tokens` are written: ids [B, T]."""
        end, done_B, tokens = self.text.end_id, ~self.rows.all_rows, []
        for number in range(1, self.settings.max_new_tokens + 1):
            logits_BV = self.model.language.logits(self.rows.flush_last(1)[:, 0])
            token_B = self._choose(logits_BV, slice(0, self.plan.base_vocab)).masked_fill(done_B, end)
            tokens.append(token_B)
            done_B = done_B | (token_B == end)
            if number % STOP_CHECK == 0 and bool(done_B.all()):
                break
            self.rows.queue([Slot(end)], ~done_B, token_B[:, None])
        return torch.stack(tokens, 1)

    def _wants(self, marker: int, forced: bool) -> Tensor:
        """Rows [B] whose next token is this marker, or all of them where it is forced."""
        if forced:
            return self.rows.all_rows
        logits_BV = self.model.language.logits(self.rows.flush_last(1)[:, 0])
        if self.settings.grammar:
            logits_BV = logits_BV.index_fill(-1, self.left_out, -torch.inf)
        return self._choose(logits_BV, slice(0, self.plan.size)) == marker

    def _choose(self, logits: Tensor, allowed: slice) -> Tensor:
        """Ids [...] chosen from logits [..., V]; with the grammar, only among the allowed ids."""
        if not self.settings.grammar:
            allowed = slice(0, logits.shape[-1])
        logits = logits[..., allowed].float()
        if self.settings.temperature <= 0:
            return logits.argmax(-1) + allowed.start
        probabilities = (logits / self.settings.temperature).softmax(-1).flatten(0, -2)
        drawn = torch.multinomial(probabilities, 1, generator=self.random)
        return drawn.view(logits.shape[:-1]) + allowed.start

    def _markers_left_out(self) -> list[int]:
        """The ids that would open a part which is not in the order."""
        openings = {"segmentation": self.plan.segmentation[:1]}
        if self.plan.depth is not None:
            openings["depth"] = (self.plan.depth.opening,)
        return [marker for part, ids in openings.items() if part not in self.order for marker in ids]

    def _write_mask_codes(self, active_B: Tensor) -> Tensor:
        """The codes [B, M] of one object, for a segmentation tokenizer that reads codes."""
        span, codes = self.plan.mask_codes, []
        for _ in range(self.plan.mask_length):
            assert span is not None
            token_B1 = self._choose(self.model.language.logits(self.rows.flush_last(1)), span.slice)
            self.rows.queue([Slot(span.start)], active_B, token_B1)
            codes.append(token_B1 - span.start)
        return torch.cat(codes, 1) if codes else self.rows.past_B.new_zeros(len(self.turns), 0)

    def _code_slots(self, first: int, count: int) -> list[Slot]:
        return code_slots(self.plan, [0] * count, first)

    def _no_objects(self) -> Objects:
        last_BD, none_N = self.rows.last_BD, self.rows.past_B.new_zeros(0)
        return Objects(
            hidden_NsD=last_BD.new_zeros(0, len(self.plan.segmentation), last_BD.shape[1]),
            codes_NM=none_N.reshape(0, self.plan.mask_length),
            row_N=none_N,
        )

    def _no_blocks(self) -> DepthBlocks:
        length = self.plan.depth.length if self.plan.depth else 0
        none_B = ~self.rows.all_rows
        codes_BL = self.rows.past_B.new_full((len(self.turns), length), -1)
        return DepthBlocks(opened_B=none_B, closed_B=none_B, codes_BL=codes_BL)

    def _room(self) -> int:
        """Most slots that may follow a prompt."""
        block = self.plan.depth
        depth = block.per_step + block.length + 1 if block else 0
        objects = self.settings.max_objects * (len(self.plan.segmentation) + self.plan.mask_length)
        readout = 3 * max(len(turn.points) for turn in self.turns)
        return objects + depth + readout + self.settings.max_new_tokens


def generate(
    model: PerceptionModel,
    turns: Sequence[Turn],
    images: Sequence[Tensor],
    image_index: Sequence[int],
    settings: GenerationSettings,
    *,
    vision: VisionFeatures | None = None,
    given_codes_BL: Tensor | None = None,
) -> Generated:
    """Run the decoding loop for one question per row; each image is encoded once.

    Args:
        model: The model, in eval mode.
        turns: One question per row.
        images: RGB [3, H, W] in [0, 1] on the model's device.
        image_index: Which image each row is about.
        settings: How to perceive and decode.
        vision: Features of the images, where they were computed before.
        given_codes_BL: Depth codes [B, L] to write in the block instead of the model's own.
    """
    vision = model.encode_vision(images) if vision is None else vision
    return Generator(model, turns, image_index, vision, settings, given_codes_BL).run()
