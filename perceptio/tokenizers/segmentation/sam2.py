"""SAM 2 in the implementation of the `sam2` package, and its official checkpoints.

The public modules of the package are assembled here with the numbers of its configuration files, without hydra,
which the package uses for this.

Shapes: N objects, S special tokens per object, P prompt width, M candidate masks, H W pixels, h w mask cells.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from perceptio.errors import CheckpointError
from perceptio.interfaces import Kind
from perceptio.ops.hub import resolve
from perceptio.ops.pickled_weights import is_state_dict, read_pickled
from perceptio.ops.weights import load_tensors
from perceptio.tokenizers.segmentation._sam import (
    SAM2_IMAGES,
    ImageFormat,
    SAMFeatures,
    SAMNetwork,
    SAMSegmentationTokenizer,
    SharedSAMConfig,
    empty_points,
)

logger = logging.getLogger(__name__)

WIDTH = 256
"""The width of all features after the trunk of the image encoder, and so of prompts."""


@attrs.frozen
class Trunk:
    """The settings of the image encoder's trunk, a Hiera (arXiv 2306.00989), which differ between sizes."""

    embed_dim: int
    num_heads: int
    stages: tuple[int, ...]
    global_blocks: tuple[int, ...]
    background: int = 7
    windows: tuple[int, ...] = (8, 4, 14, 7)


