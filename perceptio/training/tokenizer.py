"""Training of a tokenizer of dense maps on the targets of its stream.

Shapes: N maps, B batch, C channels, H W pixels, L codes of a map, K codes of all codebooks together.
"""

import logging
import math
import time
from collections.abc import Callable

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import DataError, InterfaceError, TrainingError
from perceptio.interfaces import Codes, PerceptionTokenizer, TrainableTokenizer, device_of, fill_unknown
from perceptio.ops.codebooks import code_counts, code_usage
from perceptio.recipe import TokenizerTraining

logger = logging.getLogger(__name__)

CLIP = 1.0
"""Maximum norm of the gradient."""


@attrs.frozen(kw_only=True)
class TokenizerRecord:
    """The state of training after a step, averaged over the steps since the last record.

    In the first, unquantized steps, latents are decoded without quantization, so codes carry little meaning.
    `absolute_error` and `edge_error` are means over known values and pairs of them, in the units of the targets.
    `codes_used` and `perplexity` count the codes of these steps.
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
        """Estimated time to the end at the average speed so far, in seconds."""
        return self.seconds / self.step * (self.steps - self.step)


def train_tokenizer(
    tokenizer: PerceptionTokenizer,
    maps_NCHW: Tensor,
    settings: TokenizerTraining,
    *,
    weights_N: Tensor | None = None,
    on_record: Callable[[TokenizerRecord], None] = lambda record: None,
    record_every: int = 50,
) -> tuple[TokenizerRecord, ...]:
    """Train a tokenizer to reconstruct maps, then freeze it.

    The loss is the mean absolute error over known values, plus `edge_weight` times that of differences between
    neighboring known values (ours: AURORA minimizes only the squared error), plus the tokenizer's own auxiliary loss.
    Maps are mirrored at random, and the first steps do not quantize (ours). The result depends only on the tokenizer,
    the maps and the settings.

    Args:
        tokenizer: A trainable tokenizer of a stream of codes, on the device to train on.
        maps_NCHW: Floating-point maps as its `to_reconstruct` makes them from targets, NaN where unknown.
        settings: Steps, learning rate and other settings.
        weights_N: Relative sampling weight of each map; None: all equal.
        on_record: Called with every record.
        record_every: Steps between records; the last step always makes one.

    Returns:
        The records; the last one is from the last step.

    Raises:
        InterfaceError: The tokenizer cannot be trained.
        DataError: There is no map, or a map has no known value.
        TrainingError: The loss is no longer finite.
    """
    if not isinstance(tokenizer, TrainableTokenizer):
        raise InterfaceError(
            f"{type(tokenizer).__name__} cannot be trained: it has no `reconstruct` and `freeze`."
        )
    if not len(maps_NCHW):
        raise DataError("There is no map to train the tokenizer on.")
    weights_N = torch.ones(len(maps_NCHW)) if weights_N is None else weights_N
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_scale(step, settings))
    meter = _Meter(tokenizer.spec.stream.written, settings.steps, device_of(tokenizer))
    records = []
    tokenizer.train().to(memory_format=torch.channels_last)  # Makes convolutions on a CPU a third faster.
    # Codebook initialization and revival draw from the global generator: seed it here, and restore it afterwards.
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        for step in range(1, settings.steps + 1):
            maps_BCHW = _draw(tokenizer, maps_NCHW, weights_N, settings.batch_size, generator)
            quantize = step > settings.unquantized * settings.steps
            loss = _step_loss(
                tokenizer, maps_BCHW, meter, edge_weight=settings.edge_weight, quantize=quantize
            )
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"The loss of the tokenizer is {loss.item()} at step {step}: try a lower lr than {settings.lr} "
                    f"or more warmup_steps than {settings.warmup_steps} in the training settings of its stream."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(tokenizer.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            if step % record_every == 0 or step == settings.steps:
                records.append(meter.record(step))
                logger.info("tokenizer %s", records[-1])
                on_record(records[-1])
    tokenizer.to(memory_format=torch.contiguous_format).freeze()
    return tuple(records)


def _lr_scale(step: int, settings: TokenizerTraining) -> float:
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return warmup * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def _draw(
    tokenizer: PerceptionTokenizer,
    maps_NCHW: Tensor,
    weights_N: Tensor,
    batch_size: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw maps with replacement in proportion to their weights, and mirror each with probability one half."""
    index_B = torch.multinomial(weights_N, batch_size, replacement=True, generator=generator)
    mirrored_B = torch.rand(batch_size, generator=generator) < 0.5
    device = device_of(tokenizer)
    maps_BCHW = maps_NCHW[index_B].to(device).float()
    return torch.where(mirrored_B.view(-1, 1, 1, 1).to(device), tokenizer.mirrored(maps_BCHW), maps_BCHW)


def _step_loss(
    tokenizer: TrainableTokenizer,
    maps_BCHW: Tensor,
    meter: "_Meter",
    *,
    edge_weight: float,
    quantize: bool,
) -> Tensor:
    target_BCHW, known_BCHW = fill_unknown(maps_BCHW)
    made = tokenizer.reconstruct(target_BCHW, quantize=quantize)
    difference_BCHW = made.values - target_BCHW
    absolute = _known_mean(difference_BCHW.abs(), known_BCHW)
    edge = _edge_error(difference_BCHW, known_BCHW)
    loss = absolute + edge_weight * edge + made.auxiliary_loss
    meter.add(loss, absolute, edge, made.codes_TL)
    return loss


def _edge_error(difference_BCHW: Tensor, known_BCHW: Tensor) -> Tensor:
    """Return the mean absolute error of differences between horizontal and vertical neighbors that are both known."""
    total = difference_BCHW.new_zeros(())
    for axis in (2, 3):
        size = difference_BCHW.shape[axis]
        steps = difference_BCHW.diff(dim=axis).abs()
        both = known_BCHW.narrow(axis, 1, size - 1) & known_BCHW.narrow(axis, 0, size - 1)
        total = total + _known_mean(steps, both)
    return total


def _known_mean(values: Tensor, known: Tensor) -> Tensor:
    return (values * known).sum() / known.sum().clamp(min=1)


class _Meter:
    """Sums since the last record, kept on the device."""

    def __init__(self, written: Codes, steps: int, device: torch.device) -> None:
        self.written = written
        self.steps = steps
        self.device = device
        self.started = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.counts_K = torch.zeros(sum(self.written.codebook_sizes), dtype=torch.int64, device=self.device)
        self.added = 0

    def add(self, loss: Tensor, absolute: Tensor, edge: Tensor, codes_BL: Tensor) -> None:
        self.sums += torch.stack([loss, absolute, edge]).detach().double()
        self.counts_K += code_counts(codes_BL, self.written)
        self.added += 1

    def record(self, step: int) -> TokenizerRecord:
        loss, absolute, edge = (self.sums / self.added).tolist()
        usage = code_usage(self.counts_K)
        record = TokenizerRecord(
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
