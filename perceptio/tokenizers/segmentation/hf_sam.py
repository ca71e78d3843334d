"""SAM 2 and SAM 3 in the implementation of Hugging Face transformers.

Shapes: N objects, S special tokens per object, P prompt width, M candidate masks, H W pixels, h w mask cells.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import Kind
from perceptio.ops.configuration import Configuration
from perceptio.ops.foreign import parsing
from perceptio.ops.hub import resolve
from perceptio.ops.json_files import parse_json, read_json
from perceptio.ops.weights import Slice, load_tensors
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

PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
"""The sections of a transformers configuration that are used; those for video also have sections for memory."""
POSITIONS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
"""The names of one tensor that the model holds twice; files hold it once or twice."""
FOR_VIDEO = (
    "memory_",
    "mask_downsample",
    "object_pointer_proj",
    "temporal_positional_encoding_projection_layer",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)
"""The prefixes of the tensors of memory, which only video needs."""
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""The weight files of a hub repository."""


class HFSAM(SAMNetwork):
    """A `Sam2Model` or a `Sam3TrackerModel`, used through its public parts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def encode(self, pixels_B3HW: Tensor) -> SAMFeatures:
        """See `SAMNetwork.encode`."""
        # `get_image_embeddings` would keep gradients from the mask decoder's convolutions.
        fine, middle, coarse = self.model.vision_encoder(pixels_B3HW).fpn_hidden_states
        return SAMFeatures(
            coarse_BPhw=coarse + self.model.no_memory_embedding.reshape(1, -1, 1, 1),
            middle_BChw=self.model.mask_decoder.conv_s1(middle),
            fine_BChw=self.model.mask_decoder.conv_s0(fine),
        )

    def decode(self, features: SAMFeatures, prompts_NSP: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """See `SAMNetwork.decode`; each object is a batch entry with one set of points."""
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
        """See `SAMNetwork.parameter_groups`."""
        return {
            "image_encoder": [*self.model.vision_encoder.parameters(), self.model.no_memory_embedding],
            "prompt_encoder": list(self.model.prompt_encoder.parameters()),
            "mask_decoder": list(self.model.mask_decoder.parameters()),
        }


@attrs.frozen(kw_only=True)
class HFSAMConfig(SharedSAMConfig, ABC):
    """Base class of the configs of SAM 2 and SAM 3 in transformers. Use `from_pretrained` to create one.

    `weights` is a folder or hub id in the format of transformers.

    Attributes:
        model: The whole model configuration as JSON, with the sections of image encoder, prompt encoder and mask
            decoder.

    Raises:
        RecipeError: `model` is not the configuration of such a SAM, or a setting of `SharedSAMConfig` is invalid.
    """

    generation: ClassVar[str]
    """The name of the SAM in messages, such as `SAM 2`."""
    vision_model: ClassVar[str]
    """The `model_type` of its image encoder."""
    moved: ClassVar[Mapping[str, str]] = {}
    """Prefixes of tensor names in a file, and their replacements in the model, applied in order."""
    not_needed: ClassVar[tuple[str, ...]] = FOR_VIDEO
    """The prefixes of tensors that masks of images do not need."""

    model: str

    def __attrs_post_init__(self) -> None:
        with parsing(RecipeError, f"{self.name}: model is no configuration in JSON ({{reason}})."):
            parts = parse_json(self.model)
            lacking = [part for part in PARTS if not isinstance(parts.get(part), dict)]
        if lacking:
            raise RecipeError(
                f"{self.name}: model is no configuration of {self.generation}: it lacks {', '.join(lacking)}; "
                f"{type(self).__name__}.from_pretrained reads one."
            )
        self._configuration.check_depth()
        found = parts["vision_config"].get("model_type", self.vision_model)
        if found != self.vision_model:
            raise RecipeError(
                f"{self.name}: model is no configuration of {self.generation}: its image encoder is a {found}, not a "
                f"{self.vision_model}."
            )
        super().__attrs_post_init__()

    @classmethod
    def from_pretrained(cls, weights: str, **settings: Any) -> Self:
        """Create the config of a pretrained model.

        Args:
            weights: A local folder with `config.json` and safetensors files, or a hub id.
            settings: Other settings of this config.

        Raises:
            CheckpointError: The folder does not exist, or its `config.json` is not the configuration of such a model.
            RecipeError: The model is another SAM.
        """
        path = resolve(weights, ("config.json", *WEIGHTS)) / "config.json"
        found = read_json(path, error=CheckpointError, remedy="copy or download it again")
        with parsing(CheckpointError, f"{path} is not the configuration of a {cls.generation} ({{reason}})."):
            # The configuration of SAM 3 for video holds a detector, and the tracker, which is this model.
            held = found.get("tracker_config", found)
            model = {part: held[part] for part in PARTS}
        return cls(model=json.dumps(model, sort_keys=True), weights=weights, **settings)

    @property
    def prompt_dim(self) -> int:
        """See `SharedSAMConfig.prompt_dim`."""
        return self._configuration.section("prompt_encoder_config").whole("hidden_size", 256)

    @property
    def _configuration(self) -> Configuration:
        return Configuration(f"{self.name}: the configuration in model", parse_json(self.model), RecipeError)

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`.

        Raises:
            CheckpointError: The folder does not exist, or its tensors do not match the module; the message lists
                them. The module is then unchanged.
        """
        if self.weights is None:
            return False
        assert isinstance(module, SAMSegmentationTokenizer) and isinstance(module.network, HFSAM)
        folder = resolve(self.weights, WEIGHTS)
        left_out: set[str] = set()

        def rename(name: str) -> str | Sequence[Slice] | None:
            place = name
            for there, here in self.moved.items():
                if place.startswith(there):
                    place = here + place.removeprefix(there)
            for start in self.not_needed:
                if place.startswith(start):
                    left_out.add(start + place.removeprefix(start).split(".")[0])
                    return None
            if place == POSITIONS[0]:
                return [Slice(one, lambda whole: whole) for one in POSITIONS]
            return None if place == POSITIONS[1] else place

        load_tensors(module.network.model, folder, rename)
        if left_out:
            logger.info(
                "%s: left out what masks of images do not need: %s.", folder, ", ".join(sorted(left_out))
            )
        return True

    def _build_network(self) -> HFSAM:
        parts = parse_json(self.model)
        # Without this, the decoder's single mask may be replaced by another, depending on its stability.
        parts["mask_decoder_config"]["dynamic_multimask_via_stability"] = False
        parts["prompt_encoder_config"]["image_size"] = self.image_size
        with parsing(
            RecipeError, f"{self.name}: transformers builds no model of this configuration ({{reason}})."
        ):
            return HFSAM(self._model(parts))

    @abstractmethod
    def _model(self, parts: dict[str, Any]) -> nn.Module:
        """Build the model from a configuration, after setting the image size of its image encoder."""


