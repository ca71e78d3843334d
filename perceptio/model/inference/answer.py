"""Answer questions: read and check the inputs, generate, and decode the streams to an `Answer`."""

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
    """A model's answer to one question, with what it perceived; `answer["depth"]` is `answer.decoded["depth"]`.

    Attributes:
        text: The answer in words.
        decoded: The decoded value of every stream, by name. For a stream per image, one value, or None if the stream
            was not written. For a stream per object, a tuple in order of mention. Depth is a `DepthMap`, a mask a
            boolean array [H, W] of the image's size. Without the grammar, a block that holds something other than
            codes is None.
        codes: The codes of every stream that is written as codes, by name, with -1 where something else was written.
            For a stream per image, one tuple of codes, empty if the stream was not written; for a stream per object,
            a tuple of such tuples.
        tokens: Every token written after the question, in order, by name or as text, without the end token.
        readout: For each marked point, the code that was read out before the answer, or its level if the recipe has
            `point_values` (0 is the lowest). -1 if something else was written or there was no map; empty if the
            answer was direct.
        truncated: Whether the text was cut at `max_new_tokens` before the model ended it.
        seconds: The wall-clock time in seconds of the whole batch that contained this question.
    """

    text: str
    decoded: Mapping[str, Any]
    codes: Mapping[str, tuple[Any, ...]]
    tokens: tuple[str, ...]
    readout: tuple[int, ...]
    truncated: bool
    seconds: float

    def __getitem__(self, stream: str) -> Any:
        """Return the decoded value of a stream.

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
    """Answer questions that all have an image, or all have none."""
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
    """Return the settings for a question about no image: what they leave to the recipe is turned off."""
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
    """Decode each row's streams as in `Answer.decoded`, by stream; only images that are needed are encoded.

    Args:
        model: The model, in eval mode.
        images: RGB [3, H, W] in [0, 1] on the model's device.
        image_index: The index of each row's image.
        generated: What the rows wrote.
        names: The streams to decode; None: all.

    Raises:
        CheckpointError: A tokenizer computes values that are not finite.
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
    """Decode everything that each row wrote of a stream, in order; incomplete blocks are None."""
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
    """Decode blocks or objects of a stream with its tokenizer; only images that are needed are encoded.

    Args:
        model: The model, in eval mode.
        name: The name of the stream.
        images: RGB [3, H, W] in [0, 1] on the model's device.
        image_index: The index of each row's image.
        written: What the rows wrote of the stream.
        which: At least one (row, number in the row) of a complete block or object.
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
    """Return every distinct image once, and the index of each question's image."""
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
    """Return the text of a row."""
    ids, _ = text_ids(model, generated, row)
    return model.language.text_tokenizer.decode([token for token in ids if token < model.plan.base_vocab])


def text_ids(model: PerceptionNetwork, generated: Generated, row: int) -> tuple[list[int], bool]:
    """Return the ids of a row's text before its end token, and whether the text was cut before one."""
    ids, end = generated.text_BT[row].tolist(), model.language.text_tokenizer.end_id
    return (ids[: ids.index(end)], False) if end in ids else (ids, True)
