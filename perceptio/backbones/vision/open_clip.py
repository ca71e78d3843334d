"""The image towers of open_clip, which give the feature map of one layer.

Shapes: B images, M features of all images, D feature width, H W pixels, h w features of an image.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.backbones.vision._feature_map import FeatureMap, check_multiple
from perceptio.errors import CheckpointError, RecipeError, UnknownNameError, near_miss
from perceptio.interfaces import Kind, VisionEncoder, VisionEncoderConfig, VisionFeatures, VisionSpec
from perceptio.ops.foreign import parsing
from perceptio.ops.hub import resolve
from perceptio.ops.images import stack_resized
from perceptio.ops.pickled_weights import is_state_dict, read_pickled
from perceptio.ops.precision import Precision
from perceptio.ops.weights import Slice, load_tensors

FILES = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin")
"""The names of weight files in a folder or hub repository of open_clip, in order of preference."""

POSITIONS = "positional_embedding"
NO_TEXT = {"context_length": 1, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}
"""A minimal text tower: open_clip builds both towers, and the text tower is discarded."""


class OpenCLIP(VisionEncoder):
    """An image tower of open_clip.

    Args:
        spec: The spec.
        tower: The tower, `visual` in open_clip.
        facts: The feature map that it gives.
        layer: The layer whose features are used.
        normalization: The mean and standard deviation of each channel, and the name of the interpolation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: VisionSpec, tower: Any, facts: FeatureMap, layer: int, normalization: dict[str, Any]
    ) -> None:
        super().__init__()
        self.spec = spec
        self.tower = tower
        self.facts = facts
        self.layer = layer
        self.interpolation = normalization["interpolation"]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(normalization[name]).view(3, 1, 1), persistent=False)

    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """See `VisionEncoder.forward`; images are resized to `spec.image_size`, and features are float32."""
        pixels_B3HW = stack_resized(images, self.spec.image_size, self.interpolation)
        normal_B3HW = ((pixels_B3HW - self.mean) / self.std).to(next(self.tower.parameters()).dtype)
        features_BDhw = feature_map(self.tower, normal_B3HW, self.layer)
        centers_M2 = self.facts.centers().to(features_BDhw.device)
        return VisionFeatures(
            features_MD=features_BDhw.flatten(2).mT.flatten(0, 1).float(),
            centers_M2=centers_M2.repeat(len(images), 1),
            counts=(len(centers_M2),) * len(images),
        )


def feature_map(tower: Any, normal_B3HW: Tensor, layer: int) -> Tensor:
    """Return the features [B, D, h, w] of one layer of a tower."""
    (features_BDhw,) = tower.forward_intermediates(
        normal_B3HW, indices=[layer], stop_early=True, intermediates_only=True, output_fmt="NCHW"
    )["image_intermediates"]
    return features_BDhw


