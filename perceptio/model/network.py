"""What is learned: the parts of a model, and how they meet in a forward pass.

Shapes: T packed positions, D hidden width, M vision features, R text targets, V vocabulary, S depth blocks,
N objects, s special tokens per object, P prompt width, L depth codes, K codebook size.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import InterfaceError
from perceptio.interfaces import (
    Batch,
    DepthTokenizer,
    Head,
    HeadConfig,
    LanguageBackbone,
    MaskPrediction,
    PerceptionOutput,
    SegmentationTokenizer,
    SequenceLayout,
    VisionEncoder,
    VisionEncoderConfig,
    VisionFeatures,
    parameter_groups,
)
from perceptio.model.parts import origin
from perceptio.ops.images import stack_resized
from perceptio.ops.precision import brought_to
from perceptio.recipe import Recipe
from perceptio.vocabulary import TokenPlan


class PerceptionNetwork(nn.Module):
    """The parts of a perception-enhanced vision-language model, and its forward pass.

    Parts may be of different precisions: what enters a part is brought to that of its weights, and depth maps and
    mask logits come out in float32. So a model answers under autocast, and after `model.to(torch.bfloat16)`.

    Attributes:
        recipe: What it was built from.
        plan: The token ids that follow from its parts.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        vision: VisionEncoder,
        vision_head: Head,
        language: LanguageBackbone,
        depth: DepthTokenizer | None = None,
        segmentation: SegmentationTokenizer | None = None,
        prompt_head: Head | None = None,
        heads: Mapping[str, Head] | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.plan: TokenPlan = recipe.plan
        self.vision = vision
        self.vision_head = vision_head
        self.language = language
        self.depth = depth
        self.segmentation = segmentation
        self.prompt_head = prompt_head
        self.heads = nn.ModuleDict(dict(heads or {}))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter group by the name with which `TrainConfig.train` selects it."""
        groups: dict[str, list[nn.Parameter]] = {}
        for name, part in self.named_children():
            for group, parameters in parameter_groups(part).items():
                groups[f"{name}.{group}" if group else name] = parameters
        return groups

    def train(self, mode: bool = True) -> Self:
        """Training mode for the parts that have something to train; frozen parts stay as they are at inference."""
        super().train(mode)
        for part in self.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def encode_vision(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Features of images, each RGB [3, H, W] in [0, 1], projected to the width of the language model."""
        features = self.vision(images)
        _check_features(features, len(images), self.recipe.vision)
        width = self.recipe.language.spec.hidden_dim
        mapped_MD = _through(self.vision_head, features.features_MD, width, self.recipe.vision_head)
        return attrs.evolve(features, features_MD=mapped_MD)

    def encode_segmentation(self, images: Sequence[Tensor]) -> Any:
        """The segmentation tokenizer's features of images, each RGB [3, H, W] in [0, 1]."""
        assert self.segmentation is not None
        pixels_B3HW = stack_resized(images, self.segmentation.spec.image_size)
        return self.segmentation.encode_image(brought_to(self.segmentation, pixels_B3HW))

    def decode_masks(self, features: Any, hidden_NsD: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Masks of N objects from the hidden states of their special tokens."""
        assert self.segmentation is not None and self.prompt_head is not None and self.recipe.prompt_head
        width = self.segmentation.spec.prompt_dim
        prompts_NsP = _through(self.prompt_head, hidden_NsD, width, self.recipe.prompt_head)
        return self.segmentation.decode(features, prompts_NsP, image_index_N)

    def forward(self, batch: Batch, required_outputs: Collection[str]) -> PerceptionOutput:
        """Run the parts over packed conversations, once each.

        Args:
            batch: The conversations, on the model's device.
            required_outputs: Fields of `PerceptionOutput` that are wanted; the others stay None. A named head is
                `"heads.NAME"`.

        Returns:
            The fields.
        """
        inputs_TD = self.language.embed(batch.ids_T)
        vision = self.encode_vision(batch.images) if batch.images else None
        if vision is not None:
            spoken_of_MD = vision.features_MD[: len(batch.vision_rows_M)].to(inputs_TD.dtype)
            inputs_TD = inputs_TD.index_copy(0, batch.vision_rows_M, spoken_of_MD)
        layout = SequenceLayout.packed(batch.positions_AT, batch.lengths, batch.query_positions_AT)
        hidden_TD = self.language(inputs_TD[None], layout)[0]

        fields: dict[str, Any] = {"vision": vision} if "vision" in required_outputs else {}
        fields |= self._read_logits(hidden_TD, batch, required_outputs)
        if "masks" in required_outputs and self.prompt_head is not None and batch.prompt_rows_Ns.shape[0]:
            # Only the images somebody segments are encoded.
            used, index_N = batch.mask_image_N.unique(return_inverse=True)
            features = self.encode_segmentation([batch.images[i] for i in used.tolist()])
            fields["masks"] = self.decode_masks(features, hidden_TD[batch.prompt_rows_Ns], index_N)
        if vision is not None:
            codes = self.depth.spec.codebook_size if self.depth else 0
            fields["heads"] = {
                name: _through(head, vision.features_MD, codes, self.recipe.heads[name])
                for name, head in self.heads.items()
                if f"heads.{name}" in required_outputs
            }
            if fields["heads"]:
                fields["vision"] = vision
        return PerceptionOutput(**fields)

    def _read_logits(
        self, hidden_TD: Tensor, batch: Batch, required_outputs: Collection[str]
    ) -> dict[str, Tensor]:
        """Logits of the union of supervised rows in one call, and the soft-merged depth."""
        wants_depth = {"depth_logits_SNV", "soft_depth_S1HW"} & set(
            required_outputs
        ) and batch.block_rows_SN.shape[0] > 0
        rows = [batch.text_rows_R] if "text_logits_RV" in required_outputs else []
        if wants_depth:
            rows.append(batch.block_rows_SN.flatten())
        if not rows:
            return {}
        logits = self.language.logits(hidden_TD[torch.cat(rows)])
        fields = {}
        if "text_logits_RV" in required_outputs:
            fields["text_logits_RV"], logits = logits.tensor_split([len(batch.text_rows_R)])
        if wants_depth:
            logits_SNV = logits.unflatten(0, tuple(batch.block_rows_SN.shape))
            fields["depth_logits_SNV"] = logits_SNV
            if "soft_depth_S1HW" in required_outputs:
                assert self.depth is not None and self.plan.depth is not None
                code_logits_SLK = logits_SNV[:, 1:-1, self.plan.depth.codes.slice]
                with torch.autocast(hidden_TD.device.type, enabled=False):
                    fields["soft_depth_S1HW"] = self.depth.soft_decode(code_logits_SLK.float().softmax(-1))
        return fields


def _check_features(features: Any, images: int, config: VisionEncoderConfig) -> None:
    """Refuse what is no features under the encoder's spec, by shapes alone.

    Raises:
        InterfaceError: The encoder made something else.
    """
    if isinstance(features, VisionFeatures):
        count, width = sum(features.counts), config.spec.feature_dim
        shapes = tuple(features.features_MD.shape), tuple(features.centers_M2.shape)
        if len(features.counts) == images and shapes == ((count, width), (count, 2)):
            return
        said = f"features {list(shapes[0])} with centers {list(shapes[1])} and counts {features.counts}"
        wanted = f"features [M, {width}] with centers [M, 2], M being the sum of a count for each image"
    else:
        said, wanted = f"a {type(features).__name__}", "VisionFeatures"
    raise InterfaceError(f"{origin(config)} made {said} of {images} images; it must make {wanted}.")


def _through(head: nn.Module, x: Tensor, width: int, config: HeadConfig) -> Tensor:
    """What a head makes of vectors.

    Raises:
        InterfaceError: It makes something else than vectors of the width that it was built for.
    """
    mapped = head(brought_to(head, x))
    wanted = (*x.shape[:-1], width)
    if not isinstance(mapped, Tensor) or tuple(mapped.shape) != wanted:
        said = list(mapped.shape) if isinstance(mapped, Tensor) else f"a {type(mapped).__name__}"
        raise InterfaceError(f"{origin(config)} made {said} of {list(x.shape)}; it must make {list(wanted)}.")
    return mapped
