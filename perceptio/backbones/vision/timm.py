"""The encoders of timm: DINOv2 and DINOv3, SigLIP, EVA, ConvNeXt, Swin and all others that give feature maps.

Shapes: B images, M features of all images, D feature width, H W pixels, h w features of an image.
"""

import functools
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.backbones.vision._dinov2_layout import (
    MARK,
    MASK_TOKEN,
    by_names_in_transformers,
    names_in_transformers,
)
from perceptio.backbones.vision._feature_map import FeatureMap, check_multiple
from perceptio.errors import RecipeError, UnknownNameError, near_miss
from perceptio.interfaces import Kind, VisionEncoder, VisionEncoderConfig, VisionFeatures, VisionSpec
from perceptio.ops.foreign import parsing
from perceptio.ops.hub import resolve
from perceptio.ops.images import stack_resized
from perceptio.ops.precision import Precision
from perceptio.ops.weights import load_tensors, read_headers

FILES = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
"""The weight files of a hub repository of timm; other files hold the same values for other libraries."""


@attrs.frozen
class Layer:
    """The layer of a model whose features are used.

    Attributes:
        model: The name of the model in timm.
        index: The index of the layer from the end: -1 is the last.
        norm: Whether the model's final norm is applied.
        dynamic: Whether the model receives images of several sizes.
    """

    model: str
    index: int
    norm: bool
    dynamic: bool


@attrs.frozen
class Maps:
    """The feature maps of a model for images of any size.

    Attributes:
        whole: The map of an image that is resized to the fixed image size.
        keep_aspect: Whether images keep their aspect ratio instead.
        grid: The rows and columns to which a map is averaged. None: it is not averaged.
    """

    whole: FeatureMap
    keep_aspect: bool
    grid: tuple[int, int] | None

    def of(self, height: int, width: int) -> FeatureMap:
        """Return the map of an image of this size, before averaging."""
        return self.whole.fitted(height, width) if self.keep_aspect else self.whole

    def centers(self, height: int, width: int) -> Tensor:
        """Return the centers [M, 2] of an image's features, as (row, column) in [0, 1], on the CPU."""
        return self.of(height, width).centers(self.grid)


