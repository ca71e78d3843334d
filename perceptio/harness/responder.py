"""Answers to the questions of a harness: in its order, in batches, with each image encoded once."""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from perceptio.errors import InputError, near_miss
from perceptio.harness.mask_text import written_mask
from perceptio.harness.model_args import DTYPES, ModelArgs
from perceptio.interfaces import GenerationSettings, Turn, VisionFeatures
from perceptio.model.inference.answer import decode_streams, text_of, without_image
from perceptio.model.inference.generation import generate
from perceptio.model.inference.likelihood import AnswerLikelihood, answer_likelihoods
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.eval_mode import in_eval_mode
from perceptio.ops.image_files import as_image

READ_AHEAD = 64
"""Minimum number of questions that are read at a time; among these, those about one image are asked together."""
PLACEHOLDER = "<image>"
"""Placeholder that harnesses write for an image; a model's template has its own."""


@attrs.frozen(kw_only=True)
class Decoding:
    """How a reply is generated.

    Attributes:
        max_new_tokens: Maximum number of tokens, at least 1.
        temperature: 0 means greedy decoding.
        until: The reply ends before the first of these.
        masks: Whether to append the masks that the answer wrote, in the format of `perceptio.harness.mask_text`.
    """

    max_new_tokens: int
    temperature: float = 0.0
    until: tuple[str, ...] = ()
    masks: bool = False


@attrs.frozen(kw_only=True, eq=False)
class Request:
    """A question of a harness.

    Attributes:
        text: The question.
        picture: Returns an image in a form that `PerceptionModel.ask` accepts, or None for a question without one.
        decoding: How the reply is generated.
    """

    text: str
    picture: Callable[[], Any]
    decoding: Decoding


@attrs.frozen(kw_only=True, eq=False)
class _Asked:
    """A request with its image loaded: its number, and a key that identifies its image."""

    number: int
    request: Request
    image: Any
    key: Any

    @property
    def turn(self) -> Turn:
        text = self.request.text.replace(PLACEHOLDER, "").strip()
        return Turn(question=text, answer="", task="")


