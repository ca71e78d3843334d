"""From a question in a user's hands to an `Answer`: reading, checking, generating, decoding."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.errors import InputError, UnknownNameError, near_miss, quoted
from perceptio.interfaces import GenerationSettings, TokenBlock, Turn
from perceptio.model.inference.generated import Generated, WrittenStream
from perceptio.model.inference.generation import generate
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.eval_mode import in_eval_mode
from perceptio.ops.image_files import as_image
from perceptio.ops.marks import shown_images


@attrs.frozen(kw_only=True, eq=False)
class Answer:
    """What a model says of one question, and what it perceived on the way; `answer["depth"]` is `decoded["depth"]`.

    Attributes:
        text: The answer in words.
        decoded: What every stream that was written decodes to, by name, as its tokenizer shows it: of a stream per
            image one value, None where it was not written; of a stream per object a tuple, in order of mention. A
            `DepthMap` of depth, a boolean [H, W] of the image's own size of a mask. With the grammar off, what holds
            something else than codes is None.
        codes: The codes of every stream that is written as codes, -1 where something else was written: of a stream
            per image in a row, empty where it was not written; of a stream per object one such row for each.
        tokens: Every token written after the question, in order: by name, or as text. The end token is left out.
        readout: What was said of each marked point before the answer: the code read out, or where the recipe has
            `point_values` the level, 0 the lowest, read out or looked up. -1 where something else was written, or
            there was no map to look at; empty in the direct format.
        truncated: Whether the text was cut at `max_new_tokens`: the model had not ended it.
        seconds: Wall-clock of the whole batch this answer came in.
    """

    text: str
    decoded: Mapping[str, Any]
    codes: Mapping[str, tuple[Any, ...]]
    tokens: tuple[str, ...]
    readout: tuple[int, ...]
    truncated: bool
    seconds: float

    def __getitem__(self, stream: str) -> Any:
        """What a stream decodes to.

        Raises:
            UnknownNameError: The model has no stream of this name.
        """
        if stream not in self.decoded:
            raise UnknownNameError(f"The model has no stream {stream!r}{near_miss(stream, self.decoded)}")
        return self.decoded[stream]


@torch.inference_mode()
def ask_batch(
    model: PerceptionNetwork,
    questions: Sequence[tuple[Any, str, Sequence[tuple[float, float]]]],
    settings: GenerationSettings | None = None,
    perceive: Sequence[str] | None = None,
) -> list[Answer]:
    """Answer several questions at once; see `PerceptionModel.ask`."""
    if not questions:
        return []
    for asked in questions:
        if not isinstance(asked, Sequence) or isinstance(asked, str) or len(asked) != 3:
            raise InputError(
                f"A question of a batch is {quoted(asked)}: give (image, question, points), with () for no points."
            )
    start = time.perf_counter()
    settings = settings or GenerationSettings()
    if perceive is not None:
        if isinstance(perceive, str):
            raise InputError(f"perceive is {perceive!r}: give a tuple of names, such as ({perceive!r},).")
        settings = attrs.evolve(settings, streams=tuple(perceive), force=tuple(perceive))
    turns = [_turn(question, points) for _, question, points in questions]
    if settings.readout and not any(turn.points for turn in turns):
        raise InputError(
            "A read-out reads marked points, and none are given: mark some, or leave readout out."
        )
    model = in_eval_mode(model)
    answers: dict[int, Answer] = {}
    for pictured in (True, False):
        rows = [row for row, (image, _, _) in enumerate(questions) if (image is not None) is pictured]
        if rows:
            given = [questions[row][0] for row in rows] if pictured else []
            answered = _answers(model, given, [turns[row] for row in rows], settings, start)
            answers |= dict(zip(rows, answered, strict=True))
    return [answers[row] for row in range(len(questions))]


def _answers(
    model: PerceptionNetwork,
    given: Sequence[Any],
    turns: Sequence[Turn],
    settings: GenerationSettings,
    start: float,
) -> list[Answer]:
    """Answers to questions that all have an image, or all have none."""
    images: list[Tensor] = []
    index: list[int] = []
    if given:
        images, index = _distinct_images(given)
        images, index = shown_images(images, index, turns, drawn=model.recipe.points == "drawn")
        images = [image.to(model.device) for image in images]
    else:
        if any(turn.points for turn in turns):
            raise InputError(
                "Points mark places of an image, and there is none: give one, or leave points out."
            )
        settings = without_image(settings)
    generated = generate(model, turns, images, index, settings)
    decoded = decode_streams(model, images, index, generated)
    seconds = time.perf_counter() - start
    return [
        _answer(model, generated, row, turn, {name: values[row] for name, values in decoded.items()}, seconds)
        for row, turn in enumerate(turns)
    ]


def without_image(settings: GenerationSettings) -> GenerationSettings:
    """The settings for a question about no image: where they leave perception to the recipe, there is none."""
    return attrs.evolve(
        settings,
        streams=() if settings.streams is None and not settings.force else settings.streams,
        readout=False if settings.readout is None else settings.readout,
    )


@torch.inference_mode()
def decode_streams(
    model: PerceptionNetwork,
    images: Sequence[Tensor],
    image_index: Sequence[int],
    generated: Generated,
    names: Collection[str] | None = None,
) -> dict[str, list[Any]]:
    """What each row's streams decode to, as `Answer.decoded` holds it; only images that are needed are encoded.

    Args:
        model: The model, in eval mode.
        images: RGB [3, H, W] in [0, 1] on the model's device.
        image_index: Which image each row is about.
        generated: What the rows wrote.
        names: The streams to decode; None: all.

    Raises:
        CheckpointError: A tokenizer computes no finite numbers.
    """
    decoded: dict[str, list[Any]] = {}
    for name, written in generated.streams.items():
        if names is None or name in names:
            values = _decoded(model, name, images, image_index, written)
            if model.plan.streams[name].per == "object":
                decoded[name] = [tuple(row) for row in values]
            else:
                decoded[name] = [row[0] if row else None for row in values]
    return decoded


def _decoded(
    model: PerceptionNetwork,
    name: str,
    images: Sequence[Tensor],
    image_index: Sequence[int],
    written: WrittenStream,
) -> list[list[Any]]:
    """What each row wrote of a stream, one after the other; None for what is not whole."""
    values: list[list[Any]] = [[None] * count for count in written.opened_BO.sum(1).tolist()]
    whole = written.whole()
    if not whole:
        return values
    which = [(row, number) for row, number, _ in whole]
    made = decode_written(model, name, images, image_index, written, which)
    sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    shown = model.stream(name).tokenizer.shown(made, [sizes[image_index[row]] for row, _ in which])
    for (row, _, place), value in zip(whole, shown, strict=True):
        values[row][place] = value
    return values


def decode_written(
    model: PerceptionNetwork,
    name: str,
    images: Sequence[Tensor],
    image_index: Sequence[int],
    written: WrittenStream,
    which: Sequence[tuple[int, int]],
) -> Any:
    """What the tokenizer of a stream makes of what rows wrote; only images that are needed are encoded.

    Args:
        model: The model, in eval mode.
        name: The stream.
        images: RGB [3, H, W] in [0, 1] on the model's device.
        image_index: Which image each row is about.
        written: What the rows wrote of the stream.
        which: The row and the number in it of each one that is decoded; each is whole, and there is at least one.
    """
    stream = model.stream(name)
    used = sorted({image_index[row] for row, _ in which})
    features = stream.encode_image([images[i] for i in used])
    where_N = torch.tensor([used.index(image_index[row]) for row, _ in which], device=model.device)
    row_N, number_N = torch.tensor(which, device=model.device).T
    if isinstance(model.plan.streams[name], TokenBlock):
        with torch.autocast(model.device.type, enabled=False):
            return stream.tokenizer.from_codes(written.codes_BOL[row_N, number_N], features, where_N)
    rows_NmP = (
        stream.read(written.hidden_BOnD[row_N, number_N])
        if written.rows_BOmP is None
        else written.rows_BOmP[row_N, number_N]
    )
    return stream.tokenizer.from_rows(rows_NmP, features, where_N)


def _turn(question: str, points: Sequence[tuple[float, float]]) -> Turn:
    if not isinstance(question, str):
        raise InputError(f"The question is {quoted(question)}; it must be a text.")
    if not question.strip():
        raise InputError("The question is empty; ask something about the image.")
    if not isinstance(points, Iterable):
        raise InputError(f"The points are {quoted(points)}; they must be a list of pairs of numbers (x, y).")
    for point in points:
        try:
            x, y = (float(number) for number in point)
        except (TypeError, ValueError):
            raise InputError(f"The point {point!r} is no pair of numbers (x, y).") from None
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0):
            raise InputError(
                f"The point ({x}, {y}) is outside the image; x and y lie in [0, 1] from the upper left."
            )
    return Turn(question=question, answer="", task="", points=tuple((float(x), float(y)) for x, y in points))


def _distinct_images(given: Sequence[Any]) -> tuple[list[Tensor], list[int]]:
    """Every image once, and which one each question is about."""
    images: list[Tensor] = []
    seen: dict[Any, int] = {}
    index = []
    for image in given:
        key = str(image) if isinstance(image, str | Path) else id(image)
        if key not in seen:
            seen[key] = len(images)
            images.append(as_image(image))
        index.append(seen[key])
    return images, index


def _answer(
    model: PerceptionNetwork,
    generated: Generated,
    row: int,
    turn: Turn,
    decoded: Mapping[str, Any],
    seconds: float,
) -> Answer:
    text = model.language.text_tokenizer
    _, truncated = text_ids(model, generated, row)
    written = [token for token in generated.written_BW[row].tolist() if token >= 0]
    return Answer(
        text=text_of(model, generated, row).strip(),
        decoded=decoded,
        codes={name: _codes_of(generated, name, block, row) for name, block in model.plan.blocks()},
        tokens=tuple(model.plan.name_of(token) or text.decode([token]) for token in written),
        readout=tuple(generated.readout_BP[row, : len(turn.points)].tolist()),
        truncated=truncated,
        seconds=seconds,
    )


def _codes_of(generated: Generated, name: str, block: TokenBlock, row: int) -> tuple[Any, ...]:
    written = generated.streams[name]
    rows = [tuple(codes) for codes in written.codes_BOL[row, written.opened_BO[row]].tolist()]
    if block.per == "object":
        return tuple(rows)
    return rows[0] if rows else ()


def text_of(model: PerceptionNetwork, generated: Generated, row: int) -> str:
    """A row's text."""
    ids, _ = text_ids(model, generated, row)
    return model.language.text_tokenizer.decode([token for token in ids if token < model.plan.base_vocab])


def text_ids(model: PerceptionNetwork, generated: Generated, row: int) -> tuple[list[int], bool]:
    """The ids of a row's text before its end token, and whether it was cut before there was one."""
    ids, end = generated.text_BT[row].tolist(), model.language.text_tokenizer.end_id
    return (ids[: ids.index(end)], False) if end in ids else (ids, True)
