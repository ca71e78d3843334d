"""Depth as special tokens: one vector for each of four layers of Depth Anything V2, as in CoVT (arXiv 2511.19418).

The dot product of vector i with the features of the i-th layer at each patch gives a map. The maps are resized and
averaged.

Shapes: B images, N blocks of vectors, m layers and vectors, S patches, P width of a feature and of a vector, H W
pixels of an image, h w pixels of a map.
"""

import functools
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Continuous,
    DepthConvention,
    Kind,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    StreamSpec,
)
from perceptio.interfaces.component import device_of
from perceptio.interfaces.depth_maps import stack_depth, to_maps
from perceptio.ops.hub import resolve
from perceptio.ops.weights import load_tensors

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The color statistics of ImageNet, with which Depth Anything was trained."""
BACKBONE = "backbone."
"""The prefix of the backbone's tensors in a Depth Anything checkpoint; the depth head is not needed."""
MASK_TOKEN = "embeddings.mask_token"
"""A tensor of DINOv2's own training, unused at inference."""
RENAMED = {
    **{f"attention.attention.{part}.": f"attention.{part[0]}_proj." for part in ("query", "key", "value")},
    "attention.output.dense.": "attention.o_proj.",
}
"""Parts of tensor names in checkpoint files, and in the modules of transformers 5."""


class CoVTDepth(PerceptionTokenizer):
    """Vectors -> depth, through the features of a frozen DINOv2.

    Args:
        spec: The spec.
        expert: A `Dinov2Backbone` of transformers that returns the layers' normalized features, class token first.
        convention: What a depth value means.
        map_size: The height and width of a map.
        grid: The rows and columns of patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: PerceptionSpec,
        expert: Any,
        *,
        convention: DepthConvention,
        map_size: tuple[int, int],
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.spec = spec
        self.expert = expert
        self.convention = convention
        self.map_size = map_size
        self.grid = grid
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode_image(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the features [B, m, S, P] of the layers."""
        maps = self.expert((pixels_B3HW - self.mean) / self.std).feature_maps
        return torch.stack([with_class_BCP[:, 1:] for with_class_BCP in maps], 1)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_rows`: depth [N, 1, h, w], which training brings to the convention's [0, 1].

        Maps are averaged before resizing, which gives the same result because resizing is linear.
        """
        products_NmS = torch.einsum("nmp,nmsp->nms", rows_NmP.to(features.dtype), features[image_index_N])
        mean_N1hw = products_NmS.mean(1, keepdim=True).unflatten(2, self.grid)
        return F.interpolate(mean_N1hw, self.map_size, mode="bilinear", align_corners=False)

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: depth [T, 1, h, w] in the convention's [0, 1], NaN where unknown."""
        return stack_depth(raw, self.convention, self.map_size, device_of(self))

    def shown(self, decoded: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: one `DepthMap` per row at the tokenizer's size, clipped to its range."""
        return list(to_maps(decoded.clamp(0.0, 1.0), self.convention))


@attrs.frozen(kw_only=True)
class CoVTDepthConfig(PerceptionTokenizerConfig):
    """The depth tokens of CoVT. Sizes are those of Depth Anything V2 Large, other numbers those of CoVT's code.

    Attributes:
        num_tokens: The number of special tokens, which share one name.
        layers: The layers whose features are used, counted from 0, in order. There is one vector per layer.
        hidden_dim: The width of the expert, a DINOv2.
        num_layers: The number of its layers.
        num_heads: The number of its attention heads.
        patch_size: The side of its patches in pixels.
        trained_size: The side, in pixels, of the square images for which its position embeddings were trained. They
            are interpolated to other sizes.
        image_size: The height and width of the images that it sees, multiples of the patch size.
        map_size: The height and width of a depth map.
        convention: What a depth value means. The default is relative, as in Depth Anything.
        weights: A Depth Anything V2 checkpoint in the format of transformers: a file, folder or hub id. None: random
            values.

    Raises:
        RecipeError: A value is out of range, or the sizes do not fit together.
    """

    name: ClassVar[str] = "covt_depth"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    num_tokens: int = 4
    layers: tuple[int, ...] = (4, 11, 17, 23)
    hidden_dim: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    patch_size: int = 14
    trained_size: int = 518
    image_size: tuple[int, int] = (518, 518)
    map_size: tuple[int, int] = (256, 256)
    convention: DepthConvention = DepthConvention()
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def __attrs_post_init__(self) -> None:
        if list(self.layers) != sorted({layer for layer in self.layers if 0 <= layer < self.num_layers}):
            raise RecipeError(
                f"covt_depth: layers are {self.layers}; name each once, in order, from 0 to {self.num_layers - 1}."
            )
        if not self.layers or self.num_tokens < 1:
            raise RecipeError("covt_depth: there must be at least one layer and one special token.")
        if any(side < 1 or side % self.patch_size for side in (*self.image_size, self.trained_size)):
            raise RecipeError(
                f"covt_depth: image_size {self.image_size} and trained_size {self.trained_size} must be multiples of "
                f"the patch, {self.patch_size}."
            )

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`."""
        written = Continuous(
            tokens=("<|depth_pad|>",) * self.num_tokens, width=self.hidden_dim, rows=len(self.layers)
        )
        stream = StreamSpec(written=written, target="depth", image_size=self.image_size, frozen=True)
        return PerceptionSpec(stream=stream)

    def build(self) -> CoVTDepth:
        """See `PerceptionTokenizerConfig.build`."""
        from transformers import Dinov2Backbone, Dinov2Config

        settings: dict[str, Any] = dict(
            hidden_size=self.hidden_dim,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            image_size=self.trained_size,
            patch_size=self.patch_size,
            use_mask_token=False,
            reshape_hidden_states=False,
            # Index 0 of the hidden states is the input of layer 0.
            out_indices=[layer + 1 for layer in self.layers],
        )
        height, width = self.image_size
        return CoVTDepth(
            self.spec,
            Dinov2Backbone(Dinov2Config(**settings)),
            convention=self.convention,
            map_size=self.map_size,
            grid=(height // self.patch_size, width // self.patch_size),
        )

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`; only the tensors of the backbone are read.

        Raises:
            CheckpointError: The checkpoint is missing, or its tensors do not match the backbone; the message lists
                them.
        """
        if self.weights is None:
            return False
        assert isinstance(module, CoVTDepth)
        place = functools.partial(_place, held=module.expert.state_dict())
        load_tensors(module.expert, resolve(self.weights, ("*.safetensors*",)), place)
        return True


def _place(name: str, held: Collection[str]) -> str | None:
    """Return the name in a module with the tensors `held` of a Depth Anything tensor, or None if it is not needed.

    Checkpoints may use names that transformers has since changed.
    """
    inner = name.removeprefix(BACKBONE)
    if inner in (name, MASK_TOKEN):
        return None
    for old, new in RENAMED.items():
        inner = inner if inner in held else inner.replace(old, new)
    return inner
