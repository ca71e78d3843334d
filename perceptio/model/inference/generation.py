"""The decoding loop: write the streams in the requested order, then answer.

All rows of a batch go through the streams together. The host waits for the device once per written object, and once
per `STOP_CHECK` tokens of free text to check whether every row has ended, but never per token.

Shapes: B rows, D hidden width, V vocabulary, P marked points. Of a stream: O blocks or objects of a row, L codes, K
codebook size, k codes per step, n special tokens, m rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from perceptio.errors import CheckpointError, InputError, near_miss
from perceptio.interfaces import (
    GenerationSettings,
    SpecialTokens,
    TokenBlock,
    TokenSpan,
    Turn,
    VisionFeatures,
)
from perceptio.model.inference.decode_state import DecodeState
from perceptio.model.inference.generated import Generated, WrittenStream
from perceptio.model.inference.sequence import SequenceWriter, Slot, opening_slots, readout_slots, step_slots
from perceptio.model.network import PerceptionNetwork
from perceptio.model.point_values import looked_up

STOP_CHECK = 8
SHORTEST_WAIT = torch.finfo(torch.float32).tiny
"""The minimum of the exponential draws whose logarithms give Gumbel noise: 0 has no logarithm."""


class Generator:
    """Decodes one batch: stream by stream, then the read-out, then the text.

    Args:
        model: The model, in eval mode.
        turns: One question per row.
        image_index: The index of each row's image; empty if there are no images.
        vision: The features of the images, from `model.encode_vision`. None: the questions are about no image.
        settings: The generation settings.
        given_codes: Codes [B, L] to write instead of the model's own, by stream; [B, 0] for markers only.
        given_inputs: Inputs [B, n, D] at the special tokens of a stream instead of its own, by stream.

    Raises:
        InputError: The model does not have a requested or given stream; codes or inputs are given for a stream that
            is written in another way; a stream is forced but not among the requested ones; a read-out is requested
            but no stream can be read out; or a stream or read-out is requested without an image.
    """

    def __init__(
        self,
        model: PerceptionNetwork,
        turns: Sequence[Turn],
        image_index: Sequence[int],
        vision: VisionFeatures | None,
        settings: GenerationSettings,
        given_codes: Mapping[str, Tensor] | None = None,
        given_inputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.plan, self.turns, self.settings = model, model.plan, turns, settings
        self.given_codes, self.given_inputs = given_codes or {}, given_inputs or {}
        self.streams = tuple(self.plan.streams) if settings.streams is None else settings.streams
        self._check_streams()
        self.looks_up = model.recipe.answer_format == "lookup"
        readout = model.recipe.answer_format != "direct"
        self.readout = readout if settings.readout is None else settings.readout
        if self.readout and self.plan.readout is None:
            raise InputError("A read-out speaks the codes of a grid, and no stream of the model has one.")
        if vision is None and (self.streams or self.readout):
            raise InputError(
                "Without an image there is nothing to perceive: ask with streams=() and readout=False, or give one."
            )
        self.vision, self.image_index = vision, image_index
        self.text = model.language.text_tokenizer
        self.random = torch.Generator(model.device).manual_seed(settings.seed)
        self._written: list[Tensor] = []
        self._next_B = torch.zeros(len(turns), dtype=torch.long, device=model.device)
        self._finite = torch.ones((), dtype=torch.bool, device=model.device)
        self.state = self._after_the_questions()
        self._undecided_B: Tensor | None = self.state.all_rows

    def _after_the_questions(self) -> DecodeState:
        """Return the decoding state after the questions and their images."""
        tokens, size = self.model.recipe.points == "tokens", self._max_new_slots()
        writers = [SequenceWriter(self.plan, self.text) for _ in self.turns]
        if self.vision is None:
            asked = [writer.write_question(turn) for writer, turn in zip(writers, self.turns, strict=True)]
            return DecodeState(self.model.language, asked, [], size)
        centers = self.vision.centers_M2.split(self.vision.counts)
        features = self.vision.features_MD.split(self.vision.counts)
        asked = [
            writer.write_question(turn, centers[image], tokens)
            for writer, turn, image in zip(writers, self.turns, self.image_index, strict=True)
        ]
        rows = [features[image] for image in self.image_index]
        return DecodeState(self.model.language, asked, rows, size, self.image_index)

    def run(self) -> Generated:
        """Run the whole loop."""
        streams, readout_BP = self.perceive()
        text_BT = self.write_text()
        self.check_finite()
        return Generated(
            streams=streams,
            readout_BP=readout_BP,
            text_BT=text_BT,
            written_BW=torch.cat(self._written, 1),
        )

    def perceive(self) -> tuple[dict[str, WrittenStream], Tensor]:
        """Write everything before the text: the streams, and the codes or levels of marked points [B, P]."""
        streams = {name: self._nothing(name) for name in self.plan.streams}
        for number, name in enumerate(self.streams):
            # Streams earlier in the order can no longer be chosen.
            impossible_V = self._impossible(self.streams[number:])
            streams[name] = self.write_stream(name, impossible_V, name in self.settings.force)
        readout_BP = self.state.past_B.new_zeros(len(self.turns), 0)
        if self.readout and any(turn.points for turn in self.turns):
            readout_BP = self.read_out(self._looked_up(streams) if self.looks_up else None)
        return streams, readout_BP

    def check_finite(self, logits: Tensor | None = None) -> None:
        """Check that all logits from which tokens were chosen, and further ones, are finite; waits for the device.

        Raises:
            CheckpointError: Some are not finite.
        """
        finite = self._finite if logits is None else self._finite & logits.isfinite().all()
        if not bool(finite):
            raise CheckpointError(
                "The model's logits are not finite numbers, so that there is no answer: its weights hold NaN or "
                "infinity, or its precision is too small for them; load an earlier checkpoint, or compute in float32."
            )

    def write_stream(self, name: str, impossible_V: Tensor, forced: bool) -> WrittenStream:
        """Write a stream once per image, or while rows choose another object; if `forced`, at least once."""
        tokens = self.plan.streams[name]
        if tokens.per == "image":
            return self._write_one(name, self._wants(tokens.opens_with, impossible_V, forced))
        found: list[WrittenStream] = []
        active_B = self.state.all_rows
        for number in range(self.settings.max_objects):
            active_B = active_B & self._wants(tokens.opens_with, impossible_V, forced and number == 0)
            if not bool(active_B.any()):
                break
            found.append(self._write_one(name, active_B))
        return WrittenStream.joined(found) if found else self._nothing(name)

    def _write_one(self, name: str, opened_B: Tensor) -> WrittenStream:
        """Write a stream once in the rows `opened_B`; O is 1."""
        tokens = self.plan.streams[name]
        if isinstance(tokens, TokenBlock):
            return self._write_block(name, tokens, opened_B)
        inputs_BnD = self.given_inputs.get(name)
        if self.model.stream(name).feedback is not None and inputs_BnD is None:
            return self._write_fed_back(name, tokens, opened_B)
        before_BD = self.state.step()[:, 0] if tokens.read_before else None
        self.state.append([Slot(token) for token in tokens.ids], opened_B, inputs_BTD=inputs_BnD)
        self._note(tokens.ids, opened_B)
        hidden_BnD = self.state.step(len(tokens.ids))
        if before_BD is not None:
            hidden_BnD = torch.cat([before_BD[:, None], hidden_BnD[:, :-1]], 1)
        return self._once(opened_B, opened_B, hidden_BnD=hidden_BnD)

    def _write_fed_back(self, name: str, tokens: SpecialTokens, opened_B: Tensor) -> WrittenStream:
        """Write special tokens whose inputs are the rows read at the positions before them."""
        stream, states, rows = self.model.stream(name), [], []
        for token in tokens.ids:
            states.append(self.state.step())
            rows.append(stream.read(states[-1]))
            inputs_B1D = stream.next_inputs(rows[-1], states[-1].shape[-1])
            self.state.append([Slot(token)], opened_B, inputs_BTD=inputs_B1D)
            self._note([token], opened_B)
        return self._once(opened_B, opened_B, hidden_BnD=torch.cat(states, 1), rows_BmP=torch.cat(rows, 1))

    def _write_block(self, name: str, block: TokenBlock, opened_B: Tensor) -> WrittenStream:
        """Write a block: append its markers, and choose its codes step by step."""
        # The opening marker occupies a slot for each code of the first step, but it is one token.
        self.state.append(opening_slots(self.plan, block), opened_B)
        self._note([block.opening], opened_B)
        if name in self.given_codes:
            return self._write_given(block, opened_B, self.given_codes[name].to(self.model.device))
        codes, logits = [], []
        for step, (places, span) in enumerate(block.spans_of_steps()):
            logits_BkV = self.model.language.logits(self.state.step(block.steps[step]))
            tokens_Bk = self._choose(logits_BkV, span.slice)
            codes.append(_codes(tokens_Bk, span, opened_B))
            logits.append(logits_BkV[:, None, :, span.slice])
            held = [slot.code - places.start for slot in block.slots[step]]
            self.state.append(
                step_slots(self.plan, block, step, self._no_codes(block)), opened_B, _picked(tokens_Bk, held)
            )
            self._note(tokens_Bk, opened_B)
        # The last codes and the closing marker run together; the slot before the marker predicts it.
        self._write([Slot(block.closing)], opened_B)
        closing_BV = self.model.language.logits(self.state.step(2)[:, 0])
        closed_B = opened_B & (closing_BV.argmax(-1) == block.closing)
        return self._once(opened_B, closed_B, codes_BL=torch.cat(codes, 1), logits=tuple(logits))

    def _write_given(self, block: TokenBlock, opened_B: Tensor, codes_BL: Tensor) -> WrittenStream:
        """Write given codes [B, L], or none, and the closing marker, without a forward pass of their own."""
        if not codes_BL.shape[1]:
            self._write([Slot(block.closing)], opened_B)
            none_BL = codes_BL.new_full((len(codes_BL), block.length), -1)
            return self._once(opened_B, opened_B, codes_BL=none_BL)
        tokens_BL = codes_BL + self._on_device(block.starts)
        steps = range(len(block.steps))
        slots = [slot for step in steps for slot in step_slots(self.plan, block, step, self._no_codes(block))]
        self.state.append(slots, opened_B, _picked(tokens_BL, block.slot_codes))
        self._note(tokens_BL, opened_B)
        self._write([Slot(block.closing)], opened_B)
        return self._once(opened_B, opened_B, codes_BL=codes_BL)

    def _once(
        self,
        opened_B: Tensor,
        closed_B: Tensor,
        *,
        codes_BL: Tensor | None = None,
        hidden_BnD: Tensor | None = None,
        rows_BmP: Tensor | None = None,
        logits: tuple[Tensor, ...] = (),
    ) -> WrittenStream:
        """Return the record of a stream that was written once, with codes or hidden states; O is 1."""
        if codes_BL is None:
            codes_BL = self.state.past_B.new_zeros(len(opened_B), 0)
        if hidden_BnD is None:
            hidden_BnD = self.state.last_BD.new_zeros(len(opened_B), 0, self.state.last_BD.shape[1])
        return WrittenStream(
            opened_BO=opened_B[:, None],
            closed_BO=closed_B[:, None],
            codes_BOL=codes_BL[:, None],
            hidden_BOnD=hidden_BnD[:, None],
            rows_BOmP=None if rows_BmP is None else rows_BmP[:, None],
            logits=logits,
        )

    def read_out(self, levels_BP: Tensor | None = None) -> Tensor:
        """Write the letter, the location token and the code or level of each marked point; return the latter [B, P].

        Args:
            levels_BP: Levels that were looked up, -1 for rows without any. They are appended to run together with the
                next step. None: the model writes the codes or levels.
        """
        span, said = self.plan.said_of_points, []
        points_BP, has_BP = self._points()
        letters = SequenceWriter(self.plan, self.text).letters(len(points_BP[0]))
        for number, letter in enumerate(letters):
            has_B = has_BP[:, number]
            if levels_BP is not None:
                has_B = has_B & (levels_BP[:, number] >= 0)
            slots = [readout_slots(self.plan, letter, points[number]) for points in points_BP]
            self.state.append_rows(slots, has_B)
            self._note([[slot.token for slot in row] for row in slots], has_B)
            if levels_BP is None:
                token_B1 = self._choose(self.model.language.logits(self.state.step()), span.slice)
            else:
                token_B1 = levels_BP[:, number : number + 1] + span.start
            self._write([Slot(span.start)], has_B, token_B1)
            said.append(_codes(token_B1, span, has_B))
        return torch.cat(said, 1)

    def _looked_up(self, streams: Mapping[str, WrittenStream]) -> Tensor:
        """Return the levels [B, P] of marked points on the maps of their rows; -1 for rows without a map."""
        assert self.plan.readout is not None
        points_BP2 = self._on_device(self._points()[0])
        assert self.vision is not None
        return looked_up(self.model, streams[self.plan.readout], self.vision, self.image_index, points_BP2)

    def _points(self) -> tuple[list[list[tuple[float, float]]], Tensor]:
        """Return the marked points of each row, padded to the same number, and a mask [B, P] of the real ones."""
        counts = [len(turn.points) for turn in self.turns]
        most = max(counts)
        points = [[*turn.points, *[(0.0, 0.0)] * (most - len(turn.points))] for turn in self.turns]
        return points, self._on_device([[number < count for number in range(most)] for count in counts])

    def write_text(self) -> Tensor:
        """Write free text until every row has ended or `max_new_tokens` are written; return its ids [B, T]."""
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
        """Return the rows [B] that write this marker next; all of them if it is forced."""
        return self.state.all_rows if forced else self._next(slice(0, self.plan.size), impossible_V) == marker

    def _next(self, allowed: slice, impossible_V: Tensor | None = None) -> Tensor:
        """Return the id [B] that each row writes next. It is chosen once and kept until the row writes something."""
        if self._undecided_B is not None:
            logits_BV = self.model.language.logits(self.state.step()[:, 0])
            if self.settings.grammar and impossible_V is not None:
                logits_BV = logits_BV.masked_fill(impossible_V, -torch.inf)
            chosen_B = self._choose(logits_BV, allowed)
            self._next_B = torch.where(self._undecided_B, chosen_B, self._next_B)
            self._undecided_B = None
        return self._next_B

    def _choose(self, logits: Tensor, allowed: slice) -> Tensor:
        """Choose ids [...] from logits [..., V]; with the grammar, only among the allowed ids."""
        if not self.settings.grammar:
            allowed = slice(0, logits.shape[-1])
        logits = logits[..., allowed].float()
        highest, likeliest = logits.max(-1, keepdim=True)
        self._finite = self._finite & highest.isfinite().all()
        if self.settings.temperature > 0:
            # The argmax of logits with Gumbel noise follows their softmax; nothing here waits for the device.
            waits = torch.empty_like(logits).exponential_(generator=self.random).clamp_min_(SHORTEST_WAIT)
            likeliest = ((logits - highest) / self.settings.temperature - waits.log()).argmax(
                -1, keepdim=True
            )
        return likeliest[..., 0] + allowed.start

    def _write(self, slots: Sequence[Slot], keep_B: Tensor, ids_BT: Tensor | None = None) -> None:
        """Append slots to every kept row, and record their tokens."""
        self.state.append(slots, keep_B, ids_BT)
        self._note([slot.token for slot in slots] if ids_BT is None else ids_BT, keep_B)

    def _note(self, ids: Tensor | Sequence[int] | Sequence[Sequence[int]], keep_B: Tensor) -> None:
        """Record ids [B, T] or [T] that kept rows have written, after which these rows choose again."""
        ids_BT = ids if isinstance(ids, Tensor) else self._on_device(ids).expand(len(self.turns), -1)
        self._written.append(torch.where(keep_B[:, None], ids_BT, -1))
        self._undecided_B = keep_B if self._undecided_B is None else self._undecided_B | keep_B

    def _check_streams(self) -> None:
        known = self.plan.streams
        for name in (*self.streams, *self.given_codes, *self.given_inputs):
            if name not in known:
                raise InputError(
                    f"The stream {name!r} is asked for, and the model has none such{near_miss(name, known)}"
                )
        for name in self.settings.force:
            if name not in self.streams:
                raise InputError(f"{name} is forced but not among the streams {self.streams}; add it there.")
        for name in self.given_codes:
            tokens = known[name]
            if not isinstance(tokens, TokenBlock) or tokens.per == "object":
                raise InputError(
                    f"Codes of {name} cannot be given: it is not written as codes once per image."
                )
        for name in self.given_inputs:
            if not isinstance(known[name], SpecialTokens) or known[name].per == "object":
                raise InputError(
                    f"Inputs of {name} cannot be given: it is not written as special tokens once per image."
                )

    def _impossible(self, streams: Sequence[str]) -> Tensor:
        """Return a mask [V] of the ids that the grammar excludes: all but text and the first ids of these streams."""
        impossible_V = torch.ones(self.plan.size, dtype=torch.bool, device=self.model.device)
        impossible_V[: self.plan.base_vocab] = False
        for name in streams:
            impossible_V[self.plan.streams[name].opens_with] = False
        return impossible_V

    def _on_device(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values).to(self.model.device, non_blocking=True)

    def _no_codes(self, block: TokenBlock) -> Sequence[int]:
        """Return placeholder codes, for slots whose tokens come from a tensor."""
        return [0] * block.length

    def _nothing(self, name: str) -> WrittenStream:
        """Return the record of a stream that no row wrote: O is 1 for a stream per image, 0 per object."""
        tokens, last_BD = self.plan.streams[name], self.state.last_BD
        count = 1 if tokens.per == "image" else 0
        length = tokens.length if isinstance(tokens, TokenBlock) else 0
        special = len(tokens.ids) if isinstance(tokens, SpecialTokens) else 0
        none_BO = torch.zeros(len(self.turns), count, dtype=torch.bool, device=last_BD.device)
        return WrittenStream(
            opened_BO=none_BO,
            closed_BO=none_BO,
            codes_BOL=self.state.past_B.new_full((len(self.turns), count, length), -1),
            hidden_BOnD=last_BD.new_zeros(len(self.turns), count, special, last_BD.shape[1]),
        )

    def _max_new_slots(self) -> int:
        """Return the maximum number of slots that may follow a prompt."""
        total = 3 * max(len(turn.points) for turn in self.turns) + self.settings.max_new_tokens
        for name in self.streams:
            tokens = self.plan.streams[name]
            times = self.settings.max_objects if tokens.per == "object" else 1
            if isinstance(tokens, TokenBlock):
                total += times * (tokens.steps[0] + len(tokens.slot_codes) + 1)
            else:
                total += times * len(tokens.ids)
        return total


def _picked(tokens_Bk: Tensor, held: Sequence[int]) -> Tensor:
    """Return the token of each slot; usually there is one slot per code."""
    return tokens_Bk if list(held) == list(range(tokens_Bk.shape[1])) else tokens_Bk[:, list(held)]


def _codes(tokens_BT: Tensor, span: TokenSpan, keep_B: Tensor) -> Tensor:
    """Return the codes of tokens; -1 in rows that are not kept, and where a token is not a code."""
    return torch.where(span.contains(tokens_BT) & keep_B[:, None], tokens_BT - span.start, -1)


def generate(
    model: PerceptionNetwork,
    turns: Sequence[Turn],
    images: Sequence[Tensor],
    image_index: Sequence[int],
    settings: GenerationSettings,
    *,
    vision: VisionFeatures | None = None,
    given_codes: Mapping[str, Tensor] | None = None,
    given_inputs: Mapping[str, Tensor] | None = None,
) -> Generated:
    """Run the decoding loop for one question per row; each image is encoded once.

    Args:
        model: The model, in eval mode.
        turns: One question per row.
        images: RGB [3, H, W] in [0, 1] on the model's device; empty for questions about no image.
        image_index: The index of each row's image; empty if there are no images.
        settings: The generation settings.
        vision: The features of the images, if they were computed before.
        given_codes: Codes [B, L] to write instead of the model's own, for streams that are written once per image.
            [B, 0] writes only the opening and the closing marker.
        given_inputs: Inputs [B, n, D] at special tokens instead of their embeddings or of fed-back rows, for streams
            that are written once per image.

    Raises:
        InputError: The settings, or the given codes or inputs, do not fit the model.
        CheckpointError: The model computes values that are not finite.
    """
    vision = model.encode_vision(images) if vision is None and images else vision
    return Generator(model, turns, image_index, vision, settings, given_codes, given_inputs).run()
