"""Pretrained language models from transformers, with the attention of this library, new vocabulary rows, and LoRA.

The model is an instance of the official class, of which the trunk and the head are kept. New rows, adapters and all
values outside the official model are float32, whatever the precision of its weights.

Shapes: B rows, T slots, D hidden width, V ids of the text tokenizer, N new rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.backbones.language.hf_settings import canonical, check_sizes, longest_served, parse, refuse
from perceptio.backbones.language.hf_text import (
    CHATML,
    HFTextTokenizer,
    derive_template,
    read_tokenizer,
    vocabulary_size,
)
from perceptio.errors import CheckpointError, InputError, RecipeError, UnknownNameError, near_miss
from perceptio.interfaces import (
    ChatTemplate,
    Kind,
    LanguageBackbone,
    LanguageBackboneConfig,
    LanguageSpec,
    SequenceLayout,
)
from perceptio.ops import hf_attention, internvl_layout
from perceptio.ops.configuration import Configuration
from perceptio.ops.files import check_only, disk_errors, new_folder
from perceptio.ops.foreign import naming, parsing
from perceptio.ops.hub import resolve
from perceptio.ops.kv_cache import KeyValueCache
from perceptio.ops.precision import Precision, published_precision
from perceptio.ops.weights import load_tensors

SETTINGS_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
EXPORTED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
"""The files in a checkpoint that transformers writes."""
HEAD_ROWS = "lm_head.weight"


@attrs.frozen(kw_only=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685) on linear layers, through peft; the defaults are Sa2VA's.

    Attributes:
        rank: The rank of the adapters, at least 1.
        alpha: The output of an adapter is multiplied by `alpha / rank`.
        dropout: The dropout probability of the adapters' inputs, in [0, 1).
        targets: The names of linear layers of the trunk, or their suffixes, such as `"q_proj"`. Empty: all layers.

    Raises:
        RecipeError: A value is out of range.
    """

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05
    targets: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise RecipeError(
                f"lora: rank ({self.rank}) must be at least 1, alpha ({self.alpha}) above 0 and dropout "
                f"({self.dropout}) at least 0 and below 1."
            )