@attrs.frozen(kw_only=True)
class HFSAMSegmentationConfig(HFSAMConfig):
    """SAM 2 in transformers, such as `facebook/sam2.1-hiera-large`."""

    name: ClassVar[str] = "hf_sam"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)
    generation: ClassVar[str] = "SAM 2"
    vision_model: ClassVar[str] = "sam2_vision_model"

    @property
    def images(self) -> ImageFormat:
        """See `SharedSAMConfig.images`."""
        return SAM2_IMAGES

    def _model(self, parts: dict[str, Any]) -> nn.Module:
        from transformers import Sam2Config, Sam2Model

        sides = [self.image_size // stride for stride in (4, 8, 16)]
        parts["vision_config"]["backbone_feature_sizes"] = [[side, side] for side in sides]
        return Sam2Model(Sam2Config(**parts))


@attrs.frozen(kw_only=True)
class HFSAM3SegmentationConfig(HFSAMConfig):
    """SAM 3 in transformers, such as `facebook/sam3`: its image encoder and its tracker, which decodes prompts.

    Its concept detector and the text encoder of the detector are not used, because `[SEG]` prompts specify objects.
    """

    name: ClassVar[str] = "hf_sam3"
    kind: ClassVar[Kind] = Kind.SEGMENTATION
    interface: ClassVar[tuple[int, int]] = (2, 0)
    generation: ClassVar[str] = "SAM 3"
    vision_model: ClassVar[str] = "sam3_vision_model"
    # Files of the whole SAM 3 have these prefixes. In files of the tracker alone, the first one precedes the others.
    moved: ClassVar[Mapping[str, str]] = {
        "tracker_model.": "",
        "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
        "tracker_neck.": "vision_encoder.neck.",
    }
    not_needed: ClassVar[tuple[str, ...]] = (*FOR_VIDEO, "detector_model", "vision_encoder.neck.fpn_layers.3")

    image_size: int = 1008

    @property
    def images(self) -> ImageFormat:
        """See `SharedSAMConfig.images`."""
        backbone = self._configuration.section("vision_config").section("backbone_config", {})
        patch = backbone.whole("patch_size", 14)
        return ImageFormat(stride=patch, size_unit=patch, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def _model(self, parts: dict[str, Any]) -> nn.Module:
        from transformers import Sam3TrackerConfig, Sam3TrackerModel

        vision, side = parts["vision_config"], self.image_size // self.images.stride
        vision["backbone_config"] = (vision.get("backbone_config") or {}) | {"image_size": self.image_size}
        vision["backbone_feature_sizes"] = [[scale * side, scale * side] for scale in (4, 2, 1)]
        # SAM 3 discards a fourth, coarser map, and adds the "no memory" embedding to the third. transformers adds it
        # to the last map that exists, so the fourth must not be there.
        vision["scale_factors"] = [4.0, 2.0, 1.0]
        parts["prompt_encoder_config"]["patch_size"] = self.images.stride
        return Sam3TrackerModel(Sam3TrackerConfig(**parts))
