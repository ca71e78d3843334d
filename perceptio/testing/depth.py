"""Conformance tests of a depth tokenizer.

Shapes: B maps, L codes, K codebook size, H W pixels.
"""

from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import DataError
from perceptio.interfaces import (
    CodebookDepthTokenizer,
    DepthTokenizer,
    DepthTokenizerConfig,
    Kind,
    TrainableTokenizer,
)
from perceptio.testing.component import (
    ComponentConformance,
    assert_near,
    assert_unchanged,
    frozen_copy,
    seeded,
)
from perceptio.testing.point_values import check_values_at


class DepthTokenizerConformance(ComponentConformance):
    """Set `config`, at a small size.

    Attributes:
        fidelity: The largest allowed mean absolute error of a reconstructed smooth map, in the convention's [0, 1].
            None for a tokenizer that must be trained first: its error is not tested.
    """

    config: ClassVar[DepthTokenizerConfig]
    kind = Kind.DEPTH
    fidelity: ClassVar[float | None] = None

    def built(self) -> DepthTokenizer:
        """Return the tokenizer with random weights, in eval mode."""
        torch.manual_seed(0)
        return self.config.build().eval()

    def maps(self) -> Tensor:
        """Return four maps of very different scale, which reveal dependence between rows."""
        shape = (4, 1, *self.config.spec.image_size)
        scales_B111 = torch.tensor([1.0, 0.01, 0.5, 0.2]).view(-1, 1, 1, 1)
        return torch.rand(shape, generator=seeded()) * scales_B111

    def random_codes(self) -> Tensor:
        """Return random codes of four maps."""
        spec = self.config.spec
        return torch.randint(spec.codebook_size, (4, spec.num_codes), generator=seeded())

    def test_codes_and_maps_are_as_the_spec_says(self) -> None:
        """Types, shapes and ranges match the spec."""
        tokenizer, spec = self.built(), self.config.spec
        assert tokenizer.spec == spec
        codes_BL = tokenizer.encode(self.maps())
        assert codes_BL.dtype == torch.int64
        assert codes_BL.shape == (4, spec.num_codes)
        assert int(codes_BL.min()) >= 0 and int(codes_BL.max()) < spec.codebook_size
        depth_B1HW = tokenizer.decode(self.random_codes())
        assert depth_B1HW.shape == (4, 1, *spec.image_size)
        assert bool(((depth_B1HW >= 0) & (depth_B1HW <= 1)).all())

    def test_every_map_is_its_own(self) -> None:
        """Neither encoding nor decoding depends on the rest of the batch."""
        tokenizer, maps, codes = self.built(), self.maps(), self.random_codes()
        together_codes, together_maps = tokenizer.encode(maps), tokenizer.decode(codes)
        for row in range(len(maps)):
            assert torch.equal(tokenizer.encode(maps[row : row + 1])[0], together_codes[row])
            assert_near(
                tokenizer.decode(codes[row : row + 1])[0], together_maps[row], "decode depends on the batch"
            )

    def test_a_sure_distribution_decodes_like_its_codes(self) -> None:
        """One-hot probabilities decode to the same map as `decode`, for every code."""
        tokenizer, spec = self.built(), self.config.spec
        codes_KL = torch.arange(spec.codebook_size)[:, None].expand(-1, spec.num_codes)
        one_hot_KLK = F.one_hot(codes_KL, spec.codebook_size).float()
        assert_near(
            tokenizer.soft_decode(one_hot_KLK), tokenizer.decode(codes_KL), "soft and hard decoding differ"
        )

    def test_codes_mean_different_depths(self) -> None:
        """Codes must carry information: they do not all decode to the same map."""
        tokenizer, spec = self.built(), self.config.spec
        codes_KL = torch.arange(spec.codebook_size)[:, None].expand(-1, spec.num_codes)
        decoded_KX = tokenizer.decode(codes_KL).detach().flatten(1)
        assert float(decoded_KX.std(0).max()) > 1e-6

    def test_gradients_reach_probabilities_and_nothing_else(self) -> None:
        """Soft merging trains the language model, never the codebook."""
        tokenizer, spec = self.built(), self.config.spec
        logits_BLK = torch.randn(2, spec.num_codes, spec.codebook_size, generator=seeded()).requires_grad_()
        tokenizer.soft_decode(logits_BLK.softmax(-1)).square().sum().backward()
        assert logits_BLK.grad is not None and float(logits_BLK.grad.abs().max()) > 0
        assert not self.random_codes().requires_grad and not tokenizer.encode(self.maps()).requires_grad
        if isinstance(tokenizer, CodebookDepthTokenizer):
            codebook = tokenizer.codebook_KC
            owner = [p for p in tokenizer.parameters() if p is codebook]
            assert all(p.grad is None or not p.grad.any() for p in owner), "The codebook received a gradient."

    def test_unknown_pixels_are_filled_and_a_map_of_none_is_refused(self) -> None:
        """NaN in the input never becomes NaN in the output."""
        tokenizer, maps = self.built(), self.maps()
        maps[:, :, ::2, 1::3] = float("nan")
        assert bool(tokenizer.decode(tokenizer.encode(maps)).isfinite().all())
        maps[1] = float("nan")
        with pytest.raises(DataError):
            tokenizer.encode(maps)

    def test_depth_out_of_contract_is_refused(self) -> None:
        """Metres, infinity, another size or type: nothing is clipped, cast or resized silently."""
        tokenizer, maps = self.built(), self.maps()
        holed = maps.clone()
        holed[0, 0, 0, 0] = float("inf")
        for wrong in (maps * 10, maps - 0.5, holed, maps[..., 1:], maps[:, 0], (maps * 255).to(torch.uint8)):
            with pytest.raises(DataError):
                tokenizer.encode(wrong)

    def test_codes_out_of_contract_are_refused(self) -> None:
        """-1 means "no code"; it does not index the last one."""
        tokenizer, codes = self.built(), self.random_codes()
        for wrong in (
            codes - codes.min() - 1,
            codes + self.config.spec.codebook_size,
            codes[:, 1:],
            codes.float(),
        ):
            with pytest.raises(DataError):
                tokenizer.decode(wrong)

    def test_values_at_points_are_those_of_the_map(self) -> None:
        """The nearness of each point, in [0, 1], comes from the right map and the right place on it."""
        tokenizer = self.built()
        check_values_at(tokenizer, tokenizer.decode(self.random_codes()), 4)

    def test_smooth_maps_come_back(self) -> None:
        """If the author states a fidelity, slopes of any height are reconstructed within it."""
        if self.fidelity is None:
            pytest.skip("No fidelity is stated.")
        tokenizer, (height, width) = self.built(), self.config.spec.image_size
        slope_HW = torch.linspace(0, 0.5, height)[:, None] + torch.linspace(0, 0.5, width)
        maps_B1HW = torch.stack([slope_HW, 1 - slope_HW, 0.3 * slope_HW])[:, None]
        returned_B1HW = tokenizer.decode(tokenizer.encode(maps_B1HW)).detach()
        error = float((returned_B1HW - maps_B1HW).abs().mean())
        assert error <= self.fidelity, (
            f"The mean absolute error is {error:.3f}, and {self.fidelity} was promised."
        )

    def test_using_it_changes_nothing(self) -> None:
        """Encoding and decoding change no parameter or buffer."""
        tokenizer = self.built()
        before = frozen_copy(tokenizer)
        tokenizer.decode(tokenizer.encode(self.maps()))
        assert_unchanged(tokenizer, before, "Using the tokenizer in eval mode")

    def test_frozen_stays_frozen(self) -> None:
        """After `freeze`, neither `train()` nor training steps change anything."""
        tokenizer = self.built()
        if not isinstance(tokenizer, TrainableTokenizer):
            pytest.skip("This tokenizer is not trained by this library.")
        tokenizer.train()
        tokenizer.reconstruct(self.maps())
        tokenizer.freeze()
        before = frozen_copy(tokenizer)
        tokenizer.train()
        tokenizer.reconstruct(self.maps())
        assert_unchanged(tokenizer, before, "A frozen tokenizer's training step")
        assert not any(parameter.requires_grad for parameter in tokenizer.parameters())