@attrs.frozen
class LogitScaling:
    """How a model scales its logits: by a factor, then with `cap * tanh(logits / cap)`."""

    factor: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the scaled logits."""
        logits = logits * self.factor if self.factor != 1 else logits
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


class HFLanguage(LanguageBackbone):
    """A causal language model of transformers.

    Args:
        spec: The spec; the ids of the text tokenizer are the first `spec.vocab_size` rows of the vocabulary.
        model: The official model, with `hf_attention`. Only its trunk and its head are kept.
        scaling: How it scales its logits.
        max_length: The longest sequence for which its computation follows its configuration.
        make_text_tokenizer: A function that reads the text tokenizer; it is called on first use.
    """

    def __init__(
        self,
        spec: LanguageSpec,
        model: Any,
        scaling: LogitScaling,
        max_length: int,
        make_text_tokenizer: Callable[[], HFTextTokenizer],
    ) -> None:
        super().__init__()
        self.spec = spec
        self.scaling = scaling
        self.max_length = max_length
        self.trunk = model.base_model
        self.prefix: str = model.base_model_prefix
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        self.head = None if tied else model.get_output_embeddings()
        none_ND = torch.empty(0, spec.hidden_dim, dtype=torch.float32)
        self.new_inputs = nn.Parameter(none_ND)
        self.new_outputs = None if tied else nn.Parameter(none_ND.clone())
        self._make_text_tokenizer = make_text_tokenizer
        self._text_tokenizer: HFTextTokenizer | None = None

    @property
    def text_tokenizer(self) -> HFTextTokenizer:
        """See `LanguageBackbone.text_tokenizer`.

        Raises:
            CheckpointError: The config names no files, or they cannot be read.
        """
        if self._text_tokenizer is None:
            self._text_tokenizer = self._make_text_tokenizer()
        return self._text_tokenizer

    def embed(self, ids: Tensor) -> Tensor:
        """See `LanguageBackbone.embed`; if the model scales its embeddings, new rows are scaled, too."""
        table = self.trunk.get_input_embeddings()
        is_new = ids >= self.spec.vocab_size
        rows = table(ids.masked_fill(is_new, 0)).to(self.new_inputs.dtype)
        if not len(self.new_inputs):
            return rows
        new_rows = F.embedding((ids - self.spec.vocab_size).clamp_min(0), self.new_inputs)
        return torch.where(is_new[..., None], new_rows * getattr(table, "scalar_embed_scale", 1.0), rows)

    def forward(
        self, inputs_BTD: Tensor, layout: SequenceLayout, cache: KeyValueCache | None = None
    ) -> Tensor:
        """See `LanguageBackbone.forward`.

        Raises:
            InputError: The sequence is longer than `max_length`.
        """
        extent = hf_attention.visible_extent(layout)
        if extent > self.max_length:
            raise InputError(
                f"A sequence takes {extent} slots, and language:hf serves at most {self.max_length}: use fewer image "
                "tiles or turns, or a larger max_length where the model allows it."
            )
        output = self.trunk(
            inputs_embeds=inputs_BTD.to(self.output_rows.dtype),
            position_ids=layout.positions_ABT[0].long(),
            use_cache=False,
            layout=layout,
            kept=cache,
        )
        return output.last_hidden_state.to(self.new_inputs.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """See `LanguageBackbone.logits`."""
        rows_VD = self.output_rows[: self.spec.vocab_size]
        old = F.linear(hidden.to(rows_VD.dtype), rows_VD).to(hidden.dtype)
        new_ND = self.new_inputs if self.new_outputs is None else self.new_outputs
        return self.scaling(torch.cat([old, F.linear(hidden, new_ND).to(hidden.dtype)], -1))

    def resize_vocabulary(self, size: int) -> None:
        """See `LanguageBackbone.resize_vocabulary`; new rows are in separate tables."""
        extra = size - self.spec.vocab_size - len(self.new_inputs)
        for name, _, old_VD in self._tables():
            held_ND = getattr(self, name)
            std_D, mean_D = torch.std_mean(old_VD, 0)
            drawn_ND = torch.randn_like(held_ND[:1].new_empty(extra, held_ND.shape[1]))
            setattr(self, name, nn.Parameter(torch.cat([held_ND.data, drawn_ND * std_D + mean_D])))

    def initialize_rows(self, ids: Tensor, rows_ND: Tensor) -> None:
        """See `LanguageBackbone.initialize_rows`."""
        for name, _, old_VD in self._tables():
            table = getattr(self, name).data
            table[ids - self.spec.vocab_size] = rows_ND.to(table) * old_VD.std(0).mean().to(table)

    def new_cache(self, batch_size: int, max_length: int) -> KeyValueCache:
        """See `LanguageBackbone.new_cache`."""
        return KeyValueCache(batch_size, max_length)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups `trunk` (the checkpoint's), `vocabulary` (new rows) and `lora` (adapters, if any)."""
        groups: dict[str, list[nn.Parameter]] = {"trunk": [], "vocabulary": []}
        for name, parameter in self.named_parameters():
            if name in ("new_inputs", "new_outputs"):
                groups["vocabulary"].append(parameter)
            else:
                groups.setdefault("lora" if ".lora_" in name else "trunk", []).append(parameter)
        return groups

    def adapt(self, lora: LoRA) -> None:
        """Add adapters to linear layers of the trunk; before training they have no effect.

        Raises:
            UnknownNameError: A target is not a linear layer of the trunk.
        """
        from peft import LoraConfig, inject_adapter_in_model

        linear = [name for name, layer in self.trunk.named_modules() if isinstance(layer, nn.Linear)]
        for target in lora.targets:
            if not any(f".{name}".endswith(f".{target}") for name in linear):
                ends = {name.rpartition(".")[2] for name in linear}
                raise UnknownNameError(f"lora.targets names the layer {target!r}{near_miss(target, ends)}")
        settings = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets or linear),
        )
        # In a container: otherwise peft would search transformers' conversions of older checkpoints.
        inject_adapter_in_model(settings, nn.ModuleList([self.trunk]))
        for name, parameter in self.trunk.named_parameters():
            if ".lora_" in name:
                parameter.data = parameter.data.float()

    def merge(self) -> None:
        """Merge the adapters into the weights of their layers; the result is a backbone without `lora`."""
        for name, layer in list(self._adapted()):
            layer.merge()
            self.trunk.set_submodule(name, layer.get_base_layer())

    def export(self, folder: str | Path, added: Sequence[str]) -> None:
        """Write a plain transformers checkpoint with merged adapters, new rows and the text tokenizer.

        While it is written, adapted layers are in memory twice; call `merge` first to avoid this.

        Args:
            folder: The folder to write. A checkpoint in it is replaced in one rename.
            added: The names of the new ids, in order, from `TokenPlan.name_of`.

        Raises:
            CheckpointError: The number of names is not that of new rows, or the folder cannot be written or holds
                something other than a checkpoint.
        """
        from transformers import AutoModelForCausalLM

        with disk_errors(folder, CheckpointError):
            check_only(folder, known_by=("config.json",), own=EXPORTED)
        size = self.spec.vocab_size + len(self.new_inputs)
        if len(added) != len(self.new_inputs):
            raise CheckpointError(
                f"{len(self.new_inputs)} new rows are to be exported, and {len(added)} names were given for them."
            )
        tensors = self.official_tensors()
        for name, layer in self._adapted():
            weight = layer.get_base_layer().weight.detach()
            tensors[f"{self.prefix}.{name}.weight"] = weight + layer.get_delta_weight("default").to(weight)
        for name, official, old_VD in self._tables():
            tensors[official] = torch.cat([old_VD, getattr(self, name).detach().to(old_VD)])
        config = type(self.trunk.config).from_dict(self.trunk.config.to_dict() | {"vocab_size": size})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=self.output_rows.dtype)
        with disk_errors(folder, CheckpointError), new_folder(folder) as new:
            model.save_pretrained(new, state_dict=tensors)
            self.text_tokenizer.save_with(new, added, first_id=self.spec.vocab_size)

    def official_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the checkpoint, without adapters and new rows, by their official names."""
        tensors = {
            f"{self.prefix}.{name.replace('.base_layer.', '.')}": tensor
            for name, tensor in self.trunk.state_dict().items()
            if ".lora_" not in name
        }
        if self.head is not None:
            tensors[HEAD_ROWS] = self.head.weight.detach()
        return tensors

    @property
    def output_rows(self) -> Tensor:
        """The checkpoint's output embeddings, which are its input embeddings if the two are tied."""
        return (self.trunk.get_input_embeddings() if self.head is None else self.head).weight

    def _tables(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield the attribute name of each table of new rows, and the official name and values of the old rows."""
        inputs = self.trunk.get_input_embeddings().weight
        official = next(name for name, p in self.trunk.named_parameters() if p is inputs)
        yield "new_inputs", f"{self.prefix}.{official}", inputs.detach()[: self.spec.vocab_size]
        if self.head is not None:
            yield "new_outputs", HEAD_ROWS, self.head.weight.detach()[: self.spec.vocab_size]

    def _adapted(self) -> Iterator[tuple[str, Any]]:
        for name, layer in self.trunk.named_modules():
            if hasattr(layer, "lora_A"):
                yield name, layer


@attrs.frozen(kw_only=True)
class HFLanguageConfig(LanguageBackboneConfig):
    """A causal language model of transformers, of a type in `hf_settings.MODEL_TYPES`.

    `HFLanguageConfig.from_pretrained(folder_or_id)` reads all settings from a checkpoint, once. Example:

        HFLanguageConfig.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct", lora=LoRA(rank=64, alpha=128))

    Attributes:
        model: The model's whole configuration, as JSON.
        text_vocab_size: The number of ids of the text tokenizer. New ids follow these; they replace rows with which a
            checkpoint pads its vocabulary.
        template: The strings around the parts of a conversation.
        text_tokenizer_files: The folder or hub id of the text tokenizer's files. Checkpoints of this library have
            their own copy.
        weights: A folder or hub id. None: random values. If set, `build` leaves values uninitialized for
            `load_weights`.
        dtype: The precision of the checkpoint's weights.
        lora: The adapters; None for none.
        gradient_checkpointing: Whether each layer's activations are recomputed in the backward pass to save memory.
        max_length: The longest sequence. None: that of the model. Set it to use a model with sliding windows or
            changing rotary positions that have no effect within this length.

    Raises:
        RecipeError: The configuration is invalid or not supported, or does not match `text_vocab_size`.
    """

    name: ClassVar[str] = "hf"
    kind: ClassVar[Kind] = Kind.LANGUAGE
    interface: ClassVar[tuple[int, int]] = (2, 0)

    model: str
    text_vocab_size: int
    template: ChatTemplate = CHATML
    text_tokenizer_files: str | None = attrs.field(default=None, metadata={"fingerprint": "ignore"})
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})
    dtype: Precision = "float32"
    lora: LoRA | None = None
    gradient_checkpointing: bool = False
    max_length: int | None = None

    def __attrs_post_init__(self) -> None:
        settings = self._settings
        refuse(settings, self.max_length)
        if not 0 < self.text_vocab_size <= settings["vocab_size"]:
            raise RecipeError(
                f"language:hf: the text tokenizer has {self.text_vocab_size} ids and the model "
                f"{settings['vocab_size']} rows; the two do not belong together."
            )

    @classmethod
    def from_pretrained(cls, source: str | Path, **settings: Any) -> Self:
        """Create the config of a checkpoint from its files.

        Args:
            source: A local folder, or a hub id.
            **settings: Fields to change, such as `lora`, or `weights=None` for random values.

        Raises:
            CheckpointError: The files are missing or cannot be read.
            RecipeError: The model needs something that is not supported.
        """
        from transformers import AutoConfig

        folder = resolve(str(source), SETTINGS_FILES)
        again = "copy or download the model's files again"
        check_sizes(Configuration.read(folder / "config.json", CheckpointError, again))
        with parsing(
            CheckpointError, f"{source} holds no configuration that transformers reads ({{reason}})."
        ):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model = canonical(config)
        tokenizer = read_tokenizer(folder)
        with naming(folder / "config.json"):
            found: dict[str, Any] = {
                "model": model,
                "text_vocab_size": vocabulary_size(tokenizer),
                "text_tokenizer_files": str(folder),
                "weights": str(source),
                "dtype": settings.get("dtype") or published_precision(config.dtype),
            }
            if "template" not in settings:
                found["template"] = derive_template(tokenizer)
            return cls(**(found | settings))

    @property
    def spec(self) -> LanguageSpec:
        """See `LanguageBackboneConfig.spec`."""
        settings = self._settings
        return LanguageSpec(
            vocab_size=self.text_vocab_size,
            hidden_dim=settings["hidden_size"],
            position_axes=1,
            max_length=longest_served(settings) if self.max_length is None else self.max_length,
        )

    def with_text_tokenizer(self, folder: Path) -> Self:
        """See `LanguageBackboneConfig.with_text_tokenizer`."""
        return attrs.evolve(self, text_tokenizer_files=str(folder))

    def build(self) -> HFLanguage:
        """See `LanguageBackboneConfig.build`."""
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.initialization import no_init_weights

        with parsing(
            RecipeError, "language:hf: transformers cannot build the configuration in model ({reason})."
        ):
            config = AutoConfig.for_model(**self._settings)
            refuse(config.to_dict(), self.max_length)
            # Values that load_weights will replace need not be initialized.
            with no_init_weights() if self.weights is not None else nullcontext():
                model = AutoModelForCausalLM.from_config(
                    config, dtype=getattr(torch, self.dtype), attn_implementation=hf_attention.register()
                )
            model.tie_weights()
            if self.gradient_checkpointing:
                # The name of this method since transformers 5.24, and before.
                enable = getattr(
                    model, "activation_checkpointing_enable", model.gradient_checkpointing_enable
                )
                enable({"use_reentrant": False})
                # Non-reentrant checkpointing does not need these hooks, which cannot be pickled.
                model.disable_input_require_grads()
            scaling = LogitScaling(
                factor=getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0),
                cap=getattr(config, "final_logit_softcapping", None),
            )
        max_length = longest_served(self._settings) if self.max_length is None else self.max_length
        backbone = HFLanguage(self.spec, model, scaling, max_length, self._read_text_tokenizer)
        if self.lora is not None:
            backbone.adapt(self.lora)
        return backbone

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`; from an InternVL only the tensors of the language model are read.

        Raises:
            CheckpointError: The checkpoint is missing, or its tensors do not match the model; the message lists them.
        """
        if self.weights is None:
            return False
        assert isinstance(module, HFLanguage)
        folder = resolve(self.weights, (*SETTINGS_FILES, "*.safetensors"))
        tensors = {HEAD_ROWS: module.output_rows.detach(), **module.official_tensors()}
        heads = self._settings["num_attention_heads"]
        places = partial(
            internvl_layout.language,
            num_heads=heads,
            num_kv_heads=self._settings.get("num_key_value_heads") or heads,
        )
        load_tensors(tensors, folder, places)
        return True

    @property
    def _settings(self) -> dict[str, Any]:
        return parse(self.model)

    def _read_text_tokenizer(self) -> HFTextTokenizer:
        if self.text_tokenizer_files is None:
            raise CheckpointError(
                "language:hf has no text tokenizer: set text_tokenizer_files to the folder that holds its files."
            )
        return HFTextTokenizer(
            resolve(self.text_tokenizer_files, SETTINGS_FILES), self.template, self.text_vocab_size
        )