@attrs.frozen(kw_only=True)
class OpenCLIPConfig(VisionEncoderConfig):
    """An image tower of open_clip, pretrained or not, including models added with `open_clip.add_model_config`.

    Attributes:
        model: The name of the model, one of `open_clip.list_models()`.
        tag: The pretrained weights, one of `open_clip.list_pretrained_tags_by_model(model)`. The tag also selects
            their normalization and activation. They are downloaded if `weights` is None. None: no pretrained weights.
        weights: A file, folder or hub id with the weights of the tower.
        layer: The layer whose features are used: -1 is the last one, -2 the one before it, as in LLaVA.
        image_size: The height and width to which images are resized, multiples of the patch size. None: the tower's
            own size. For other sizes position embeddings are resized.
        dtype: The precision of the weights.
    """

    name: ClassVar[str] = "open_clip"
    kind: ClassVar[Kind] = Kind.VISION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    model: str = "ViT-B-16"
    tag: str | None = None
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})
    layer: int = -1
    image_size: tuple[int, int] | None = None
    dtype: Precision = "float32"

    @property
    def facts(self) -> FeatureMap:
        """The feature map that the tower gives.

        Raises:
            UnknownNameError: open_clip has no such model or tag.
            RecipeError: The tower has no such layer, gives no features per patch, or does not support this size.
        """
        return _facts(self.model, self.tag, self.layer, self.image_size)

    @property
    def spec(self) -> VisionSpec:
        """See `VisionEncoderConfig.spec`."""
        return VisionSpec(feature_dim=self.facts.feature_dim, image_size=self.facts.image_size)

    def centers(self, height: int, width: int) -> Tensor:
        """See `VisionEncoderConfig.centers`: centers of patches, row by row, for images of any size."""
        return self.facts.centers()

    def build(self) -> OpenCLIP:
        """See `VisionEncoderConfig.build`."""
        facts = self.facts
        tower = _tower(self.model, self.tag, self.image_size, getattr(torch, self.dtype))
        return OpenCLIP(self.spec, tower, facts, self.layer, _pretrained(self.model, self.tag))

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`; from a whole CLIP only the tensors of the image tower are read.

        Raises:
            CheckpointError: The weights are missing, or their tensors do not match the tower; the message lists them.
        """
        if self.weights is None and self.tag is None:
            return False
        assert isinstance(module, OpenCLIP)
        file = self._file()
        source = file if file.suffix == ".safetensors" else _state_dict(file)
        tower = module.tower
        resized = self.image_size is not None and hasattr(tower, "set_input_size")
        if resized:
            # Towers of timm resize their position embeddings themselves, after these were loaded.
            tower = _tower(self.model, self.tag, None, getattr(torch, self.dtype))
        load_tensors(tower, source, functools.partial(_place, tower))
        if resized:
            tower.set_input_size(self.image_size)
            module.tower.load_state_dict(tower.state_dict())
        return True

    def _file(self) -> Path:
        if self.weights is not None:
            path = resolve(self.weights, FILES)
            if path.is_dir():
                found = [path / name for name in FILES if (path / name).is_file()]
                if not found:
                    raise CheckpointError(
                        f"There are no weights of open_clip in {path}: none of {', '.join(FILES)} is in it."
                    )
                path = found[0]
            return path
        import open_clip

        with parsing(
            CheckpointError,
            f"The weights {self.tag} of open_clip's {self.model} could not be fetched ({{reason}}). Without a "
            "network, set weights to a file that holds them.",
        ):
            return Path(open_clip.download_pretrained(_pretrained(self.model, self.tag)))


def _pretrained(model: str, tag: str | None) -> dict[str, Any]:
    """Return open_clip's settings of pretrained weights; without a tag, OpenAI's normalization."""
    import open_clip

    plain = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    found = {} if tag is None else open_clip.get_pretrained_cfg(model, tag)
    if tag is not None and not found:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise UnknownNameError(f"open_clip has no weights {tag!r} for {model}{near_miss(tag, tags)}")
    return (
        plain | {"interpolation": "bicubic"} | {key: held for key, held in found.items() if held is not None}
    )


def _tower(model: str, tag: str | None, image_size: tuple[int, int] | None, dtype: torch.dtype) -> Any:
    """Build the image tower with random weights, at its own image size or another one."""
    import open_clip

    settings = open_clip.get_model_config(model)
    if settings is None:
        raise UnknownNameError(f"open_clip has no model {model!r}{near_miss(model, open_clip.list_models())}")
    with parsing(RecipeError, f"open_clip: the tower of {model} cannot be built ({{reason}})."):
        # Patch dropout is for training CLIP; here every patch must have its feature.
        vision = settings["vision_cfg"] | {"timm_model_pretrained": False, "patch_dropout": 0.0}
        if image_size is not None:
            vision["image_size"] = image_size
        quick_gelu = _pretrained(model, tag).get("quick_gelu", settings.get("quick_gelu", False))
        both = open_clip.CLIP(settings["embed_dim"], vision, NO_TEXT, quick_gelu=quick_gelu)
        tower = both.visual
        if image_size is not None and hasattr(tower, "set_input_size"):
            tower.set_input_size(image_size)
        return tower.to(dtype)


@functools.cache
def _facts(model: str, tag: str | None, layer: int, image_size: tuple[int, int] | None) -> FeatureMap:
    """Return the feature map of a tower, determined on a tower without values."""
    if image_size is not None:
        own = _facts(model, tag, layer, None)
        check_multiple("open_clip", model, image_size, own.stride)
    with torch.device("meta"), torch.no_grad():
        tower = _tower(model, tag, image_size, torch.float32).eval()
        height, width = image_size or _pair(tower.image_size)
        if not hasattr(getattr(tower, "trunk", tower), "forward_intermediates"):
            raise RecipeError(
                f"open_clip: the tower of {model} gives one vector for an image and no features per patch; choose "
                "another, such as ViT-B-16 or convnext_base."
            )
        try:
            features = feature_map(tower, torch.empty(1, 3, height, width), layer)
        except Exception as error:
            raise RecipeError(
                f"open_clip: the tower of {model} gives no features of layer {layer} at {height}x{width} pixels "
                f"({error})."
            ) from error
    return FeatureMap(features.shape[1], (height, width), (features.shape[2], features.shape[3]))


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _state_dict(file: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a PyTorch file, which may be a training checkpoint of open_clip."""
    held = read_pickled(file)
    tensors = held.get("state_dict", held) if isinstance(held, dict) else None
    if not is_state_dict(tensors):
        raise CheckpointError(f"{file} holds no state dict: name a file with the tensors of a CLIP.")
    return tensors


def _place(tower: Any, name: str) -> str | Sequence[Slice] | None:
    """Return where a tensor of a CLIP goes in its image tower; position embeddings are resized."""
    import open_clip.model

    name = name.removeprefix("module.")
    if not name.startswith("visual."):
        return None
    inner = name.removeprefix("visual.")
    if inner != POSITIONS:
        return inner

    def resized(positions: Tensor) -> Tensor:
        tensors = {name: positions}
        open_clip.model.resize_pos_embed(tensors, _CLIP(tower))
        return tensors[name]

    return [Slice(inner, resized)]


@attrs.frozen
class _CLIP:
    """The part of a CLIP that `resize_pos_embed` reads."""

    visual: Any
