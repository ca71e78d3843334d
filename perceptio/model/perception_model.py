"""The model: the only file that knows how the parts meet in a forward pass.

Shapes: T packed positions, D hidden width, M vision features, R text targets, V vocabulary, S depth blocks,
N objects, s special tokens per object, P prompt width, L depth codes, K codebook size.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from perceptio.interfaces import (
    Batch,
    DepthTokenizer,
    Head,
    LanguageBackbone,
    MaskPrediction,
    PerceptionOutput,
    SegmentationTokenizer,
    SequenceLayout,
    VisionEncoder,
    VisionFeatures,
    parameter_groups,
)
from perceptio.ops.images import stack_resized
from perceptio.ops.precision import brought_to
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.vocabulary import TokenPlan

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from perceptio.model.answer import Answer
    from perceptio.model.generation_settings import GenerationSettings


class PerceptionModel(nn.Module):
    """A vision-language model that can perceive before it answers, put together from its parts.

    Parts may be of different precisions: what enters a part is brought to that of its weights, and depth maps and
    mask logits come out in float32. So `ask` answers under autocast, and after `model.to(torch.bfloat16)`.

    Build it with `perceptio.build_model(recipe)`. Example:

        model = perceptio.load("runs/demo/perceptio")
        answer = model.ask("photo.jpg", "Which point is closest to the camera?", points=[(0.2, 0.5), (0.7, 0.6)])
        print(answer.text)
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

    def train(self, mode: bool = True) -> "PerceptionModel":
        """Training mode for the parts that have something to train; frozen parts stay as they are at inference."""
        super().train(mode)
        for part in self.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def encode_vision(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Features of images, each RGB [3, H, W] in [0, 1], projected to the width of the language model."""
        features = self.vision(images)
        return attrs.evolve(features, features_MD=_through(self.vision_head, features.features_MD))

    def encode_segmentation(self, images: Sequence[Tensor]) -> Any:
        """The segmentation tokenizer's features of images, each RGB [3, H, W] in [0, 1]."""
        assert self.segmentation is not None
        pixels_B3HW = stack_resized(images, self.segmentation.spec.image_size)
        return self.segmentation.encode_image(brought_to(self.segmentation, pixels_B3HW))

    def decode_masks(self, features: Any, hidden_NsD: Tensor, image_index_N: Tensor) -> MaskPrediction:
        """Masks of N objects from the hidden states of their special tokens."""
        assert self.segmentation is not None and self.prompt_head is not None
        return self.segmentation.decode(features, _through(self.prompt_head, hidden_NsD), image_index_N)

    def forward(self, batch: Batch, reads: Collection[str]) -> PerceptionOutput:
        """Run the parts over packed conversations, once each.

        Args:
            batch: The conversations, on the model's device.
            reads: Fields of `PerceptionOutput` that are wanted; the others stay None. A named head is
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

        fields: dict[str, Any] = {"vision": vision} if "vision" in reads else {}
        fields |= self._read_logits(hidden_TD, batch, reads)
        if "masks" in reads and self.prompt_head is not None and batch.prompt_rows_Ns.shape[0]:
            # Only the images somebody segments are encoded.
            used, index_N = batch.mask_image_N.unique(return_inverse=True)
            features = self.encode_segmentation([batch.images[i] for i in used.tolist()])
            fields["masks"] = self.decode_masks(features, hidden_TD[batch.prompt_rows_Ns], index_N)
        if vision is not None:
            fields["heads"] = {
                name: _through(head, vision.features_MD)
                for name, head in self.heads.items()
                if f"heads.{name}" in reads
            }
            if fields["heads"]:
                fields["vision"] = vision
        return PerceptionOutput(**fields)

    def _read_logits(self, hidden_TD: Tensor, batch: Batch, reads: Collection[str]) -> dict[str, Tensor]:
        """Logits of the union of supervised rows in one call, and the soft-merged depth."""
        wants_depth = {"depth_logits_SNV", "soft_depth_S1HW"} & set(reads) and batch.block_rows_SN.shape[
            0
        ] > 0
        rows = [batch.text_rows_R] if "text_logits_RV" in reads else []
        if wants_depth:
            rows.append(batch.block_rows_SN.flatten())
        if not rows:
            return {}
        logits = self.language.logits(hidden_TD[torch.cat(rows)])
        fields = {}
        if "text_logits_RV" in reads:
            fields["text_logits_RV"], logits = logits.tensor_split([len(batch.text_rows_R)])
        if wants_depth:
            logits_SNV = logits.unflatten(0, tuple(batch.block_rows_SN.shape))
            fields["depth_logits_SNV"] = logits_SNV
            if "soft_depth_S1HW" in reads:
                assert self.depth is not None and self.plan.depth is not None
                code_logits_SLK = logits_SNV[:, 1:-1, self.plan.depth.codes.slice]
                with torch.autocast(hidden_TD.device.type, enabled=False):
                    fields["soft_depth_S1HW"] = self.depth.soft_decode(code_logits_SLK.float().softmax(-1))
        return fields

    def ask(
        self,
        image: Any,
        question: str,
        *,
        points: Sequence[tuple[float, float]] = (),
        settings: "GenerationSettings | None" = None,
    ) -> "Answer":
        """Ask one question about an image.

        Asking leaves the model as it is, in training mode too, and several threads may ask at once.

        Args:
            image: A path, a PIL image, a numpy array [H, W, 3] of uint8, or a tensor RGB [3, H, W] in [0, 1].
            question: Any text.
            points: Marked points as (x, y) in [0, 1], x to the right and y down; lettered A, B, … in order.
            settings: How to perceive and decode; None: as the recipe says.

        Returns:
            The answer with the masks, the depth map and the tokens that were written on the way to it.

        Raises:
            InputError: The image cannot be read, the question is empty, a point is outside, or a read-out is asked
                for and no point is marked.
            CheckpointError: The model computes no finite numbers.
        """
        return self.ask_batch([(image, question, points)], settings=settings)[0]

    def ask_batch(
        self,
        questions: Sequence[tuple[Any, str, Sequence[tuple[float, float]]]],
        *,
        settings: "GenerationSettings | None" = None,
    ) -> "list[Answer]":
        """Ask several (image, question, points) at once; an image that several share is encoded once."""
        from perceptio.model.answer import ask_batch

        return ask_batch(self, questions, settings)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        merge_adapters: bool = False,
        adapters_only: bool = False,
        results: "Mapping[str, Any] | Path | str | None" = None,
        license: str | None = None,
    ) -> None:
        """Write a checkpoint with a model card, in place of whatever the folder held.

        Args:
            folder: Where; it is untouched when anything fails.
            max_shard_size: Above which weights are written into several files.
            merge_adapters: Fold the language backbone's adapters into its weights first. This model, too, has none
                afterwards.
            adapters_only: Leave out what parts read from the pretrained weights they name and do not train.
            results: Figures for the card, by data set, or the `metrics.json` that `perceptio eval` wrote.
            license: For the card; None: "apache-2.0", or "other" where parts come from pretrained weights.

        Raises:
            CheckpointError: The folder cannot be written, or there are no adapters to merge or nothing to leave out.
        """
        from perceptio.model.publish import save_pretrained

        save_pretrained(
            self,
            folder,
            max_shard_size=max_shard_size,
            merge_adapters=merge_adapters,
            adapters_only=adapters_only,
            results=results,
            license=license,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        registry: Registry | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> "PerceptionModel":
        """The model in a folder or a repository of the Hugging Face hub, in eval mode on the CPU.

        Args:
            name: A folder, or a hub id, whose files are fetched once and kept.
            registry: Where component names are looked up; None: built-ins and installed plugins.
            weights: Where pretrained weights lie on this machine, by part; see `perceptio.load`.

        Raises:
            CheckpointError: It cannot be found, fetched or built, or is no whole model.
        """
        from perceptio.model.publish import from_pretrained

        return from_pretrained(name, registry=registry, weights=weights)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        api: "HfApi | None" = None,
        **saving: Any,
    ) -> str:
        """Upload a checkpoint with a model card to the Hugging Face hub.

        Args:
            repo_id: `owner/name`; it is created where there is none.
            private: Whether a new repository is hidden from others.
            token: Who writes; None: who is logged in.
            api: How the hub is reached; None: `HfApi(token=token)`.
            saving: Settings of `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: The model cannot be saved so, or the hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi

        from perceptio.model.publish import push_to_hub

        return push_to_hub(self, repo_id, api=api or HfApi(token=token), private=private, **saving)


def _through(head: nn.Module, x: Tensor) -> Tensor:
    return head(brought_to(head, x))
