"""What a loss is held to.

Shapes: B images, S depth blocks, L depth codes, K codebook size, V vocabulary, N objects, R text targets, M vision
features, C candidate masks, H W pixels, h w mask cells.
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
    VisionFeatures,
)
from perceptio.testing.component import BLOCK, MODEL, PIXELS, ComponentConformance, seeded

VOCABULARY = MODEL.vocab_size
OBJECTS, BLOCKS, TEXTS, IMAGES, CANDIDATES = 3, 2, 5, 2, 3


def masks_of(leaves: Mapping[str, Tensor]) -> MaskPrediction:
    """The best of several candidates; the leaf `masks` holds their logits, `masks.quality` those of their quality."""
    candidates_NChw, quality_NC = leaves["masks"], leaves["masks.quality"].float().sigmoid()
    return MaskPrediction(
        logits_Nhw=candidates_NChw[:, 0],
        quality_N=quality_NC[:, 0],
        candidates_NMhw=candidates_NChw,
        candidate_quality_NM=quality_NC,
    )


class LossConformance(ComponentConformance):
    """Set `config`. Its loss is given a made-up batch with text, two depth blocks and three objects.

    Attributes:
        model: What the loss is told of the model; by default it has text, depth and masks.
    """

    config: ClassVar[LossConfig]
    kind = Kind.LOSS
    model: ClassVar[ModelSpecs] = MODEL

    def fresh(self) -> Loss:
        """The loss for a block of four codes out of eight."""
        return self.config.build(self.model)

    def batch(self, *, empty: bool = False) -> Batch:
        """Targets; `empty` has no item of any kind."""
        texts, blocks, images, objects = (0, 0, 0, 0) if empty else (TEXTS, BLOCKS, IMAGES, OBJECTS)
        random, slots = seeded(), 40

        def integers(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=random)

        return Batch(
            images=tuple(torch.rand(3, PIXELS, PIXELS, generator=random) for _ in range(images)),
            ids_T=integers(VOCABULARY, slots),
            positions_AT=torch.arange(slots).float()[None],
            query_positions_AT=torch.arange(slots).float()[None],
            lengths=(slots,),
            vision_rows_M=torch.arange(images * BLOCK.length),
            text_rows_R=integers(slots, texts),
            text_targets_R=integers(20, texts),
            block_rows_SN=integers(slots, blocks, BLOCK.length + 2),
            block_codes_SL=integers(BLOCK.codes.size, blocks, BLOCK.length),
            block_image_S=torch.arange(blocks) % max(images, 1),
            depth_B1HW=torch.rand(images, 1, PIXELS, PIXELS, generator=random),
            image_codes_BL=integers(BLOCK.codes.size, images, BLOCK.length),
            prompt_rows_Ns=integers(slots, objects, 1),
            mask_image_N=torch.arange(objects) % max(images, 1),
            masks_NHW=(torch.rand(objects, PIXELS, PIXELS, generator=random) > 0.5).float(),
        )

    def output(self, dtype: torch.dtype = torch.float32) -> tuple[PerceptionOutput, dict[str, Tensor]]:
        """What a model might have computed, and the tensors in it that a loss may read, by name.

        The values are the same in every `dtype`: those that bfloat16 holds.
        """
        random = seeded(1)

        def tensor(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random).bfloat16().to(dtype).requires_grad_()

        leaves = {
            "text_logits_RV": tensor(TEXTS, VOCABULARY),
            "depth_logits_SNV": tensor(BLOCKS, BLOCK.length + 2, VOCABULARY),
            "soft_depth_S1HW": tensor(BLOCKS, 1, PIXELS, PIXELS),
            "masks": tensor(OBJECTS, CANDIDATES, PIXELS // 2, PIXELS // 2),
            "vision": tensor(IMAGES * BLOCK.length, 6),
            "masks.quality": tensor(OBJECTS, CANDIDATES),
        }
        heads = {
            name.removeprefix("heads."): tensor(IMAGES * BLOCK.length, BLOCK.codes.size)
            for name in self.fresh().required_outputs
            if name.startswith("heads.")
        }
        assert self.model.depth is not None
        h, w = self.model.depth.grid
        centers_M2 = torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).repeat(
            IMAGES, 1
        )
        vision = VisionFeatures(
            features_MD=leaves["vision"], centers_M2=centers_M2, counts=(BLOCK.length,) * IMAGES
        )
        made = PerceptionOutput(
            text_logits_RV=leaves["text_logits_RV"],
            depth_logits_SNV=leaves["depth_logits_SNV"],
            soft_depth_S1HW=leaves["soft_depth_S1HW"],
            masks=masks_of(leaves),
            vision=vision,
            heads=heads,
        )
        return made, leaves | {f"heads.{name}": value for name, value in heads.items()}

    def value(self, dtype: torch.dtype = torch.float32) -> tuple[LossValue, dict[str, Tensor]]:
        """The loss of the made-up batch, and the leaves it was computed from."""
        torch.manual_seed(0)
        made, leaves = self.output(dtype)
        return self.fresh()(made, self.batch()), leaves

    def test_it_reads_fields_that_there_are(self) -> None:
        """`required_outputs` names fields of `PerceptionOutput`, or named heads; `needs` names parts."""
        fields = {field.name for field in attrs.fields(PerceptionOutput)} - {"heads"}
        loss = self.fresh()
        assert loss.required_outputs and all(
            name in fields or name.startswith("heads.") for name in loss.required_outputs
        )
        assert set(self.config.needs) <= {"depth", "segmentation"}

    def test_it_refuses_a_model_without_what_it_needs(self) -> None:
        """A recipe is checked by building its losses; what a loss cannot do without, it says there."""
        for need in self.config.needs:
            gone: dict[str, Any] = {need: None} | ({"depth_block": None} if need == "depth" else {})
            with pytest.raises(RecipeError):
                self.config.build(attrs.evolve(self.model, **gone))

    def test_its_count_is_known_beforehand(self) -> None:
        """The count follows from the batch alone, agrees with the value's, and is 0 where there is nothing."""
        loss = self.fresh()
        value, _ = self.value()
        assert value.count == loss.count(self.batch()) > 0
        assert loss.count(self.batch(empty=True)) == 0

    def test_it_is_a_finite_scalar_with_a_gradient_into_what_it_reads_alone(self) -> None:
        """A sum over items; it must not reach what it did not ask for."""
        value, leaves = self.value()
        assert value.total.shape == () and bool(value.total.isfinite())
        value.total.backward()
        required = set(self.fresh().required_outputs)
        for name, leaf in leaves.items():
            reached, field = leaf.grad is not None and bool(leaf.grad.any()), name.removesuffix(".quality")
            assert reached or field in ("vision", "masks") or field not in required, (
                f"No gradient reaches {name}."
            )
            assert not reached or field in required, (
                f"A gradient reaches {name}, which the loss does not name in `required_outputs`."
            )

    def test_it_is_computed_in_float32_whatever_the_model_computes_in(self) -> None:
        """The same predictions in bfloat16 lose the same, to the last digits, with finite gradients."""
        value, _ = self.value()
        low, leaves = self.value(torch.bfloat16)
        assert low.total.dtype == torch.float32, f"It is a {low.total.dtype}: call .float() on what it reads."
        torch.testing.assert_close(low.total, value.total, rtol=1e-6, atol=1e-6)
        low.total.backward()
        assert all(bool(leaf.grad.isfinite().all()) for leaf in leaves.values() if leaf.grad is not None)

    def test_metrics_are_detached_scalars(self) -> None:
        """Metrics are sums over the same items, kept out of the graph."""
        value, _ = self.value()
        for name, metric in value.metrics.items():
            assert metric.shape == () and not metric.requires_grad, name

    def test_it_leaves_its_inputs_alone(self) -> None:
        """A loss reads; it never changes what it reads."""
        made, leaves = self.output()
        before = {name: leaf.detach().clone() for name, leaf in leaves.items()}
        batch = self.batch()
        torch.manual_seed(0)
        self.fresh()(made, batch)
        assert all(torch.equal(leaf, before[name]) for name, leaf in leaves.items())
        untouched = self.batch()
        for field in attrs.fields(Batch):
            held, fresh = getattr(batch, field.name), getattr(untouched, field.name)
            if isinstance(held, Tensor):
                assert torch.equal(held, fresh), field.name

    def test_better_predictions_lose_less(self) -> None:
        """Following the gradient a little way lowers the loss."""
        value, leaves = self.value()
        value.total.backward()
        with torch.no_grad():
            for leaf in leaves.values():
                if leaf.grad is not None:
                    leaf -= 1e-2 * leaf.grad
        made, _ = self.output()
        fields = {name: leaves[name] for name in ("text_logits_RV", "depth_logits_SNV", "soft_depth_S1HW")}
        assert made.vision is not None
        moved = attrs.evolve(
            made,
            **fields,
            masks=masks_of(leaves),
            vision=attrs.evolve(made.vision, features_MD=leaves["vision"]),
            heads={name: leaves[f"heads.{name}"] for name in made.heads},
        )
        torch.manual_seed(0)
        assert self.fresh()(moved, self.batch()).total.item() < value.total.item()
