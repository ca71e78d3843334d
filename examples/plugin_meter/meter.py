"""METER as a depth teacher: small enough for a CPU, published with weights for NYUv2's rooms.

Shapes: B pictures, H W pixels of a picture, h w pixels that the teacher sees.
"""

from pathlib import Path
from typing import ClassVar, Literal

import attrs
import torch
from meter_network import METER, MULTIPLE, SIZES
from torch.nn import functional as F

from perceptio.errors import CheckpointError, InputError
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind, Teacher, TeacherConfig, TeacherSpec
from perceptio.ops.identity import hash_of_files

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NEAREST_CM = 10.0
LONGEST = 8
"""A picture may be so many times as long as it is wide."""


class MeterTeacher(Teacher):
    """Disparity: METER's centimetres do not hold for another camera than NYUv2's, but what is nearer does.

    A picture is seen with its shorter side at 192 pixels, as METER was trained on NYUv2, and both sides at multiples
    of 64.
    """

    def __init__(self, network, config, weights_hash):
        self.network, self.config, self.weights_hash = network, config, weights_hash
        self.name, self.spec = f"METER-{config.size.upper()}", TeacherSpec(unit="disparity")

    @property
    def preprocessing(self):
        """See `Teacher`."""
        return {
            "shorter_side": self.config.image_size,
            "multiple_of": MULTIPLE,
            "resize": "torch bilinear, antialiased",
            "mean": list(MEAN),
            "std": list(STD),
            "disparity": f"1 / centimetres, from {NEAREST_CM:g} cm on",
        }

    def prepare(self, image_3HW):
        """See `Teacher`."""
        height, width = image_3HW.shape[-2:]
        if max(height, width) > LONGEST * min(height, width):
            raise InputError(
                f"{width}x{height} pixels are more than {LONGEST} times as long as wide: crop it."
            )
        scale = self.config.image_size / min(height, width)
        size = [max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in (height, width)]
        seen_13hw = F.interpolate(image_3HW[None], size, mode="bilinear", antialias=True)
        mean_311, std_311 = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (seen_13hw[0] - mean_311) / std_311

    @torch.inference_mode()
    def depth(self, seen_BChw):
        """See `Teacher`."""
        device = next(self.network.parameters()).device
        cm_B1hw = self.network(seen_BChw.to(device))
        disparity_B1hw = 1 / cm_B1hw.clamp(min=NEAREST_CM)
        return F.interpolate(disparity_B1hw, seen_BChw.shape[-2:], mode="bilinear")[:, 0]


@attrs.frozen(kw_only=True)
class MeterConfig(TeacherConfig):
    """METER (arXiv 2403.08368), a depth teacher of 0.7 to 3.3 million parameters, for rooms.

    Attributes:
        weights: The file with its weights, as the authors publish it: `build_model_best_nyu_xxs`.
        size: `"xxs"`, `"xs"` or `"s"`; it must be that of the weights.
        image_size: Shorter side that it sees in pixels, a multiple of 64.
    """

    name: ClassVar[str] = "meter"
    kind: ClassVar[Kind] = Kind.TEACHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    weights: str = "build_model_best_nyu_xxs"
    size: Literal["xxs", "xs", "s"] = "xxs"
    image_size: int = 192

    def __attrs_post_init__(self):
        if self.image_size < MULTIPLE or self.image_size % MULTIPLE:
            raise InputError(f"image_size is {self.image_size}; METER sees multiples of {MULTIPLE} pixels.")

    def load(self, device):
        """See `TeacherConfig`."""
        network = METER(SIZES[self.size])
        remedy = (
            "name the file that the authors publish with --set weights=FILE, and its size with --set size=xs"
        )
        if not Path(self.weights).is_file():
            raise CheckpointError(f"There is no file {self.weights} with METER's weights: {remedy}.")
        try:
            network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        except Exception as error:
            raise CheckpointError(
                f"{self.weights} does not hold the weights of METER-{self.size.upper()}: {remedy}."
            ) from error
        network.eval().requires_grad_(False).to(device)
        return MeterTeacher(network, self, hash_of_files(self.weights))


@hookimpl
def register_teachers():
    """See `perceptio.hookspecs`."""
    return [MeterConfig]