class Timm(VisionEncoder):
    """A model of timm, up to the layer whose features are used.

    Args:
        spec: The spec.
        trunk: The model without the layers after that one.
        norm: Whether the model's final norm is applied.
        maps: Its feature maps.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: VisionSpec, trunk: Any, *, norm: bool, maps: Maps) -> None:
        super().__init__()
        from timm.data import resolve_model_data_config

        self.spec = spec
        self.trunk = trunk
        self.norm = norm
        self.maps = maps
        data = resolve_model_data_config(trunk)
        self.interpolation = data["interpolation"]
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(data[name]).view(3, 1, 1), persistent=False)

    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """See `VisionEncoder.forward`; images of one size are batched, and features are float32."""
        sizes = [self.maps.of(*image.shape[-2:]).image_size for image in images]
        features: dict[int, Tensor] = {}
        for size in dict.fromkeys(sizes):
            alike = [index for index, other in enumerate(sizes) if other == size]
            maps_BDhw = self._seen([images[index] for index in alike], size)
            features |= zip(alike, maps_BDhw.flatten(2).mT.float(), strict=True)
        centers = [self.maps.centers(*image.shape[-2:]) for image in images]
        return VisionFeatures(
            features_MD=torch.cat([features[index] for index in range(len(images))]),
            centers_M2=torch.cat(centers).to(self.mean.device),
            counts=tuple(len(one) for one in centers),
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return `stem`, and `layer1`, `layer2`, ... as timm numbers them; the final norm is in the last layer."""
        from timm.models import group_parameters

        groups = group_parameters(self.trunk, self.trunk.group_matcher(coarse=True), return_values=True)
        return {f"layer{depth}" if depth else "stem": held for depth, held in groups.items()}

    def _seen(self, images: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        pixels_B3HW = stack_resized(images, size, self.interpolation)
        normal_B3HW = ((pixels_B3HW - self.mean) / self.std).to(next(self.trunk.parameters()).dtype)
        maps_BDhw = feature_map(self.trunk, normal_B3HW, self.norm)
        grid = self.maps.grid
        return maps_BDhw if grid is None else F.adaptive_avg_pool2d(maps_BDhw, grid)


def feature_map(trunk: Any, normal_B3HW: Tensor, norm: bool) -> Tensor:
    """Return the last features [B, D, h, w] of a trunk, without class and register tokens."""
    (maps_BDhw,) = trunk.forward_intermediates(
        normal_B3HW, indices=[-1], norm=norm, stop_early=True, intermediates_only=True, output_fmt="NCHW"
    )
    return maps_BDhw


@attrs.frozen(kw_only=True)
class TimmConfig(VisionEncoderConfig):
    """A model of timm, pretrained or not, including models added with `timm.models.register_model`.

    Attributes:
        model: The name of the model, one of `timm.list_models()`, with the tag of its weights, as in
            `vit_base_patch14_dinov2.lvd142m`. The tag selects the size and the normalization that they expect.
        weights: A safetensors file, a folder with one, or a hub id, such as `timm/vit_base_patch14_dinov2.lvd142m`.
            A DINOv2 without registers can also be in the format of transformers, such as `facebook/dinov2-base`.
            None: random values.
        layer: The layer whose features are used: -1 is the last block or stage, -2 the one before. Later layers are
            not built.
        norm: Whether the model's final norm is applied to the features, as timm applies it: after any layer of
            transformers with one width, and after the last stage of models with stages.
        image_size: The height and width to which images are resized, multiples of the stride. None: the model's own
            size. For other sizes position embeddings are resized.
        keep_aspect: Whether images keep their aspect ratio instead, up to whole patches. An image then has at most as
            many features as at `image_size`.
        grid: The rows and columns to which the feature map is averaged, divisors of its own. None: no averaging.
        dtype: The precision of the weights.
        gradient_checkpointing: Whether each block's activations are recomputed in the backward pass to save memory.

    Raises:
        RecipeError: `layer` is not negative, or `grid` and `keep_aspect` are both set.
    """

    name: ClassVar[str] = "timm"
    kind: ClassVar[Kind] = Kind.VISION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    model: str
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})
    layer: int = -1
    norm: bool = True
    image_size: tuple[int, int] | None = None
    keep_aspect: bool = False
    grid: tuple[int, int] | None = None
    dtype: Precision = "float32"
    gradient_checkpointing: bool = False

    def __attrs_post_init__(self) -> None:
        if self.layer >= 0:
            raise RecipeError(
                f"timm: layer is {self.layer}, and layers are counted from the end: -1 is the last one."
            )
        if self.grid is not None and self.keep_aspect:
            raise RecipeError(
                f"timm: grid {self.grid} is one shape for all images; with keep_aspect each has its own: choose one."
            )

    @property
    def whole(self) -> FeatureMap:
        """The feature map of an image that is resized to `image_size`.

        Raises:
            UnknownNameError: timm has no such model or tag.
            RecipeError: The model has no such layer, gives no feature maps, or does not support this image size.
        """
        found = _feature_map(self._layer, self.image_size)
        if self.grid is not None and any(
            cells < 1 or of % cells for cells, of in zip(self.grid, found.cells, strict=True)
        ):
            raise RecipeError(
                f"timm: grid is {self.grid}, and the features of {self.model} are {found.cells}, which it must "
                "divide."
            )
        return found

    @property
    def spec(self) -> VisionSpec:
        """See `VisionEncoderConfig.spec`."""
        return VisionSpec(feature_dim=self.whole.feature_dim, image_size=self.whole.image_size)

    @property
    def maps(self) -> Maps:
        """The feature maps of images; raises the errors of `whole`."""
        return Maps(self.whole, self.keep_aspect, self.grid)

    def centers(self, height: int, width: int) -> Tensor:
        """See `VisionEncoderConfig.centers`: the centers of patches or of the grid's cells, row by row."""
        return self.maps.centers(height, width)

    def build(self) -> Timm:
        """See `VisionEncoderConfig.build`."""
        maps = self.maps
        trunk = _trunk(self._layer)
        _resize(trunk, self._resized_to)
        if self.gradient_checkpointing:
            trunk.set_grad_checkpointing()
        return Timm(self.spec, trunk.to(getattr(torch, self.dtype)), norm=self.norm, maps=maps)

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`; tensors after the layer, such as a classifier's, are left out.

        Raises:
            CheckpointError: The weights are missing, or their tensors do not match the model; the message lists them.
        """
        if self.weights is None:
            return False
        assert isinstance(module, Timm)
        own = module.trunk if self._resized_to is None else _trunk(self._layer)
        wanted = own.state_dict()
        left_out = _names(self.model) - wanted.keys()
        source = resolve(self.weights, FILES)
        if MARK in read_headers(source):
            names = [theirs for name in left_out for theirs in names_in_transformers(name)]
            load_tensors(by_names_in_transformers(wanted), source, dict.fromkeys([MASK_TOKEN, *names]))
        else:
            load_tensors(own, source, dict.fromkeys(left_out))
        if own is not module.trunk:
            _resize(own, self._resized_to)
            module.trunk.load_state_dict(own.state_dict())
        return True

    @property
    def _layer(self) -> Layer:
        return Layer(self.model, self.layer, self.norm, self.keep_aspect)

    @property
    def _resized_to(self) -> tuple[int, int] | None:
        """The image size to which the weights are adapted. None if the model receives images of several sizes."""
        return None if self.keep_aspect else self.image_size


@functools.cache
def _feature_map(layer: Layer, image_size: tuple[int, int] | None) -> FeatureMap:
    """Return the feature map of a model at one image size, determined on a model without values."""
    if image_size is not None:
        check_multiple("timm", layer.model, image_size, _feature_map(layer, None).stride)
    message = f"timm: {layer.model} gives no feature map of layer {layer.index}"
    with torch.device("meta"), torch.no_grad():
        with parsing(RecipeError, f"{message} ({{reason}})."):
            trunk = _trunk(layer).eval()
            size = image_size or trunk.pretrained_cfg["input_size"][-2:]
        with parsing(RecipeError, f"{message} at {size[0]}x{size[1]} pixels ({{reason}})."):
            _resize(trunk, None if layer.dynamic else image_size)
            maps = feature_map(trunk, torch.empty(1, 3, *size), layer.norm)
        found = FeatureMap(maps.shape[1], tuple(size), (maps.shape[2], maps.shape[3]))
        if layer.dynamic:
            with parsing(
                RecipeError,
                f"timm: {layer.model} sees images of one size only, so keep_aspect cannot be ({{reason}}).",
            ):
                narrow = found.fitted(1, 3)
                maps = feature_map(trunk, torch.empty(1, 3, *narrow.image_size), layer.norm)
                assert maps.shape[2:] == narrow.cells, (
                    f"{narrow.image_size} pixels give {tuple(maps.shape[2:])}"
                )
    return found


def _trunk(layer: Layer) -> Any:
    """Build the model with random weights at its own image size, without the layers after `layer`."""
    import timm

    architecture, _, tag = layer.model.partition(".")
    known = timm.list_models()
    if architecture not in known:
        alike = ", ".join(get_close_matches(architecture, known, n=3))
        raise UnknownNameError(
            f"timm has no model {architecture!r}; "
            + (f"names like it: {alike}." if alike else "see timm.list_models().")
        )
    tags = [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", include_tags=True)]
    if tag and tag not in tags:
        raise UnknownNameError(f"timm has no weights {tag!r} for {architecture}{near_miss(tag, tags)}")
    trunk: Any = timm.create_model(layer.model, pretrained=False)
    if layer.dynamic and hasattr(trunk, "dynamic_img_size"):
        trunk = timm.create_model(layer.model, pretrained=False, dynamic_img_size=True)
    trunk.prune_intermediate_layers([layer.index], prune_norm=not layer.norm, prune_head=True)
    return trunk


def _resize(trunk: Any, image_size: tuple[int, int] | None) -> None:
    """Adapt a model to images of another size; convolutional models need no change."""
    if image_size is not None and hasattr(trunk, "set_input_size"):
        trunk.set_input_size(image_size)


@functools.cache
def _names(model: str) -> frozenset[str]:
    """Return the names of all tensors that a file of the whole model may have.

    They include buffers that are recomputed, and a classifier.
    """
    import timm

    with torch.device("meta"):
        whole = timm.create_model(model, pretrained=False, num_classes=1)
    return frozenset({*whole.state_dict(), *dict(whole.named_buffers())})
