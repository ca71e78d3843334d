"""Conformance tests of a segmentation tokenizer.

Shapes: B images, N objects, S special tokens per object, P prompt width, M mask codes, H W pixels, h w mask cells.
"""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from perceptio.errors import DataError
from perceptio.interfaces import (
    Kind,
    MaskPrediction,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
)
from perceptio.testing.component import (
    ComponentConformance,
    assert_near,
    assert_unchanged,
    frozen_copy,
    seeded,
)


class SegmentationTokenizerConformance(ComponentConformance):
    """Set `config`, at a small size. Its spec tells whether it reads hidden states or codes."""

    config: ClassVar[SegmentationTokenizerConfig]
    kind = Kind.SEGMENTATION

    def built(self) -> SegmentationTokenizer:
        """Return the tokenizer with random weights, in eval mode."""
        torch.manual_seed(0)
        return self.config.build().eval()

    def pixels(self) -> Tensor:
        """Return three random images."""
        return torch.rand(3, 3, *self.config.spec.image_size, generator=seeded())

    def asked(self, count: int) -> Tensor:
        """Return prompts [N, S, P] of very different scale, or codes [N, M]."""
        spec = self.config.spec
        if spec.codes is not None:
            return torch.randint(spec.codes.codebook_size, (count, spec.codes.length), generator=seeded())
        prompts = torch.randn(count, len(spec.special_tokens), spec.prompt_dim, generator=seeded())
        return prompts * torch.logspace(-1, 1, max(count, 1))[:count, None, None]

    def decoded(
        self, tokenizer: SegmentationTokenizer, features: Any, asked: Tensor, image_index: list[int]
    ) -> MaskPrediction:
        """Return masks, decoded with the readout of the spec."""
        index_N = torch.tensor(image_index, dtype=torch.long)
        if self.config.spec.codes is not None:
            return tokenizer.decode_codes(features, asked, index_N)
        return tokenizer.decode(features, asked, index_N)

    def test_masks_are_as_the_spec_says(self) -> None:
        """Several objects, unevenly spread over images, have logits, and quality in [0, 1] if there is one."""
        tokenizer = self.built()
        assert tokenizer.spec == self.config.spec
        prediction = self.decoded(
            tokenizer, tokenizer.encode_image(self.pixels()), self.asked(4), [2, 0, 0, 2]
        )
        assert prediction.logits_Nhw.shape == (4, *self.config.spec.mask_size)
        assert bool(prediction.logits_Nhw.isfinite().all())
        if prediction.quality_N is not None:
            assert prediction.quality_N.shape == (4,)
            assert bool(((prediction.quality_N >= 0) & (prediction.quality_N <= 1)).all())

    def test_no_object_at_all_is_legal(self) -> None:
        """An answer without objects needs no placeholder."""
        tokenizer = self.built()
        prediction = self.decoded(tokenizer, tokenizer.encode_image(self.pixels()), self.asked(0), [])
        assert prediction.logits_Nhw.shape == (0, *self.config.spec.mask_size)

    def test_every_object_is_its_own_and_of_its_image(self) -> None:
        """A mask depends only on its own prompt and its own image, not on others decoded with it."""
        tokenizer, pixels, asked = self.built(), self.pixels(), self.asked(4)
        owners = [2, 0, 1, 2]
        together = self.decoded(tokenizer, tokenizer.encode_image(pixels), asked, owners).logits_Nhw
        for n, owner in enumerate(owners):
            features = tokenizer.encode_image(pixels[owner : owner + 1])
            alone = self.decoded(tokenizer, features, asked[n : n + 1], [0]).logits_Nhw
            assert_near(alone[0], together[n], f"object {n} depends on its company")

    def test_a_mask_follows_image_and_prompt(self) -> None:
        """Another image, or another prompt, gives another mask."""
        if self.config.spec.codes is not None:
            pytest.skip("Codes may say everything, whatever the image.")
        tokenizer, asked = self.built(), self.asked(2)
        features = tokenizer.encode_image(self.pixels())
        base = self.decoded(tokenizer, features, asked[1:], [0]).logits_Nhw
        other_image = self.decoded(tokenizer, features, asked[1:], [1]).logits_Nhw
        other_prompt = self.decoded(tokenizer, features, -asked[1:], [0]).logits_Nhw
        assert not torch.allclose(base, other_image), "The image index is not looked at."
        assert not torch.allclose(base, other_prompt), "The prompt is not looked at."

    def test_gradients_reach_prompts(self) -> None:
        """The language model learns from masks through its prompts."""
        if self.config.spec.codes is not None:
            pytest.skip("Codes have no gradient.")
        tokenizer, prompts = self.built(), self.asked(2).requires_grad_()
        features = tokenizer.encode_image(self.pixels())
        self.decoded(tokenizer, features, prompts, [0, 1]).logits_Nhw.square().sum().backward()
        assert prompts.grad is not None and bool((prompts.grad.flatten(1).abs().amax(1) > 0).all())

    def test_mask_codes_go_both_ways(self) -> None:
        """If masks are codes, encoding gives codes of the spec."""
        codes = self.config.spec.codes
        if codes is None:
            pytest.skip("This tokenizer reads hidden states.")
        masks_NHW = torch.rand(3, *self.config.spec.image_size, generator=seeded()) > 0.5
        codes_NM = self.built().encode_masks(masks_NHW)
        assert codes_NM.dtype == torch.int64 and codes_NM.shape == (3, codes.length)
        assert int(codes_NM.min()) >= 0 and int(codes_NM.max()) < codes.codebook_size

    def test_masks_of_another_size_or_type_are_refused(self) -> None:
        """Masks must have the spec's image size: at an image's own size they would give other codes."""
        if self.config.spec.codes is None:
            pytest.skip("This tokenizer reads hidden states.")
        tokenizer, (height, width) = self.built(), self.config.spec.image_size
        for size in ((2 * height, 2 * width), (height + 1, width), self.config.spec.mask_size):
            if size != (height, width):
                with pytest.raises(DataError):
                    tokenizer.encode_masks(torch.ones(2, *size, dtype=torch.bool))
        with pytest.raises(DataError):
            tokenizer.encode_masks(torch.ones(2, height, width))

    def test_using_it_changes_nothing(self) -> None:
        """Using it in eval mode changes no parameter or buffer."""
        tokenizer = self.built()
        before = frozen_copy(tokenizer)
        self.decoded(tokenizer, tokenizer.encode_image(self.pixels()), self.asked(1), [0])
        assert_unchanged(tokenizer, before, "Using the tokenizer in eval mode")
