"""Depth Anything V2 (arXiv 2406.09414) as a frozen depth teacher, through transformers.

Its depth is relative: inverse depth with unknown scale and shift, where near is large. Its metric checkpoints predict
metres.

Shapes: B images, H W pixels of an image, h w pixels of the teacher's input.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import CheckpointError, InputError, near_miss, quoted
from perceptio.interfaces import Kind, Teacher, TeacherConfig, TeacherSpec
from perceptio.ops.configuration import Configuration
from perceptio.ops.foreign import parsing
from perceptio.ops.hub import resolve
from perceptio.ops.identity import hash_of_files
from perceptio.ops.precision import computes_bfloat16
from perceptio.ops.weights import read_headers

PUBLISHED = {
    f"depth-anything-v2-{size.lower()}": f"depth-anything/Depth-Anything-V2-{size}-hf"
    for size in ("Small", "Base", "Large")
}
"""Short names of the published checkpoints, and their ids on the hub."""
IMAGE_SIZE = 518
PATCH = 14
SHOWN = 20
"""Number of tensors that do not fit which are named before the rest is counted."""
MAX_PATCHES = 2**14
"""Maximum number of patches of one image (ours), because attention time grows with its square: at 518 pixels, an
image may be twelve times as long as it is wide."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's statistics, as in the teacher's training."""


class DepthAnything(Teacher):
    """Depth Anything with its preprocessing.

    An image is resized so that its shorter side is `image_size` and both sides are multiples of the patch size, as
    in the authors' own preprocessing. The interpolation is torch's (bicubic, antialiased, clipped to [0, 1]) instead
    of theirs, so depth differs in the last digits.

    Args:
        model: A `DepthAnythingForDepthEstimation` in eval mode.
        name: The name under which it was requested.
        weights_hash: sha256 of its weights' files.
        spec: Whether it predicts disparity or metres.
        image_size: Shorter side of the teacher's input, in pixels.
        precision: Its precision: fp32, or autocast to bf16 or fp16.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        name: str,
        weights_hash: str,
        spec: TeacherSpec | None = None,
        image_size: int = IMAGE_SIZE,
        precision: str = "fp32",
    ) -> None:
        self.model, self.name, self.weights_hash = model, name, weights_hash
        self.spec = spec or TeacherSpec(unit="disparity")
        self.image_size, self.precision = image_size, precision

    @property
    def preprocessing(self) -> dict[str, Any]:
        """See `Teacher.preprocessing`."""
        return {
            "shorter_side": self.image_size,
            "multiple_of": PATCH,
            "resize": "torch bicubic, antialiased, clipped to [0, 1]",
            "mean": list(MEAN),
            "std": list(STD),
            "precision": self.precision,
        }

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width [h, w] of the teacher's input for an image of a given height and width.

        Raises:
            InputError: It would have more than `MAX_PATCHES` patches.
        """
        scale = self.image_size / min(height, width)
        rows, columns = (max(1, round(side * scale / PATCH)) for side in (height, width))
        if rows * columns > MAX_PATCHES:
            raise InputError(
                f"the teacher would see {width}x{height} pixels, its shorter side brought to {self.image_size}, as "
                f"{rows * columns:,} patches, more than {MAX_PATCHES:,}: crop the picture, or lower the image size "
                "(--image-size)."
            )
        return rows * PATCH, columns * PATCH

    def prepare(self, image_3HW: Tensor) -> Tensor:
        """See `Teacher.prepare`: resized to `seen_size` and normalized."""
        size = self.seen_size(*image_3HW.shape[-2:])
        seen_13hw = F.interpolate(image_3HW[None], size, mode="bicubic", antialias=True).clamp(0, 1)
        mean_311, std_311 = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (seen_13hw[0] - mean_311) / std_311

    @torch.inference_mode()
    def depth(self, seen_BChw: Tensor) -> Tensor:
        """See `Teacher.depth`."""
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, PRECISIONS[self.precision], enabled=self.precision != "fp32"):
            depth_Bhw: Tensor = self.model(pixel_values=seen_BChw.to(device)).predicted_depth
        return depth_Bhw


