"""Conformance tests of a vision encoder."""

from typing import ClassVar

import torch
from torch import Tensor

from perceptio.interfaces import Kind, VisionEncoder, VisionEncoderConfig
from perceptio.testing.component import ComponentConformance, assert_near, seeded


class VisionEncoderConformance(ComponentConformance):
    """Set `config`, at a small size."""

    config: ClassVar[VisionEncoderConfig]
    kind = Kind.VISION

    def built(self) -> VisionEncoder:
        """Return the encoder with random weights, in eval mode."""
        torch.manual_seed(0)
        return self.config.build().eval()

    def images(self) -> list[Tensor]:
        """Return images of several sizes, dark and bright."""
        height, width = self.config.spec.image_size
        sizes = [(height, width), (height * 2, width), (height + 3, width * 3)]
        scales = (1.0, 0.1, 0.5)
        return [
            torch.rand(3, *size, generator=seeded()) * scale
            for size, scale in zip(sizes, scales, strict=True)
        ]

    def test_features_are_counted_and_placed_as_announced(self) -> None:
        """The config's `centers` and `num_features` predict the output of `forward`."""
        encoder, images = self.built(), self.images()
        assert encoder.spec == self.config.spec
        out = encoder(images)
        announced = [self.config.centers(*image.shape[-2:]) for image in images]
        assert out.counts == tuple(len(centers_M2) for centers_M2 in announced)
        assert out.counts == tuple(self.config.num_features(*image.shape[-2:]) for image in images)
        assert out.features_MD.shape == (sum(out.counts), self.config.spec.feature_dim)
        assert_near(out.centers_M2, torch.cat(announced), "centers differ from those announced")

    def test_centers_are_said_the_same_at_every_call(self) -> None:
        """They are on the CPU, as (row, column) within [0, 1], independent of earlier calls."""
        height, width = self.config.spec.image_size
        first, _, again = (self.config.centers(*size) for size in ((height, width), (9, 5), (height, width)))
        assert first.device.type == "cpu" and first.is_floating_point() and first.shape[1:] == (2,)
        assert float(first.min()) >= 0.0 and float(first.max()) <= 1.0
        assert torch.equal(first, again), "centers of images of one size differ between calls"

    def test_every_image_is_its_own(self) -> None:
        """Features do not depend on the rest of the batch."""
        encoder, images = self.built(), self.images()
        out = encoder(images)
        for image, features in zip(images, out.features_MD.split(list(out.counts)), strict=True):
            assert_near(encoder([image]).features_MD, features, "features depend on the batch")

    def test_features_follow_the_image(self) -> None:
        """Another image gives other features, and gradients reach the image."""
        encoder, images = self.built(), self.images()
        assert not torch.allclose(encoder(images[:1]).features_MD, encoder([1 - images[0]]).features_MD)
        encoder(images[:1]).features_MD.square().sum().backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())

    def test_weights_of_half_precision_see_the_same(self) -> None:
        """Images stay float32 when a model is converted to bfloat16; features are then equal within its precision."""
        encoder, images = self.built(), self.images()
        with torch.no_grad():
            expected, found = encoder(images).features_MD, encoder.to(torch.bfloat16)(images).features_MD
        error = float((found.float() - expected).norm() / expected.norm())
        assert error < 0.05, f"In bfloat16 features differ by {error:.1%}."
