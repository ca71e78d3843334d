"""The likelihood of given answers under a model, after it has perceived as before its own answers.

Shapes: B rows, D hidden width, N ids of all answers in a row, V vocabulary.
"""

from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from perceptio.interfaces import GenerationSettings, Turn, VisionFeatures
from perceptio.model.inference.generation import Generator
from perceptio.model.inference.sequence import Slot, encoded
from perceptio.model.network import PerceptionNetwork


@attrs.frozen(kw_only=True)
class AnswerLikelihood:
    """The likelihood of an answer, including its end token.

    Attributes:
        log_likelihood: The natural logarithm of the probability of all its ids, each normalized over the ids of text.
        ids: The number of ids.
        likeliest: Whether each id was the most likely one, so that the model would write this answer without
            sampling.
    """

    log_likelihood: float
    ids: int
    likeliest: bool


@torch.inference_mode()
def answer_likelihoods(
    model: PerceptionNetwork,
    turns: Sequence[Turn],
    images: Sequence[Tensor],
    image_index: Sequence[int],
    answers: Sequence[str],
    settings: GenerationSettings,
    *,
    vision: VisionFeatures | None = None,
) -> list[AnswerLikelihood]:
    """Compute the likelihood of one given answer per row.

    Args:
        model: The model, in eval mode.
        turns: One question per row.
        images: RGB [3, H, W] in [0, 1] on the model's device; empty for questions about no image.
        image_index: The index of each row's image; empty if there are no images.
        answers: The answer of each row.
        settings: How to perceive before answering.
        vision: The features of the images, if they were computed before.

    Raises:
        InputError: The settings do not fit the model.
        CheckpointError: The model computes values that are not finite.
    """
    text = model.language.text_tokenizer
    ids = [[*encoded(text, answer), text.end_id] for answer in answers]
    settings = attrs.evolve(settings, max_new_tokens=max(map(len, ids)))
    vision = model.encode_vision(images) if vision is None and images else vision
    generator = Generator(model, turns, image_index, vision, settings)
    generator.perceive()
    logits_NV = model.language.logits(_before_each(generator, ids))[:, : model.plan.base_vocab].float()
    generator.check_finite(logits_NV)
    ids_N = torch.tensor([one for row in ids for one in row], device=model.device)
    chosen_N = logits_NV.log_softmax(-1).gather(1, ids_N[:, None])[:, 0].double()
    likeliest_N = logits_NV.argmax(-1) == ids_N
    lengths = [len(row) for row in ids]
    return [
        AnswerLikelihood(log_likelihood=sum(chosen), ids=length, likeliest=all(likeliest))
        for chosen, likeliest, length in zip(
            _by_row(chosen_N, lengths), _by_row(likeliest_N, lengths), lengths, strict=True
        )
    ]


def _before_each(generator: Generator, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the hidden states [N, D] that predict each id of the answers, row by row."""
    state, end = generator.state, generator.text.end_id
    before_B1D = state.step()
    most = max(map(len, ids)) - 1
    if not most:
        return before_B1D[:, 0]
    padded_BT = torch.tensor([[*row[:-1], *[end] * (most + 1 - len(row))] for row in ids])
    written_B = torch.tensor([len(row) - 1 for row in ids])
    for place in range(most):
        keep_B = (written_B > place).to(state.device, non_blocking=True)
        state.append([Slot(end)], keep_B, padded_BT[:, place : place + 1].to(state.device, non_blocking=True))
    after_BTD = state.step(most)
    # States are aligned at the end, so a row with fewer ids has its states in the last places.
    states = [
        torch.cat([before_1D, after_TD[most - len(row) + 1 :]])
        for before_1D, after_TD, row in zip(before_B1D, after_BTD, ids, strict=True)
    ]
    return torch.cat(states)


def _by_row(values_N: Tensor, lengths: Sequence[int]) -> list[list[float]]:
    values, rows, start = values_N.tolist(), [], 0
    for length in lengths:
        rows.append(values[start : start + length])
        start += length
    return rows
