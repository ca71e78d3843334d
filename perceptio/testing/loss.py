"""Conformance tests of a loss.

Shapes: B images, N blocks or objects of a stream, L codes, K codebook size, V vocabulary, R text targets, M vision
features, m rows of P numbers, C candidate masks, H W pixels, h w mask cells.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    Kind,
    Loss,
    LossConfig,
    LossValue,
    MaskPrediction,
    ModelSpecs,
    PerceptionOutput,
    StreamBatch,
    StreamOutput,
    VisionFeatures,
)
from perceptio.testing.component import BLOCK, MODEL, PIXELS, WIDTH, ComponentConformance, seeded

VOCABULARY = MODEL.vocab_size
OBJECTS, TEXTS, IMAGES, CANDIDATES = 3, 5, 2, 3
SHAPES = {
    "text_logits_RV": (TEXTS, VOCABULARY),
    "vision": (IMAGES * BLOCK.length, WIDTH),
    "heads.depth": (IMAGES * BLOCK.length, BLOCK.codebooks[0].size),
    "streams.depth.logits_NXV": (IMAGES, BLOCK.length + 2, VOCABULARY),
    "streams.depth.soft": (IMAGES, 1, PIXELS, PIXELS),
    "streams.segmentation.rows_NmP": (OBJECTS, 1, WIDTH),
    "streams.segmentation.decoded": (OBJECTS, CANDIDATES, PIXELS // 2, PIXELS // 2),
    "streams.segmentation.decoded.quality": (OBJECTS, CANDIDATES),
    "streams.edges.rows_NmP": (IMAGES, 2, WIDTH),
    "streams.edges.decoded": (IMAGES, 1, PIXELS, PIXELS),
    "streams.features.rows_NmP": (IMAGES, 2, WIDTH),
    "streams.features.decoded": (IMAGES, 2, WIDTH),
    "streams.objects.rows_NmP": (IMAGES, 3, WIDTH),
    "streams.objects.decoded": (IMAGES, 3, PIXELS // 2, PIXELS // 2),
}
"""The tensors that a loss may read, by field of a model's output; masks consist of logits and their quality."""


def output_of(leaves: Mapping[str, Tensor]) -> PerceptionOutput:
    """Return a model's output made of tensors with the names of `SHAPES`."""
    rows, columns = ((torch.arange(size) + 0.5) / size for size in BLOCK.grid or ())
    fields: dict[str, dict[str, Any]] = {name: {} for name in MODEL.streams}
    for path, value in leaves.items():
        kind, _, rest = path.partition(".")
        name, _, field = rest.partition(".")
        if kind == "streams" and "." not in field:
            fields[name][field] = value
    candidates_NChw = leaves["streams.segmentation.decoded"]
    quality_NC = leaves["streams.segmentation.decoded.quality"].float().sigmoid()
    fields["segmentation"]["decoded"] = MaskPrediction(
        logits_Nhw=candidates_NChw[:, 0],
        quality_N=quality_NC[:, 0],
        candidates_NMhw=candidates_NChw,
        candidate_quality_NM=quality_NC,
    )
    return PerceptionOutput(
        text_logits_RV=leaves["text_logits_RV"],
        vision=VisionFeatures(
            features_MD=leaves["vision"],
            centers_M2=torch.cartesian_prod(rows, columns).repeat(IMAGES, 1),
            counts=(BLOCK.length,) * IMAGES,
        ),
        heads={"depth": leaves["heads.depth"]},
        streams={name: StreamOutput(**named) for name, named in fields.items()},
    )


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """Return every tensor of a batch, by its field or by its stream and field."""
    owners: dict[str, Any] = {"": batch} | {f"{name}.": stream for name, stream in batch.streams.items()}
    named = {
        f"{owner}{field.name}": getattr(value, field.name)
        for owner, value in owners.items()
        for field in attrs.fields(type(value))
    }
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


