"""Training a depth tokenizer on depth maps.

Shapes: N maps, B batch, H W pixels, K codebook size.
"""

import logging
import math
import time
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import DataError, InterfaceError, TrainingError
from perceptio.interfaces import DepthTokenizer, TrainableDepthTokenizer, fill_unknown
from perceptio.ops.codebooks import code_usage
from perceptio.recipe import DepthTrainingConfig

logger = logging.getLogger(__name__)

CLIP = 1.0
"""Largest norm of the gradient."""


@attrs.frozen(kw_only=True)
class DepthTrainingRecord:
    """Where training stands after a step, averaged over the steps since the last record.

    In the first, unquantized steps the errors are those of latents decoded as they are, and the codes say little.
    `absolute_error` and `edge_error` are means over known pixels and pairs of them, in units of the [0, 1] range;
    `codes_used` and `perplexity` count the codes of those steps.
    """

    step: int
    steps: int
    loss: float
    absolute_error: float
    edge_error: float
    codes_used: int
    perplexity: float
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Time to the end at the speed so far."""
        return self.seconds / self.step * (self.steps - self.step)


def train_depth_tokenizer(
    tokenizer: DepthTokenizer,
    depth_N1HW: Tensor,
    settings: DepthTrainingConfig,
    *,
    weights_N: Tensor | None = None,
    on_record: Callable[[DepthTrainingRecord], None] = lambda record: None,
    record_every: int = 50,
) -> tuple[DepthTrainingRecord, ...]:
    """Train a tokenizer to reconstruct depth maps, then freeze it.

    The loss is the mean absolute error over known pixels, plus `edge_weight` times that of differences between
    neighboring known pixels (ours: AURORA minimizes the squared error alone), plus the tokenizer's own auxiliary
    loss. In a metric convention values are logarithms, so the absolute error is one of ratios, as AbsRel and delta
    are. Maps are mirrored at random, and the first steps quantize nothing (ours). The result depends on the
    tokenizer, the maps and the settings alone.

    Args:
        tokenizer: A trainable depth tokenizer, on the device to train on.
        depth_N1HW: Floating-point maps [N, 1, H, W] in [0, 1] at the tokenizer's size, NaN where unknown.
        settings: How long and how fast.
        weights_N: How often each map is to be drawn, in proportion; None: all alike.
        on_record: Called with every record.
        record_every: Steps between records; the last step always makes one.

    Returns:
        The records, the last of them at the last step.

    Raises:
        InterfaceError: The tokenizer cannot be trained.
        DataError: There is no map, or one without a known pixel.
        TrainingError: The loss is no longer finite.
    """
    if not isinstance(tokenizer, TrainableDepthTokenizer):
        raise InterfaceError(
            f"{type(tokenizer).__name__} cannot be trained: it has no `reconstruct` and `freeze`."
        )
    if not len(depth_N1HW):
        raise DataError("There is no depth map to train the depth tokenizer on.")
    weights_N = torch.ones(len(depth_N1HW)) if weights_N is None else weights_N
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_scale(step, settings))
    device = next(tokenizer.parameters()).device
    meter = _Meter(tokenizer.spec.codebook_size, settings.steps, device)
    records = []
    tokenizer.train().to(memory_format=torch.channels_last)  # Convolutions are a third faster so on a CPU.
    # Codebook start and revival draw from the global generator: lend it the seed, and give it back as it was.
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        for step in range(1, settings.steps + 1):
            depth_B1HW = _draw(depth_N1HW, weights_N, settings.batch_size, generator).to(device)
            quantize = step > settings.unquantized * settings.steps
            loss = _step_loss(
                tokenizer, depth_B1HW, meter, edge_weight=settings.edge_weight, quantize=quantize
            )
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"The loss of the depth tokenizer is {loss.item()} at step {step}: try a lower depth_training.lr "
                    f"than {settings.lr} or more depth_training.warmup_steps than {settings.warmup_steps}."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(tokenizer.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            if step % record_every == 0 or step == settings.steps:
                records.append(meter.record(step))
                logger.info("depth tokenizer %s", records[-1])
                on_record(records[-1])
    tokenizer.to(memory_format=torch.contiguous_format).freeze()
    return tuple(records)


def _lr_scale(step: int, settings: DepthTrainingConfig) -> float:
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return warmup * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def _draw(depth_N1HW: Tensor, weights_N: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Maps drawn with replacement in proportion to their weights, each mirrored with probability one half."""
    index_B = torch.multinomial(weights_N, batch_size, replacement=True, generator=generator)
    mirrored_B = torch.rand(batch_size, generator=generator) < 0.5
    depth_B1HW = depth_N1HW[index_B].float()
    return torch.where(mirrored_B.view(-1, 1, 1, 1), depth_B1HW.flip(-1), depth_B1HW)


def _step_loss(
    tokenizer: TrainableDepthTokenizer,
    depth_B1HW: Tensor,
    meter: "_Meter",
    *,
    edge_weight: float,
    quantize: bool,
) -> Tensor:
    target_B1HW, known_B1HW = fill_unknown(depth_B1HW)
    made = tokenizer.reconstruct(target_B1HW, quantize=quantize)
    difference_B1HW = made.depth_B1HW - target_B1HW
    absolute = _known_mean(difference_B1HW.abs(), known_B1HW)
    edge = _edge_error(difference_B1HW, known_B1HW)
    loss = absolute + edge_weight * edge + made.auxiliary_loss
    meter.add(loss, absolute, edge, made.codes_BL)
    return loss


def _edge_error(difference_B1HW: Tensor, known_B1HW: Tensor) -> Tensor:
    """Mean absolute error of differences between horizontal and vertical neighbours, both known."""
    total = difference_B1HW.new_zeros(())
    for axis in (2, 3):
        size = difference_B1HW.shape[axis]
        steps = difference_B1HW.diff(dim=axis).abs()
        both = known_B1HW.narrow(axis, 1, size - 1) & known_B1HW.narrow(axis, 0, size - 1)
        total = total + _known_mean(steps, both)
    return total


def _known_mean(values: Tensor, known: Tensor) -> Tensor:
    return (values * known).sum() / known.sum().clamp(min=1)


class _Meter:
    """Sums since the last record, kept on the device."""

    def __init__(self, codebook_size: int, steps: int, device: torch.device) -> None:
        self.codebook_size = codebook_size
        self.steps = steps
        self.device = device
        self.started = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.counts_K = torch.zeros(self.codebook_size, dtype=torch.int64, device=self.device)
        self.added = 0

    def add(self, loss: Tensor, absolute: Tensor, edge: Tensor, codes_BL: Tensor) -> None:
        self.sums += torch.stack([loss, absolute, edge]).detach().double()
        self.counts_K += torch.bincount(codes_BL.flatten(), minlength=self.codebook_size)
        self.added += 1

    def record(self, step: int) -> DepthTrainingRecord:
        loss, absolute, edge = (self.sums / self.added).tolist()
        usage = code_usage(self.counts_K)
        record = DepthTrainingRecord(
            step=step,
            steps=self.steps,
            loss=loss,
            absolute_error=absolute,
            edge_error=edge,
            codes_used=int(usage["codes_used"]),
            perplexity=usage["perplexity"],
            seconds=time.perf_counter() - self.started,
        )
        self._reset()
        return record