class Responder:
    """Answers the questions of a harness.

    Args:
        model: The model; its mode is not changed.
        perceive: See `ModelArgs`.
        batch_size: Number of questions in a batch.

    Raises:
        InputError: The model lacks a stream that it should perceive.
    """

    def __init__(self, model: PerceptionModel, *, perceive: str = "auto", batch_size: int = 1) -> None:
        self.model, self.batch_size = in_eval_mode(model), batch_size
        self.settings, self._perceive = _perceiving(model, perceive), perceive
        self._objects = tuple(name for name, tokens in model.plan.streams.items() if tokens.per == "object")
        self._seen: dict[Any, tuple[Tensor, VisionFeatures]] = {}
        self._batches = 0

    @classmethod
    def of(cls, args: ModelArgs, *, device: torch.device | None = None) -> Self:
        """Load the model that the arguments name; `device` overrides theirs if given.

        Raises:
            CheckpointError: The model cannot be loaded.
            InputError: It is not a complete model, or lacks the requested stream or device.
        """
        where = args.torch_device if device is None else device
        model = PerceptionModel.from_pretrained(args.pretrained)
        model = model.to(where) if args.dtype == "auto" else model.to(where, DTYPES[args.dtype])
        return cls(model, perceive=args.perceive, batch_size=args.batch_size)

    def replies(self, requests: Sequence[Request]) -> Iterator[str]:
        """Yield a reply to each request, in their order.

        Raises:
            InputError: An image cannot be read, or a question is empty.
            CheckpointError: The model computes values that are not finite.
        """
        for asked in self._windows(requests):
            written: dict[int, str] = {}
            for batch in self._alike(asked, lambda one: one.request.decoding):
                written |= dict(zip((one.number for one in batch), self._reply(batch), strict=True))
            yield from (written[one.number] for one in asked)

    def likelihoods(self, requests: Sequence[Request], answers: Sequence[str]) -> Iterator[AnswerLikelihood]:
        """Yield how likely the model finds an answer to each request, in their order; see `replies`."""
        for asked in self._windows(requests):
            found: dict[int, AnswerLikelihood] = {}
            for batch in self._alike(asked, lambda one: None):
                numbers = [one.number for one in batch]
                images, index, vision, settings = self._shown(batch)
                turns, told = [one.turn for one in batch], [answers[number] for number in numbers]
                rated = answer_likelihoods(self.model, turns, images, index, told, settings, vision=vision)
                found |= dict(zip(numbers, rated, strict=True))
            yield from (found[one.number] for one in asked)

    def _windows(self, requests: Sequence[Request]) -> Iterator[list[_Asked]]:
        """Yield groups of requests within which questions about one image are asked together."""
        numbered = iter(enumerate(requests))
        while window := list(islice(numbered, max(READ_AHEAD, self.batch_size))):
            asked = []
            for number, request in window:
                image = request.picture()
                if not request.text.replace(PLACEHOLDER, "").strip():
                    raise InputError(
                        f"The question of request {number + 1} is empty: there is nothing to answer."
                    )
                asked.append(_Asked(number=number, request=request, image=image, key=_key(image)))
            yield asked

    def _alike(self, asked: Sequence[_Asked], how: Callable[[_Asked], Any]) -> Iterator[list[_Asked]]:
        """Yield batches of requests that are answered in the same way, with those about one image adjacent."""
        groups: dict[Any, dict[Any, list[_Asked]]] = {}
        for one in asked:
            groups.setdefault((how(one), one.image is None), {}).setdefault(one.key, []).append(one)
        for pictures in groups.values():
            rows = [one for same in pictures.values() for one in same]
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size]

    @torch.inference_mode()
    def _reply(self, batch: Sequence[_Asked]) -> list[str]:
        decoding = batch[0].request.decoding
        images, index, vision, settings = self._shown(batch)
        settings = attrs.evolve(
            settings,
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            seed=self._batches if decoding.temperature else 0,
        )
        if decoding.masks and images and self._perceive == "auto":
            # If masks are scored, the model chooses as in `perceptio eval`.
            settings = attrs.evolve(settings, streams=self._objects)
        self._batches += 1
        turns = [one.turn for one in batch]
        written = generate(self.model, turns, images, index, settings, vision=vision)
        texts = [_cut(text_of(self.model, written, row).strip(), decoding.until) for row in range(len(batch))]
        if not (decoding.masks and images):
            return texts
        decoded = decode_streams(self.model, images, index, written, self._objects)
        return [
            "\n".join(
                [
                    text,
                    *(
                        written_mask(mask)
                        for name in self._objects
                        for mask in decoded[name][row]
                        if _is_mask(mask)
                    ),
                ]
            )
            for row, text in enumerate(texts)
        ]

    @torch.inference_mode()
    def _shown(
        self, batch: Sequence[_Asked]
    ) -> tuple[list[Tensor], list[int], VisionFeatures | None, GenerationSettings]:
        """Return the images of a batch on the device, the image of each request, their features, and the settings."""
        if batch[0].image is None:
            settings = attrs.evolve(self.settings, streams=(), force=())
            return [], [], None, without_image(settings)
        first = {one.key: one for one in reversed(batch)}
        order = list(dict.fromkeys(one.key for one in batch))
        new = [key for key in order if key not in self._seen]
        pictures = [as_image(first[key].image).to(self.model.device) for key in new]
        seen = {key: self._seen[key] for key in order if key in self._seen}
        if pictures:
            features = self.model.encode_vision(pictures).each()
            seen |= dict(zip(new, zip(pictures, features, strict=True), strict=True))
        # An image may have more questions than fit a batch: keep its features for the next one.
        self._seen = {key: seen[key] for key in order}
        images = [seen[key][0] for key in order]
        vision = VisionFeatures.joined([seen[key][1] for key in order])
        return images, [order.index(one.key) for one in batch], vision, self.settings


def _perceiving(model: PerceptionModel, perceive: str) -> GenerationSettings:
    """Return the settings of `ModelArgs.perceive`."""
    streams = model.plan.streams
    if perceive == "auto":
        return GenerationSettings()
    if perceive == "none":
        return GenerationSettings(streams=())
    if perceive == "before":
        per_image = tuple(name for name, tokens in streams.items() if tokens.per == "image")
        return GenerationSettings(force=per_image)
    names = tuple(perceive.split("+"))
    for name in names:
        if name not in streams:
            known = ("auto", "none", "before", *streams)
            raise InputError(
                f"perceive is {perceive!r}, and {name!r} is no stream of the model{near_miss(name, known)}"
            )
    return GenerationSettings(streams=names, force=names)


def _key(image: Any) -> Any:
    """Return what identifies an image: a file's path, or the pixels."""
    if image is None or isinstance(image, str | Path):
        return None if image is None else str(image)
    if isinstance(image, Image.Image):
        return image.mode, image.size, blake2b(image.tobytes()).digest()
    return id(image)


def _cut(text: str, until: Sequence[str]) -> str:
    """Return a text up to the first stop string."""
    ends = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return text[: min(ends)].rstrip() if ends else text


def _is_mask(decoded: Any) -> bool:
    return isinstance(decoded, np.ndarray) and decoded.dtype == bool and decoded.ndim == 2