@attrs.frozen(kw_only=True)
class DepthAnythingConfig(TeacherConfig):
    """Depth Anything V2 through transformers: relative depth, or metres with its metric checkpoints.

    Attributes:
        weights: One of `PUBLISHED`, a folder with the files of such a checkpoint, or a hub id.
        image_size: Shorter side of the teacher's input in pixels, a multiple of 14.
        precision: Precision of the computation; `"auto"` is bf16 if the device computes in it, otherwise fp32.
    """

    name: ClassVar[str] = "depth-anything-v2"
    kind: ClassVar[Kind] = Kind.TEACHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    weights: str = "depth-anything-v2-small"
    image_size: int = IMAGE_SIZE
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"

    def __attrs_post_init__(self) -> None:
        """Reject sizes and precisions that the teacher does not support."""
        if self.precision != "auto" and self.precision not in PRECISIONS:
            raise InputError(
                f"The teacher computes in {', '.join(PRECISIONS)}, and precision is {self.precision!r}."
            )
        if self.image_size < PATCH or self.image_size % PATCH:
            near = max(1, round(self.image_size / PATCH)) * PATCH
            raise InputError(
                f"The teacher sees pictures in patches of {PATCH} pixels, and {self.image_size} is no multiple of "
                f"that: choose an image size such as {near}."
            )

    def load(self, device: torch.device) -> DepthAnything:
        """See `TeacherConfig.load`.

        Raises:
            CheckpointError: There is no such checkpoint, it is not Depth Anything, or tensors are missing,
                unexpected or misshapen; the message names them all.
        """
        name = self.weights
        if name not in PUBLISHED and "/" not in name and not Path(name).exists():
            raise CheckpointError(
                f"There is no teacher {name!r}{near_miss(name, PUBLISHED)} Or name a folder, or a hub id, owner/name."
            )
        folder = resolve(PUBLISHED.get(name, name), ("config.json", "*.safetensors"))
        _check_config(folder)
        model = _read_model(folder).eval().requires_grad_(False).to(device)
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if computes_bfloat16(device) else "fp32"
        return DepthAnything(
            model=model,
            name=name,
            weights_hash=hash_of_files(str(folder)),
            spec=_spec_of(model.config),
            image_size=self.image_size,
            precision=precision,
        )


def _check_config(folder: Path) -> None:
    remedy = "name the folder of a teacher, as transformers saves it"
    config = Configuration.read(folder / "config.json", CheckpointError, remedy)
    config.check_depth()
    kind = config.text("model_type")
    if kind != "depth_anything":
        raise CheckpointError(
            f"{folder} holds a model of the type {kind!r}; a teacher is a 'depth_anything' model, as transformers "
            "saves DepthAnythingForDepthEstimation."
        )
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has a config.json and no weights: copy its *.safetensors there, too."
        )
    estimates = config.text("depth_estimation_type", "relative")
    if estimates not in ("relative", "metric"):
        raise CheckpointError(
            f"{folder} is a Depth Anything of {quoted(estimates)} depth; a teacher gives relative or metric depth."
        )


def _spec_of(config: Any) -> TeacherSpec:
    """Return the meaning of the values predicted by a checkpoint with this configuration."""
    if config.depth_estimation_type == "relative":
        return TeacherSpec(unit="disparity")
    return TeacherSpec(unit="metres", farthest_m=float(config.max_depth))


def _read_model(folder: Path) -> nn.Module:
    try:
        from transformers import DepthAnythingForDepthEstimation
    except ImportError as error:
        raise CheckpointError(
            "Depth Anything needs transformers, which is not installed: pip install 'perceptio[hf]'."
        ) from error
    with parsing(CheckpointError, f"{folder} cannot be read as a Depth Anything model ({{reason}})."):
        _check_extent(folder, DepthAnythingForDepthEstimation)
        # Their own loader handles the tensor names of older versions.
        read: Any = DepthAnythingForDepthEstimation.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    model, report = read
    problems = [f"{key} is missing" for key in sorted(report["missing_keys"])]
    problems += [f"{key} is not a part of this model" for key in sorted(report["unexpected_keys"])]
    problems += [
        f"{key} has shape {tuple(found)} instead of {tuple(wanted)}"
        for key, found, wanted in sorted(report["mismatched_keys"])
    ]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CheckpointError(
            f"{folder} does not fit its own config.json: {'; '.join(problems[:SHOWN])}{more}."
        )
    return model


def _check_extent(folder: Path, kind: Any) -> None:
    """Refuse a configuration of far more values than the files hold, before memory is allocated for them."""
    with torch.device("meta"):
        described = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    wanted = sum(value.numel() for value in described.state_dict().values())
    held = sum(value.numel() for value in read_headers(sorted(folder.glob("*.safetensors"))).values())
    if wanted > 2 * held:
        raise CheckpointError(
            f"{folder} does not fit its own config.json, which describes a model of {wanted:,} values: its files "
            f"hold {held:,}."
        )
