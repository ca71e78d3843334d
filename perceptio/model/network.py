"""The network: the parts of a model and its forward pass.

Shapes: T packed positions, D hidden width, M vision features, R text targets, V vocabulary. Of a stream: N blocks or
objects, L codes, X predictor rows, n special tokens, m rows, P width of a row, K codebook size.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import InterfaceError
from perceptio.interfaces import (
    Batch,
    Continuous,
    Head,
    HeadConfig,
    LanguageBackbone,
    PerceptionOutput,
    PerceptionTokenizer,
    SequenceLayout,
    StreamOutput,
    TokenBlock,
    VisionEncoder,
    VisionEncoderConfig,
    VisionFeatures,
    parameter_groups,
)
from perceptio.model.parts import origin
from perceptio.ops.images import stack_resized
from perceptio.ops.precision import brought_to
from perceptio.recipe import Recipe, Stream
from perceptio.vocabulary import TokenPlan

SIZE_MULTIPLE = 64
"""The length of the packed sequence, and the number of rows with logits, are padded to a multiple of this (ours).

Libraries select kernels for every new size, and oneDNN, on a CPU, compiles them. Without padding this took a tenth of
a training step of the small Perceptio.
"""


class StreamModule(nn.Module):
    """The parts of one stream.

    Attributes:
        config: The config from which it was built.
        spec: How the stream is written and what it is learned from.
        tokenizer: Converts between the tokens of the stream and what they stand for.
        head: Maps hidden states to the rows that the tokenizer reads; None for a stream of codes.
        feedback: Maps rows to the next inputs; None for a stream that is not fed back.
    """

    def __init__(
        self,
        config: Stream,
        *,
        tokenizer: PerceptionTokenizer,
        head: Head | None = None,
        feedback: Head | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.spec = config.spec
        self.tokenizer = tokenizer
        self.head = head
        self.feedback = feedback

    def encode_image(self, images: Sequence[Tensor]) -> Any:
        """Return the tokenizer's features of images, each RGB [3, H, W] in [0, 1]; None if it needs none."""
        size = self.spec.image_size
        if size is None:
            return None
        return self.tokenizer.encode_image(brought_to(self.tokenizer, stack_resized(images, size)))

    def read(self, hidden_NnD: Tensor) -> Tensor:
        """Map the hidden states of special tokens to rows [N, m, P]; states are passed one by one if fed back."""
        written = self.spec.written
        assert isinstance(written, Continuous) and self.head is not None and self.config.head is not None
        rows = self.config.head.num_rows(hidden_NnD.shape[1])
        return _through(self.head, hidden_NnD, (rows, written.width), self.config.head)

    def next_inputs(self, rows_NmP: Tensor, width: int) -> Tensor:
        """Map rows to the inputs [N, m, D] that are fed back."""
        assert self.feedback is not None and self.config.feedback is not None
        return _through(self.feedback, rows_NmP, (rows_NmP.shape[1], width), self.config.feedback)