TRUNKS = {
    "tiny": Trunk(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": Trunk(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base_plus": Trunk(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "large": Trunk(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}
ONLY_IN_2_1 = {"no_obj_embed_spatial", "obj_ptr_tpos_proj"}
FOR_VIDEO = ONLY_IN_2_1 | {
    "mask_downsample",
    "maskmem_tpos_enc",
    "memory_attention",
    "memory_encoder",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "obj_ptr_proj",
}
"""The parts of a checkpoint for memory, which only video needs."""


class OfficialSAM2(SAMNetwork):
    """The modules of the package under the names that they have in its checkpoints."""

    def __init__(
        self, image_encoder: nn.Module, sam_prompt_encoder: nn.Module, sam_mask_decoder: nn.Module
    ) -> None:
        super().__init__()
        self.image_encoder: Any = image_encoder
        self.sam_prompt_encoder: Any = sam_prompt_encoder
        self.sam_mask_decoder: Any = sam_mask_decoder
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, WIDTH))

    def encode(self, pixels_B3HW: Tensor) -> SAMFeatures:
        """See `SAMNetwork.encode`."""
        fine, middle, coarse = self.image_encoder(pixels_B3HW)["backbone_fpn"]
        return SAMFeatures(
            coarse_BPhw=coarse + self.no_mem_embed.reshape(1, -1, 1, 1),
            middle_BChw=self.sam_mask_decoder.conv_s1(middle),
            fine_BChw=self.sam_mask_decoder.conv_s0(fine),
        )

    def decode(self, features: SAMFeatures, prompts_NSP: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """See `SAMNetwork.decode`."""
        sparse, dense = self.sam_prompt_encoder(
            points=empty_points(len(prompts_NSP), prompts_NSP.device), boxes=None, masks=None
        )
        masks_NMhw, quality_NM, _, _ = self.sam_mask_decoder(
            image_embeddings=features.coarse_BPhw,
            image_pe=self.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=torch.cat([sparse, prompts_NSP], 1),
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=[features.fine_BChw, features.middle_BChw],
        )
        return masks_NMhw, quality_NM

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """See `SAMNetwork.parameter_groups`."""
        return {
            "image_encoder": [*self.image_encoder.parameters(), self.no_mem_embed],
            "prompt_encoder": list(self.sam_prompt_encoder.parameters()),
            "mask_decoder": list(self.sam_mask_decoder.parameters()),
        }


@attrs.frozen(kw_only=True)
class SAM2SegmentationConfig(SharedSAMConfig):
    """SAM 2 in its authors' package.

    `weights` is an official checkpoint: a `.pt` file with its state dict under `"model"`, the same tensors as
    `.safetensors`, or a folder or hub id with such a file under its official name, as `facebook/sam2.1-hiera-large`.

    Attributes:
        size: The size of the image encoder.
        version: The version of the weights, `"2"` or `"2.1"`. For images both have the same architecture.
    """

    name: ClassVar[str] = "sam2"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    size: Literal["tiny", "small", "base_plus", "large"] = "large"
    version: Literal["2", "2.1"] = "2.1"

    @property
    def prompt_dim(self) -> int:
        """See `SharedSAMConfig.prompt_dim`."""
        return WIDTH

    @property
    def images(self) -> ImageFormat:
        """See `SharedSAMConfig.images`."""
        return SAM2_IMAGES

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`.

        Raises:
            CheckpointError: The file does not exist, its pickle would run code, it is of the other version, or its
                tensors do not match the module (the message lists them). The module is then unchanged.
        """
        if self.weights is None:
            return False
        assert isinstance(module, SAMSegmentationTokenizer)
        file = self._file()
        source: Path | Mapping[str, Tensor] = (
            file if file.suffix == ".safetensors" else self._state_dict(file)
        )
        left_out: set[str] = set()

        def rename(name: str) -> str | None:
            part = name.split(".")[0]
            if part not in FOR_VIDEO:
                return name
            left_out.add(part)
            return None

        load_tensors(module.network, source, rename)
        if left_out:
            logger.info("%s: left out what only video needs: %s.", file, ", ".join(sorted(left_out)))
        return True

    def _build_network(self) -> OfficialSAM2:
        return _network(TRUNKS[self.size], self.image_size)

    def _file(self) -> Path:
        stem = f"sam{self.version}_hiera_{self.size}"
        names = [f"{stem}.pt", f"{stem}.safetensors"]
        assert self.weights is not None
        path = resolve(self.weights, names)
        if not path.is_dir():
            return path
        for name in names:
            if (path / name).is_file():
                return path / name
        raise CheckpointError(
            f"sam2 is to read its weights from {self.weights}, and there is no {' or '.join(names)} in it; name the "
            "file itself if it is called otherwise."
        )

    def _state_dict(self, file: Path) -> Mapping[str, Tensor]:
        """Read the tensors of an official file and check that its version is `version`."""
        held = read_pickled(file)
        tensors = held.get("model", held) if isinstance(held, Mapping) else held
        if not is_state_dict(tensors):
            raise CheckpointError(
                f'{file} is no SAM 2 checkpoint: it must hold a state dict, by itself or under "model".'
            )
        parts = {name.split(".")[0] for name in tensors}
        found = "2.1" if parts & ONLY_IN_2_1 else "2"
        if parts & FOR_VIDEO and found != self.version:
            raise CheckpointError(
                f"{file} is of SAM {found}, and sam2 is asked for version {self.version}; set version={found!r}."
            )
        return tensors


def _network(trunk: Trunk, image_size: int) -> OfficialSAM2:
    with _hydra_left_alone():
        from sam2.modeling.backbones.hieradet import Hiera
        from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
        from sam2.modeling.sam.mask_decoder import MaskDecoder
        from sam2.modeling.sam.prompt_encoder import PromptEncoder
        from sam2.modeling.sam.transformer import TwoWayTransformer

    with _LinspaceOnCPU():
        hiera = Hiera(
            embed_dim=trunk.embed_dim,
            num_heads=trunk.num_heads,
            stages=trunk.stages,
            global_att_blocks=trunk.global_blocks,
            window_pos_embed_bkg_spatial_size=(trunk.background, trunk.background),
            window_spec=trunk.windows,
        )
    neck = FpnNeck(
        # Only memory reads positions. The package's module would compute and keep them for every size.
        position_encoding=nn.Identity(),
        d_model=WIDTH,
        backbone_channel_list=hiera.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    side = image_size // 16
    return OfficialSAM2(
        ImageEncoder(trunk=hiera, neck=neck, scalp=1),
        PromptEncoder(
            embed_dim=WIDTH,
            image_embedding_size=(side, side),
            input_image_size=(image_size, image_size),
            mask_in_chans=16,
        ),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=2048, num_heads=8),
            transformer_dim=WIDTH,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
            use_high_res_features=True,
            iou_prediction_use_sigmoid=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            use_multimask_token_for_obj_ptr=True,
        ),
    )


@contextmanager
def _hydra_left_alone() -> Iterator[None]:
    """Make hydra look initialized while `sam2` is imported, as `sam2` otherwise changes hydra's global state."""
    from hydra.core.global_hydra import GlobalHydra

    state: Any = GlobalHydra.instance()
    found = state.hydra
    state.hydra = found or object()
    try:
        yield
    finally:
        state.hydra = found


class _LinspaceOnCPU(TorchFunctionMode):
    """Keep `torch.linspace` on the CPU: Hiera reads its values, which tensors on the meta device do not have."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)