class LossConformance(ComponentConformance):
    """Set `config`. The loss receives a synthetic batch with text, and two blocks or three objects of each stream.

    Attributes:
        model: The specs of the model for the loss; by default it has the streams of `testing.component.MODEL`.
    """

    config: ClassVar[LossConfig]
    kind = Kind.LOSS
    model: ClassVar[ModelSpecs] = MODEL

    def fresh(self) -> Loss:
        """Return the loss, built for the small model."""
        return self.config.build(self.model)

    def batch(self, *, empty: bool = False) -> Batch:
        """Return a batch of targets; with `empty`, without any item."""
        texts, images, objects = (0, 0, 0) if empty else (TEXTS, IMAGES, OBJECTS)
        random, slots = seeded(), 40

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=random)

        def stream(count: int, rows: int, targets: Tensor, codes: int = 0) -> StreamBatch:
            codes_NL = integers(BLOCK.codebooks[0].size, count, codes)
            return StreamBatch(
                rows_NX=integers(slots, count, rows),
                slots_NY=integers(slots, count, codes or rows),
                codes_NL=codes_NL,
                images=tuple(range(images)),
                image_N=torch.arange(count) % max(images, 1),
                target_N=torch.arange(count),
                known=(True,) * count,
                image_codes_BL=codes_NL if codes else integers(1, images, 0),
                coded=(codes > 0,) * images,
                targets=targets,
            )

        def pixels(count: int, channels: int) -> Tensor:
            return torch.rand(count, channels, PIXELS, PIXELS, generator=random)

        masks_BkHW = (pixels(images, 3) > 0.5).float()
        masks_BkHW[:, -1] = torch.nan  # Each image has two objects, and an empty third slot.
        return Batch(
            images=tuple(pixels(images, 3)),
            ids_T=integers(VOCABULARY, slots),
            positions_AT=torch.arange(slots).float()[None],
            query_positions_AT=torch.arange(slots).float()[None],
            lengths=(slots,),
            vision_rows_M=torch.arange(images * BLOCK.length),
            text_rows_R=integers(slots, texts),
            text_targets_R=integers(20, texts),
            streams={
                "segmentation": stream(objects, 1, pixels(objects, 1)[:, 0] > 0.5),
                "depth": stream(images, BLOCK.length + 2, pixels(images, 1), BLOCK.length),
                "edges": stream(images, 2, pixels(images, 1)),
                "features": stream(images, 2, torch.randn(images, 2, WIDTH, generator=random)),
                "objects": stream(images, 3, masks_BkHW),
            },
        )

    def output(self, dtype: torch.dtype = torch.float32) -> tuple[PerceptionOutput, dict[str, Tensor]]:
        """Return a synthetic model output, and the tensors in it that a loss may read, by name.

        The values are the same for every `dtype`: bfloat16 represents them exactly.
        """
        random = seeded(1)
        leaves = {
            name: torch.randn(shape, generator=random).bfloat16().to(dtype).requires_grad_()
            for name, shape in SHAPES.items()
        }
        return output_of(leaves), leaves

    def value(self, dtype: torch.dtype = torch.float32) -> tuple[LossValue, dict[str, Tensor]]:
        """Return the loss of the synthetic batch, and the leaves it was computed from."""
        torch.manual_seed(0)
        made, leaves = self.output(dtype)
        return self.fresh()(made, self.batch()), leaves

    def test_it_reads_fields_that_there_are(self) -> None:
        """`required_outputs` has only fields that a model computes, auxiliary heads and streams included by name."""
        required = self.fresh().required_outputs
        assert required and set(required) <= set(SHAPES), f"There are {', '.join(SHAPES)}."

    def test_it_refuses_a_model_without_what_it_needs(self) -> None:
        """Recipes are checked by building their losses, so a loss must then report what it needs and cannot find."""
        needed = {name.split(".")[1] for name in self.fresh().required_outputs if "." in name}
        for stream in needed:
            others = {name: specs for name, specs in self.model.streams.items() if name != stream}
            with pytest.raises(RecipeError):
                self.config.build(attrs.evolve(self.model, streams=others))

    def test_its_count_is_known_beforehand(self) -> None:
        """The count depends only on the batch, equals the value's count, and is 0 for a batch without items."""
        loss = self.fresh()
        value, _ = self.value()
        assert value.count == loss.count(self.batch()) > 0
        assert loss.count(self.batch(empty=True)) == 0

    def test_it_is_a_finite_scalar_with_a_gradient_into_what_it_reads_alone(self) -> None:
        """The value is a sum over items, and its gradient reaches only what the loss asked for."""
        value, leaves = self.value()
        assert value.total.shape == () and bool(value.total.isfinite())
        value.total.backward()
        required = set(self.fresh().required_outputs)
        for name, leaf in leaves.items():
            reached, field = leaf.grad is not None and bool(leaf.grad.any()), name.removesuffix(".quality")
            partly = field in (
                "vision",
                "streams.segmentation.decoded",
            )  # A loss may read only a part of these.
            assert reached or partly or field not in required, f"No gradient reaches {name}."
            assert not reached or field in required, (
                f"A gradient reaches {name}, which the loss does not name in `required_outputs`."
            )

    def test_it_is_computed_in_float32_whatever_the_model_computes_in(self) -> None:
        """The same predictions in bfloat16 give the same loss up to rounding, with finite gradients."""
        value, _ = self.value()
        low, leaves = self.value(torch.bfloat16)
        assert low.total.dtype == torch.float32, f"It is a {low.total.dtype}: call .float() on what it reads."
        torch.testing.assert_close(low.total, value.total, rtol=1e-6, atol=1e-6)
        low.total.backward()
        assert all(bool(leaf.grad.isfinite().all()) for leaf in leaves.values() if leaf.grad is not None)

    def test_metrics_are_detached_scalars(self) -> None:
        """Metrics are sums over the same items, detached from the graph."""
        value, _ = self.value()
        for name, metric in value.metrics.items():
            assert metric.shape == () and not metric.requires_grad, name

    def test_it_leaves_its_inputs_alone(self) -> None:
        """A loss never modifies its inputs."""
        made, leaves = self.output()
        before = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        batch = self.batch()
        torch.manual_seed(0)
        self.fresh()(made, batch)
        assert all(torch.equal(leaf, before[name]) for name, leaf in leaves.items())
        held, untouched = tensors_of(batch), tensors_of(self.batch())
        changed = [
            name for name, value in held.items() if not value.allclose(untouched[name], 0, 0, equal_nan=True)
        ]
        assert not changed, f"It changed {', '.join(changed)} of the batch."

    def test_better_predictions_lose_less(self) -> None:
        """A small step against the gradient lowers the loss."""
        value, leaves = self.value()
        value.total.backward()
        with torch.no_grad():
            for leaf in leaves.values():
                if leaf.grad is not None:
                    leaf -= 1e-2 * leaf.grad
        torch.manual_seed(0)
        assert self.fresh()(output_of(leaves), self.batch()).total.item() < value.total.item()
