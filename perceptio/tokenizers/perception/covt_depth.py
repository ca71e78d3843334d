"""Depth as special tokens: one vector for each of four layers of Depth Anything V2, as in CoVT (arXiv 2511.19418).

Vector i is multiplied with the features that the i-th layer has of each patch; the maps that result are stretched to
the picture and averaged.

Shapes: B pictures, N rows of vectors, m layers and vectors, S patches, P width of a feature and of a vector, H W
pixels of a picture, h w of a map.
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
"""Of ImageNet, as Depth Anything was trained with."""
BACKBONE = "backbone."
"""How the names of its tensors begin in a Depth Anything; the rest makes depth of them, and is not needed."""
MASK_TOKEN = "embeddings.mask_token"
"""Of DINOv2's own training; no picture shows it."""
RENAMED = {
    **{f"attention.attention.{part}.": f"attention.{part[0]}_proj." for part in ("query", "key", "value")},
    "attention.output.dense.": "attention.o_proj.",
}
"""Names in files, and in the modules of transformers 5."""


class CoVTDepth(PerceptionTokenizer):
    """Vectors -> depth by the layers of a frozen DINOv2.

    Args:
        spec: Its facts.
        expert: A `Dinov2Backbone` of transformers that gives the layers' normalized features, class token first.
        convention: What depth means.
        map_size: Height and width of a map.
        grid: Rows and columns of patches.
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
        """Features [B, m, S, P] of the layers."""
        maps = self.expert((pixels_B3HW - self.mean) / self.std).feature_maps
        return torch.stack([with_class_BCP[:, 1:] for with_class_BCP in maps], 1)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_rows`: depth [N, 1, h, w] in the convention's [0, 1] once it is learned.

        The average is taken before stretching, which is linear.
        """
        products_NmS = torch.einsum("nmp,nmsp->nms", rows_NmP.to(features.dtype), features[image_index_N])
        mean_N1hw = products_NmS.mean(1, keepdim=True).unflatten(2, self.grid)
        return F.interpolate(mean_N1hw, self.map_size, mode="bilinear", align_corners=False)

    def targets(self, raw: Sequence[Any]) -> Tensor:
        """See `PerceptionTokenizer.targets`: depth [T, 1, h, w] in the convention's [0, 1], NaN where unknown."""
        return stack_depth(raw, self.convention, self.map_size, device_of(self))

    def shown(self, decoded: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: each a `DepthMap` at the tokenizer's own size, clipped to its range."""
        return list(to_maps(decoded.clamp(0.0, 1.0), self.convention))


@attrs.frozen(kw_only=True)
class CoVTDepthConfig(PerceptionTokenizerConfig):
    """The depth tokens of CoVT; the sizes are those of Depth Anything V2 Large, and the numbers those of its code.

    Attributes:
        num_tokens: Special tokens: one name that is repeated.
        layers: Whose features the vectors are multiplied with, counted from 0; there is one vector for each.
        hidden_dim: Width of the expert, a DINOv2.
        num_layers: Its layers.
        num_heads: Its heads of attention.
        patch_size: Pixels along a side of its patches.
        trained_size: Side of the pictures that its position embeddings are for; they are interpolated to others.
        image_size: Height and width of the pictures it sees, multiples of the patch.
        map_size: Height and width of a depth map.
        convention: What depth means; relative, as Depth Anything's.
        weights: A Depth Anything V2 as transformers saves it: a file, folder or hub id; None: random values.
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
            # The first of their hidden states is what enters layer 0.
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
        """See `ComponentConfig.load_weights`; of a Depth Anything only its backbone's tensors are read.

        Raises:
            CheckpointError: There is no checkpoint, or its tensors are not the backbone's: all are named.
        """
        if self.weights is None:
            return False
        assert isinstance(module, CoVTDepth)
        place = functools.partial(_place, held=module.expert.state_dict())
        load_tensors(module.expert, resolve(self.weights, ("*.safetensors*",)), place)
        return True


def _place(name: str, held: Collection[str]) -> str | None:
    """Where a tensor of a Depth Anything goes in a module that holds these; transformers has renamed some since."""
    inner = name.removeprefix(BACKBONE)
    if inner in (name, MASK_TOKEN):
        return None
    for old, new in RENAMED.items():
        inner = inner if inner in held else inner.replace(old, new)
    return inner
