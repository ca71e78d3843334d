"""The decoding loop: perceive, in the order asked for, then answer.

The rows of a batch go through the phases together. The host waits for the device once per object that is segmented
and once per `STOP_CHECK` tokens of free text, to see whether every row is done: never per token.

Shapes: B rows, D hidden width, V vocabulary, L depth codes, K codebook size, k codes per step, s special tokens per
object, M mask codes per object, N objects found, P marked points.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perceptio.errors import CheckpointError, InputError
from perceptio.interfaces import StreamName, TokenSpan, Turn, VisionFeatures
from perceptio.model.inference.decode_state import DecodeState
from perceptio.model.inference.generated import DepthBlocks, Generated, Objects
from perceptio.model.inference.sequence import SequenceWriter, Slot, code_slots, opening_slots, readout_slots
from perceptio.model.inference.settings import GenerationSettings
from perceptio.model.network import PerceptionNetwork

STOP_CHECK = 8
SHORTEST_WAIT = torch.finfo(torch.float32).tiny
"""Of the exponential draws whose logarithms are Gumbel noise: 0 has none."""


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
        InputError: A stream is forced that is not in the order, or the model lacks a tokenizer that it needs.
    """

    def __init__(
        self,
        model: PerceptionNetwork,
        turns: Sequence[Turn],
        image_index: Sequence[int],
        vision: VisionFeatures,
        settings: GenerationSettings,
        given_codes_BL: Tensor | None = None,
    ) -> None:
        self.model, self.plan, self.turns, self.settings = model, model.plan, turns, settings
        self.given_codes_BL = given_codes_BL
        self.order = model.recipe.order if settings.order is None else settings.order
        for stream in settings.force:
            if stream not in self.order:
                raise InputError(f"{stream} is forced but not in the order {self.order}; add it there.")
        for stream in self.order:
            if not getattr(self.plan, stream):
                raise InputError(
                    f"{stream} is in the order {self.order}, and the model has no {stream} tokenizer."
                )
        readout = model.recipe.answer_format == "readout"
        self.readout = readout if settings.readout is None else settings.readout
        if self.readout and self.plan.depth is None:
            raise InputError("A read-out speaks depth codes, and the model has no depth tokenizer.")
        self.text = model.language.text_tokenizer
        self.random = torch.Generator(model.device).manual_seed(settings.seed)
        self._written: list[Tensor] = []
        self._next_B = torch.zeros(len(turns), dtype=torch.long, device=model.device)
        self._finite = torch.ones((), dtype=torch.bool, device=model.device)
        centers = vision.centers_M2.split(vision.counts)
        features = vision.features_MD.split(vision.counts)
        tokens = model.recipe.points == "tokens"
        self.state = DecodeState(
            model.language,
            [
                SequenceWriter(self.plan, self.text).write_question(turn, centers[image], tokens)
                for turn, image in zip(turns, image_index, strict=True)
            ],
            [features[image] for image in image_index],
            self._max_new_slots(),
            image_index,
        )
        self._undecided_B: Tensor | None = self.state.all_rows

    def run(self) -> Generated:
        """Write everything."""
        objects, depth = self._no_objects(), self._no_blocks()
        for number, stream in enumerate(self.order):
            # The streams whose turn has passed are no longer a choice.
            impossible_V, forced = self._impossible(self.order[number:]), stream in self.settings.force
            if stream == "segmentation":
                objects = self.segment(impossible_V, forced)
            else:
                depth = self.write_depth(impossible_V, forced)
        readout_BP = self.read_out() if self.readout else depth.codes_BL[:, :0]
        text_BT = self.write_text()
        if not bool(self._finite):
            raise CheckpointError(
                "The model's logits are not finite numbers, so that there is no answer: its weights hold NaN or "
                "infinity, or its precision is too small for them; load an earlier checkpoint, or compute in float32."
            )
        return Generated(
            objects=objects,
            depth=depth,
            readout_BP=readout_BP,
            text_BT=text_BT,
            written_BW=torch.cat(self._written, 1),
        )

    def segment(self, impossible_V: Tensor, forced: bool) -> Objects:
        """Write special tokens while rows ask for another object; `forced` rows have at least one."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        active_B = self.state.all_rows
        for number in range(self.settings.max_objects):
            wanted_B = self._wants(self.plan.segmentation[0], impossible_V, forced and number == 0)
            active_B = active_B & wanted_B
            if not bool(active_B.any()):
                break
            states = []
            for token in self.plan.segmentation:
                before_BD = self.state.step()[:, 0]
                self._write([Slot(token)], active_B)
                at_BD = self.state.step()[:, 0]
                states.append(at_BD if self.model.recipe.mask_prompt == "seg_token" else before_BD)
            found.append((torch.stack(states, 1), self._write_mask_codes(active_B), active_B))
        if not found:
            return self._no_objects()
        states_BOsD, codes_BOM, active_BO = (torch.stack(column, 1) for column in zip(*found, strict=True))
        row_N, number_N = active_BO.nonzero(as_tuple=True)
        return Objects(
            hidden_NsD=states_BOsD[row_N, number_N], codes_NM=codes_BOM[row_N, number_N], row_N=row_N
        )

    def write_depth(self, impossible_V: Tensor, forced: bool) -> DepthBlocks:
        """Write depth blocks: markers are appended, codes chosen, `per_step` at a time."""
        block = self.plan.depth
        assert block is not None
        opened_B = self._wants(block.opening, impossible_V, forced)
        # The opening marker takes a slot for each code of the first step, and is one token all the same.
        self.state.append(opening_slots(self.plan), opened_B)
        self._note([block.opening], opened_B)
        if self.given_codes_BL is not None:
            codes_BL = self.given_codes_BL.to(self.model.device)
            self._write(self._code_slots(0, block.length), opened_B, codes_BL + block.codes.start)
            self._write([Slot(block.closing)], opened_B)
            return DepthBlocks(opened_B=opened_B, closed_B=opened_B, codes_BL=codes_BL)
        chosen, logits = [], []
        for first in range(0, block.length, block.per_step):
            logits_BkV = self.model.language.logits(self.state.step(block.per_step))
            tokens_Bk = self._choose(logits_BkV, block.codes.slice)
            chosen.append(tokens_Bk)
            logits.append(logits_BkV[..., block.codes.slice])
            self._write(self._code_slots(first, block.per_step), opened_B, tokens_Bk)
        # The last codes and the closing marker run together; the slot before the marker is what predicts it.
        self._write([Slot(block.closing)], opened_B)
        closing_BV = self.model.language.logits(self.state.step(2)[:, 0])
        return DepthBlocks(
            opened_B=opened_B,
            closed_B=opened_B & (closing_BV.argmax(-1) == block.closing),
            codes_BL=_codes(torch.cat(chosen, 1), block.codes, opened_B),
            logits_BLK=torch.cat(logits, 1),
        )

    def read_out(self) -> Tensor:
        """For each marked point append its letter and location token, and write its depth code: [B, P]."""
        block = self.plan.depth
        assert block is not None
        counts = [len(turn.points) for turn in self.turns]
        letters = SequenceWriter(self.plan, self.text).letters(max(counts))
        codes = []
        for number, letter in enumerate(letters):
            has_B = self._on_device([number < count for count in counts])
            points = [turn.points[number] if number < len(turn.points) else (0.0, 0.0) for turn in self.turns]
            slots = [readout_slots(self.plan, letter, point) for point in points]
            self.state.append_rows(slots, has_B)
            self._note([[slot.token for slot in row] for row in slots], has_B)
            token_B1 = self._choose(self.model.language.logits(self.state.step()), block.codes.slice)
            self._write([Slot(block.codes.start)], has_B, token_B1)
            codes.append(_codes(token_B1, block.codes, has_B))
        return torch.cat(codes, 1) if codes else self.state.past_B.new_zeros(len(self.turns), 0)

    def write_text(self) -> Tensor:
        """Write free text until every row has ended or `max_new_tokens` are written: ids [B, T]."""
        end, done_B, tokens = self.text.end_id, ~self.state.all_rows, []
        words = slice(0, self.plan.base_vocab)
        for number in range(1, self.settings.max_new_tokens + 1):
            token_B = self._next(words).masked_fill(done_B, end)
            tokens.append(token_B)
            done_B = done_B | (token_B == end)
            self._note(token_B[:, None], ~done_B)
            if number % STOP_CHECK == 0 and bool(done_B.all()):
                break
            self.state.append([Slot(end)], ~done_B, token_B[:, None])
        return torch.stack(tokens, 1)

    def _wants(self, marker: int, impossible_V: Tensor, forced: bool) -> Tensor:
        """Rows [B] that write this marker next, or all of them where it is forced."""
        return self.state.all_rows if forced else self._next(slice(0, self.plan.size), impossible_V) == marker

    def _next(self, allowed: slice, impossible_V: Tensor | None = None) -> Tensor:
        """The id [B] that each row writes next: chosen once, and kept until the row has written something."""
        if self._undecided_B is not None:
            logits_BV = self.model.language.logits(self.state.step()[:, 0])
            if self.settings.grammar and impossible_V is not None:
                logits_BV = logits_BV.masked_fill(impossible_V, -torch.inf)
            chosen_B = self._choose(logits_BV, allowed)
            self._next_B = torch.where(self._undecided_B, chosen_B, self._next_B)
            self._undecided_B = None
        return self._next_B

    def _choose(self, logits: Tensor, allowed: slice) -> Tensor:
        """Ids [...] chosen from logits [..., V]; with the grammar, only among the allowed ids."""
        if not self.settings.grammar:
            allowed = slice(0, logits.shape[-1])
        logits = logits[..., allowed].float()
        highest, likeliest = logits.max(-1, keepdim=True)
        self._finite = self._finite & highest.isfinite().all()
        if self.settings.temperature > 0:
            # The largest of logits with Gumbel noise follows their softmax; nothing here waits for the device.
            waits = torch.empty_like(logits).exponential_(generator=self.random).clamp_min_(SHORTEST_WAIT)
            likeliest = ((logits - highest) / self.settings.temperature - waits.log()).argmax(
                -1, keepdim=True
            )
        return likeliest[..., 0] + allowed.start

    def _write(self, slots: Sequence[Slot], keep_B: Tensor, ids_BT: Tensor | None = None) -> None:
        """Append slots to every kept row, and note their tokens."""
        self.state.append(slots, keep_B, ids_BT)
        self._note([slot.token for slot in slots] if ids_BT is None else ids_BT, keep_B)

    def _note(self, ids: Tensor | Sequence[int] | Sequence[Sequence[int]], keep_B: Tensor) -> None:
        """Note ids [B, T] or [T] that kept rows have written, after which these rows are free to choose again."""
        ids_BT = ids if isinstance(ids, Tensor) else self._on_device(ids).expand(len(self.turns), -1)
        self._written.append(torch.where(keep_B[:, None], ids_BT, -1))
        self._undecided_B = keep_B if self._undecided_B is None else self._undecided_B | keep_B

    def _impossible(self, streams: Sequence[StreamName]) -> Tensor:
        """The ids [V] that cannot come next by the grammar: neither text nor the opening of one of these streams."""
        openings = {"segmentation": self.plan.segmentation[:1]}
        if self.plan.depth is not None:
            openings["depth"] = (self.plan.depth.opening,)
        impossible = [True] * self.plan.size
        impossible[: self.plan.base_vocab] = [False] * self.plan.base_vocab
        for marker in (marker for stream in streams for marker in openings[stream]):
            impossible[marker] = False
        return self._on_device(impossible)

    def _write_mask_codes(self, active_B: Tensor) -> Tensor:
        """The codes [B, M] of one object, for a segmentation tokenizer that reads codes."""
        span, codes = self.plan.mask_codes, []
        for _ in range(self.plan.mask_length):
            assert span is not None
            token_B1 = self._choose(self.model.language.logits(self.state.step()), span.slice)
            self._write([Slot(span.start)], active_B, token_B1)
            codes.append(_codes(token_B1, span, active_B))
        return torch.cat(codes, 1) if codes else self.state.past_B.new_zeros(len(self.turns), 0)

    def _on_device(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values).to(self.model.device, non_blocking=True)

    def _code_slots(self, first: int, count: int) -> list[Slot]:
        return code_slots(self.plan, [0] * count, first)

    def _no_objects(self) -> Objects:
        last_BD, none_N = self.state.last_BD, self.state.past_B.new_zeros(0)
        return Objects(
            hidden_NsD=last_BD.new_zeros(0, len(self.plan.segmentation), last_BD.shape[1]),
            codes_NM=none_N.reshape(0, self.plan.mask_length),
            row_N=none_N,
        )

    def _no_blocks(self) -> DepthBlocks:
        length = self.plan.depth.length if self.plan.depth else 0
        none_B = ~self.state.all_rows
        codes_BL = self.state.past_B.new_full((len(self.turns), length), -1)
        return DepthBlocks(opened_B=none_B, closed_B=none_B, codes_BL=codes_BL)

    def _max_new_slots(self) -> int:
        """Most slots that may follow a prompt."""
        block = self.plan.depth
        depth = block.per_step + block.length + 1 if block else 0
        objects = self.settings.max_objects * (len(self.plan.segmentation) + self.plan.mask_length)
        readout = 3 * max(len(turn.points) for turn in self.turns)
        return objects + depth + readout + self.settings.max_new_tokens


def _codes(tokens_BT: Tensor, span: TokenSpan, keep_B: Tensor) -> Tensor:
    """The codes that tokens mean; -1 in rows that are not kept and where a token is no code."""
    return torch.where(span.contains(tokens_BT) & keep_B[:, None], tokens_BT - span.start, -1)


def generate(
    model: PerceptionNetwork,
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

    Raises:
        InputError: The settings do not fit the model.
        CheckpointError: The model computes no finite numbers.
    """
    vision = model.encode_vision(images) if vision is None else vision
    return Generator(model, turns, image_index, vision, settings, given_codes_BL).run()