class PerceptionNetwork(nn.Module):
    """The parts of a perception-enhanced vision-language model, and its forward pass.

    Parts may have different precisions: inputs of a part are converted to the precision of its weights, and the
    values in answers are float32. So a model can answer under autocast, and after `model.to(torch.bfloat16)`.

    Attributes:
        recipe: The recipe from which it was built.
        plan: The token ids, derived from the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        vision: VisionEncoder,
        vision_head: Head,
        language: LanguageBackbone,
        streams: Mapping[str, StreamModule] | None = None,
        heads: Mapping[str, Head] | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.plan: TokenPlan = recipe.plan
        self.vision = vision
        self.vision_head = vision_head
        self.language = language
        self.streams = nn.ModuleDict(dict(streams or {}))
        self.heads = nn.ModuleDict(dict(heads or {}))

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def stream(self, name: str) -> StreamModule:
        """Return the parts of a stream."""
        return cast(StreamModule, self.streams[name])

    def parts(self) -> dict[str, nn.Module]:
        """Return every part, by its name in `Recipe.parts`."""
        return {name: self.get_submodule(name) for name in self.recipe.parts}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return every parameter group, by the name with which `TrainConfig.train` selects it."""
        groups: dict[str, list[nn.Parameter]] = {}
        for name, part in self.parts().items():
            for group, parameters in parameter_groups(part).items():
                groups[f"{name}.{group}" if group else name] = parameters
        if self.heads:
            groups["heads"] = list(self.heads.parameters())
        return groups

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of the parts that have trainable parameters; frozen parts stay in eval mode."""
        super().train(mode)
        for part in self.parts().values():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def encode_vision(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Return the features of images, each RGB [3, H, W] in [0, 1], projected to the language model's width."""
        features = self.vision(images)
        _check_features(features, len(images), self.recipe.vision)
        width = self.recipe.language.spec.hidden_dim
        mapped_MD = _through(self.vision_head, features.features_MD, (width,), self.recipe.vision_head)
        return attrs.evolve(features, features_MD=mapped_MD)

    def head_of(self, name: str, features_MD: Tensor) -> Tensor:
        """Return the logits [M, K] of a stream's auxiliary head for projected features."""
        width = self.recipe.head_width(name)
        return _through(self.heads[name], features_MD, (width,), self.recipe.heads[name])

    @torch.no_grad()
    def with_targets(self, batch: Batch) -> Batch:
        """Return the batch with the targets of its streams and the codes of its objects, from the tokenizers.

        Args:
            batch: The collated batch, on the model's device.
        """
        streams, ids_T = {}, batch.ids_T
        for name, held in batch.streams.items():
            stream = self.stream(name)
            pictures = [batch.images[number] for number in held.images]
            raw = pictures if stream.spec.target == "image" else held.raw
            held = attrs.evolve(held, targets=stream.tokenizer.targets(raw))
            block = self.plan.streams[name]
            if isinstance(block, TokenBlock) and block.per == "object" and len(held):
                codes_NL = stream.tokenizer.to_codes(held.targets[held.target_N])
                starts_L = torch.tensor(block.starts, device=codes_NL.device)
                tokens_NY = (codes_NL + starts_L)[:, list(block.slot_codes)]
                ids_T = ids_T.index_copy(0, held.slots_NY.flatten(), tokens_NY.flatten())
                held = attrs.evolve(held, codes_NL=codes_NL)
            streams[name] = held
        return attrs.evolve(batch, ids_T=ids_T, streams=streams)

    def forward(self, batch: Batch, required_outputs: Collection[str]) -> PerceptionOutput:
        """Run the model over packed conversations and compute the required outputs.

        The packed sequence is padded to a multiple of `SIZE_MULTIPLE`. The padding is a sample of its own: no other
        slot attends to it, and no output holds it.

        Args:
            batch: The conversations, on the model's device, with targets.
            required_outputs: The names of the fields of `PerceptionOutput` to compute; the others stay None. The
                auxiliary head of a stream is `"heads.NAME"`, a field of a stream `"streams.NAME.FIELD"`.

        Returns:
            The required outputs.
        """
        padding = -len(batch.ids_T) % SIZE_MULTIPLE
        inputs_TD = self.language.embed(F.pad(batch.ids_T, (0, padding)))
        vision = self.encode_vision(batch.images) if batch.images else None
        if vision is not None:
            spoken_of_MD = vision.features_MD[: len(batch.vision_rows_M)].to(inputs_TD.dtype)
            inputs_TD = inputs_TD.index_copy(0, batch.vision_rows_M, spoken_of_MD)
        inputs_TD = self._fed_back(inputs_TD, batch)
        layout = SequenceLayout.packed(
            F.pad(batch.positions_AT, (0, padding)),
            (*batch.lengths, *[padding] * (padding > 0)),
            F.pad(batch.query_positions_AT, (0, padding)),
        )
        hidden_TD = self.language(inputs_TD[None], layout)[0]

        fields: dict[str, Any] = {"vision": vision} if "vision" in required_outputs else {}
        wanted = {
            name: {
                field.rpartition(".")[2] for field in required_outputs if field.startswith(f"streams.{name}.")
            }
            for name, held in batch.streams.items()
            if len(held)
        }
        wanted = {name: inner for name, inner in wanted.items() if inner}
        texts, logits = self._read_logits(hidden_TD, batch, "text_logits_RV" in required_outputs, wanted)
        fields |= texts
        fields["streams"] = {
            name: self._of_codes(name, logits[name], batch, inner)
            if name in logits
            else self._of_special_tokens(name, hidden_TD, batch, inner)
            for name, inner in wanted.items()
        }
        if vision is not None:
            fields["heads"] = {
                name: self.head_of(name, vision.features_MD)
                for name in self.heads
                if f"heads.{name}" in required_outputs
            }
            if fields["heads"]:
                fields["vision"] = vision
        return PerceptionOutput(**fields)

    def _fed_back(self, inputs_TD: Tensor, batch: Batch) -> Tensor:
        """Return the inputs, with the special tokens of streams that are fed back replaced by their target rows."""
        for name, held in batch.streams.items():
            stream = self.stream(name)
            if stream.feedback is not None and len(held):
                rows_NmP = stream.tokenizer.target_rows(held.targets[held.target_N])
                fed_NmD = stream.next_inputs(rows_NmP, inputs_TD.shape[-1]).to(inputs_TD.dtype)
                inputs_TD = inputs_TD.index_copy(0, held.slots_NY.flatten(), fed_NmD.flatten(0, 1))
        return inputs_TD

    def _read_logits(
        self, hidden_TD: Tensor, batch: Batch, text: bool, wanted: Mapping[str, Collection[str]]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Compute the logits of text and, by stream, of blocks of codes, for all rows in one call."""
        blocks = [name for name, _ in self.plan.blocks() if name in wanted]
        rows = [batch.text_rows_R] if text else []
        rows += [batch.streams[name].rows_NX.flatten() for name in blocks]
        if not rows:
            return {}, {}
        counts = [len(one) for one in rows]
        padding = -sum(counts) % SIZE_MULTIPLE
        logits_RV = self.language.logits(hidden_TD[F.pad(torch.cat(rows), (0, padding))])
        parts = list(logits_RV.split([*counts, padding])[:-1])
        texts = {"text_logits_RV": parts.pop(0)} if text else {}
        return texts, {
            name: part.unflatten(0, tuple(batch.streams[name].rows_NX.shape))
            for name, part in zip(blocks, parts, strict=True)
        }

    def _of_codes(self, name: str, logits_NXV: Tensor, batch: Batch, inner: Collection[str]) -> StreamOutput:
        """Compute the required outputs of a stream of codes; soft merging is computed in float32."""
        block, soft = self.plan.streams[name], None
        assert isinstance(block, TokenBlock)
        if "soft" in inner:
            codes_NLV, pictures = logits_NXV[:, 1:-1], self._pictures(name, batch)
            with torch.autocast(logits_NXV.device.type, enabled=False):
                soft = self.stream(name).tokenizer.from_probabilities(
                    [codes_NLV[:, places, span.slice].float().softmax(-1) for places, span in block.runs],
                    *pictures,
                )
        return StreamOutput(logits_NXV=logits_NXV, soft=soft)

    def _of_special_tokens(
        self, name: str, hidden_TD: Tensor, batch: Batch, inner: Collection[str]
    ) -> StreamOutput:
        """Compute the required outputs of a stream of special tokens."""
        stream, held = self.stream(name), batch.streams[name]
        rows_NmP, decoded = stream.read(hidden_TD[held.rows_NX]), None
        if "decoded" in inner:
            decoded = stream.tokenizer.from_rows(rows_NmP, *self._pictures(name, batch))
        return StreamOutput(rows_NmP=rows_NmP, decoded=decoded)

    def _pictures(self, name: str, batch: Batch) -> tuple[Any, Tensor]:
        """Return the features of the images about which a stream is written, and the index of each block's image."""
        held = batch.streams[name]
        return self.stream(name).encode_image([batch.images[number] for number in held.images]), held.image_N


def _check_features(features: Any, images: int, config: VisionEncoderConfig) -> None:
    """Check the type and shapes of vision features against the encoder's spec.

    Raises:
        InterfaceError: The encoder returned something else.
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


def _through(head: nn.Module, x: Tensor, shape: tuple[int, ...], config: HeadConfig) -> Tensor:
    """Apply a head and check the shape of its result.

    Args:
        head: The head.
        x: Vectors [..., in] or rows [N, n, in].
        shape: The required last dimensions of the result: a width, or the number of rows and their width.
        config: The config of the head, for the message.

    Raises:
        InterfaceError: The result has another shape.
    """
    mapped = head(brought_to(head, x))
    wanted = (*x.shape[: x.ndim - len(shape)], *shape)
    if not isinstance(mapped, Tensor) or tuple(mapped.shape) != wanted:
        said = list(mapped.shape) if isinstance(mapped, Tensor) else f"a {type(mapped).__name__}"
        raise InterfaceError(f"{origin(config)} made {said} of {list(x.shape)}; it must make {list(wanted)}.")
    return mapped
