"""SAM 2 as Hugging Face's transformers has it.

Shapes: N objects, S special tokens per object, P prompt width, M candidate masks, H W pixels, h w mask cells.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import Kind
from perceptio.ops.hub import resolve
from perceptio.ops.weights import Part, load_tensors
from perceptio.tokenizers.segmentation._sam2 import (
    SAM2Features,
    SAM2Network,
    SAM2SegmentationTokenizer,
    SharedSAM2Config,
    empty_points,
)

logger = logging.getLogger(__name__)

PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
"""Of a transformers configuration; those of video have memory beside them."""
POSITIONS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
"""One tensor that the model holds twice, and its files once or twice."""
FOR_VIDEO = (
    "memory_",
    "mask_downsample",
    "object_pointer_proj",
    "temporal_positional_encoding_projection_layer",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)
"""How the names of tensors begin that remember earlier frames."""


class HFSAM2(SAM2Network):
    """A `Sam2Model`, prompted through its public parts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def encode(self, pixels_B3HW: Tensor) -> SAM2Features:
        """See `SAM2Network.encode`."""
        # Not `get_image_embeddings`, through which no gradient reaches the mask decoder's convolutions.
        fine, middle, coarse = self.model.vision_encoder(pixels_B3HW).fpn_hidden_states
        return SAM2Features(
            coarse_BPhw=coarse + self.model.no_memory_embedding.reshape(1, -1, 1, 1),
            middle_BChw=self.model.mask_decoder.conv_s1(middle),
            fine_BChw=self.model.mask_decoder.conv_s0(fine),
        )

    def decode(self, features: SAM2Features, prompts_NSP: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """See `SAM2Network.decode`; every object is a batch entry with one set of points."""
        points_N112, labels_N11 = (one[:, None] for one in empty_points(len(prompts_NSP), prompts_NSP.device))
        sparse, dense = self.model.prompt_encoder(
            input_points=points_N112, input_labels=labels_N11, input_boxes=None, input_masks=None
        )
        positions = self.model.get_image_wide_positional_embeddings()
        masks_N1Mhw, quality_N1M, _, _ = self.model.mask_decoder(
            image_embeddings=features.coarse_BPhw,
            image_positional_embeddings=positions.expand(len(prompts_NSP), -1, -1, -1),
            sparse_prompt_embeddings=torch.cat([sparse, prompts_NSP[:, None]], 2),
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=[features.fine_BChw, features.middle_BChw],
        )
        return masks_N1Mhw[:, 0], quality_N1M[:, 0]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """See `SAM2Network.parameter_groups`."""
        return {
            "image_encoder": [*self.model.vision_encoder.parameters(), self.model.no_memory_embedding],
            "prompt_encoder": list(self.model.prompt_encoder.parameters()),
            "mask_decoder": list(self.model.mask_decoder.parameters()),
        }


@attrs.frozen(kw_only=True)
class HFSAMSegmentationConfig(SharedSAM2Config):
    """SAM 2 by transformers; `from_pretrained` reads one of its folders.

    `weights` is such a folder or hub id, as `facebook/sam2.1-hiera-large`.

    Attributes:
        model: The model's whole configuration as JSON: those of its image encoder, prompt encoder and mask decoder.
    """

    name: ClassVar[str] = "hf_sam"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    model: str

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        try:
            lacking = [part for part in PARTS if part not in json.loads(self.model)]
        except (ValueError, TypeError) as error:
            raise RecipeError(f"hf_sam: model is no configuration in JSON ({error}).") from error
        if lacking:
            raise RecipeError(
                f"hf_sam: model is no configuration of SAM 2: it lacks {', '.join(lacking)}; "
                "HFSAMSegmentationConfig.from_pretrained reads one."
            )

    @classmethod
    def from_pretrained(cls, weights: str, **settings: Any) -> Self:
        """The config of a pretrained model.

        Args:
            weights: A local folder with `config.json` and its safetensors, or a hub id.
            settings: Other settings of this config.

        Raises:
            CheckpointError: There is no such folder, or its `config.json` is not that of a SAM 2.
        """
        path = resolve(weights, ("config.json", "*.safetensors", "*.safetensors.index.json")) / "config.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            model = {part: found[part] for part in PARTS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not the configuration of a SAM 2 ({error!r}).") from error
        return cls(model=json.dumps(model, sort_keys=True), weights=weights, **settings)

    @property
    def prompt_dim(self) -> int:
        """See `SharedSAM2Config.prompt_dim`."""
        return json.loads(self.model)["prompt_encoder_config"].get("hidden_size", 256)

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`.

        Raises:
            CheckpointError: There is no such folder, or its tensors are not the module's: all are named. The module
                is then as it was.
        """
        if self.weights is None:
            return False
        assert isinstance(module, SAM2SegmentationTokenizer) and isinstance(module.network, HFSAM2)
        folder = resolve(self.weights, ("*.safetensors", "*.safetensors.index.json"))
        left_out: set[str] = set()

        def rename(name: str) -> str | Sequence[Part] | None:
            if name == POSITIONS[0]:
                return [Part(place, lambda whole: whole) for place in POSITIONS]
            if name.startswith(FOR_VIDEO):
                left_out.add(name.split(".")[0])
            elif name != POSITIONS[1]:
                return name
            return None

        load_tensors(module.network.model, folder, rename)
        if left_out:
            logger.info("%s: left out what only video needs: %s.", folder, ", ".join(sorted(left_out)))
        return True

    def _build_network(self) -> HFSAM2:
        from transformers import Sam2Config, Sam2Model

        parts = json.loads(self.model)
        vision, prompts, masks = (parts[part] for part in PARTS)
        vision["backbone_feature_sizes"] = [[self.image_size // stride] * 2 for stride in (4, 8, 16)]
        prompts["image_size"] = self.image_size
        # One mask is then the decoder's single one, whatever its stability.
        masks["dynamic_multimask_via_stability"] = False
        return HFSAM2(Sam2Model(Sam2Config(**parts)))
