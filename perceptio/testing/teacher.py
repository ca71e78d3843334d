"""Conformance tests of a depth teacher.

Shapes: B images, C channels, H W pixels of an image, h w pixels of the teacher's input.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import torch
from torch import Tensor

from perceptio.interfaces import Kind, Teacher, TeacherConfig
from perceptio.testing.component import ComponentConformance, assert_near, seeded


class TeacherConformance(ComponentConformance):
    """Set `config`, or define it as a property if the tests make its weights.

    Attributes:
        sizes: Heights and widths of the images that it is tested with.
    """

    config: ClassVar[TeacherConfig]
    kind = Kind.TEACHER
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((60, 80), (80, 60))

    def fresh(self) -> Any:
        """Return the teacher with its weights, on the CPU."""
        return self.config.load(torch.device("cpu"))

    def test_its_outline_can_be_built_on_the_meta_device(self) -> None:
        """A teacher needs its weights; what is loaded is a teacher, with the facts that a record needs."""
        teacher = self.fresh()
        assert isinstance(teacher, Teacher)
        assert isinstance(teacher.name, str) and teacher.name
        assert isinstance(teacher.weights_hash, str) and teacher.weights_hash

    def test_what_its_depth_depends_on_is_plain_json_and_the_same_every_time(self) -> None:
        """Another process must be able to match what one process has recorded."""
        first, second = self.fresh(), self.fresh()
        recorded = json.loads(json.dumps(dict(first.preprocessing), allow_nan=False))
        assert recorded == second.preprocessing == first.preprocessing
        assert first.weights_hash == second.weights_hash

    def test_pictures_of_one_size_are_seen_at_one_size_and_stay_as_they_are(self) -> None:
        """Images of one size can be batched, by several threads."""
        teacher = self.fresh()
        for size in self.sizes:
            pictures = [self._picture(size, seed) for seed in range(4)]
            before = [picture.clone() for picture in pictures]
            with ThreadPoolExecutor(2) as pool:
                seen = list(pool.map(teacher.prepare, pictures))
            assert len({one.shape for one in seen}) == 1
            assert all(one.isfinite().all() for one in seen)
            for one, picture in zip(seen, pictures, strict=True):
                assert torch.equal(one, teacher.prepare(picture)), (
                    "A picture is seen otherwise a second time."
                )
            for one, other in zip(pictures, before, strict=True):
                assert torch.equal(one, other), "prepare changed the picture that it was given."

    def test_depth_is_finite_has_no_gradient_and_does_not_depend_on_the_batch(self) -> None:
        """The depth of an image is the same alone and in a batch, up to rounding, and the same every time."""
        teacher = self.fresh()
        for size in self.sizes:
            seen_BChw = torch.stack([teacher.prepare(self._picture(size, seed)) for seed in range(3)])
            before_BChw = seen_BChw.clone()
            depth_Bhw = teacher.depth(seen_BChw)
            assert torch.equal(seen_BChw, before_BChw), "depth changed what it was given."
            assert depth_Bhw.shape == (3, *seen_BChw.shape[-2:]) and depth_Bhw.isfinite().all()
            assert not depth_Bhw.requires_grad, "depth has a gradient: compute it in torch.inference_mode()."
            if teacher.spec.unit == "metres":
                assert (depth_Bhw > 0).all(), "Metres are above 0."
            assert torch.equal(depth_Bhw, teacher.depth(seen_BChw)), "The same pictures have other depth."
            scale = depth_Bhw.abs().max()
            for number in range(3):
                alone_hw = teacher.depth(seen_BChw[number : number + 1])[0]
                assert_near(alone_hw / scale, depth_Bhw[number] / scale, "A picture alone and in a batch")
            assert (depth_Bhw[0] - depth_Bhw[1]).abs().max() > 1e-6 * scale, "Two pictures have one depth."

    def _picture(self, size: tuple[int, int], seed: int) -> Tensor:
        return torch.rand(3, *size, generator=seeded(seed))
