"""Converts Sa2VA (arXiv 2501.04001), from the Hugging Face export of its InternVL models, to the model of a recipe.

For each part that the recipe has, it reads the vision encoder and its projector (`internvit`, `mlp`), the language
model (`hf`) with the row of `[SEG]`, the projector of prompts (`prompt_mlp`), and SAM 2 without memory (`sam2`).
Tensors without a place, and places without a tensor, are reported.

The rows of the text tokenizer's own ids are copied unchanged, so the recipe's language model must be the one that the
export was trained from.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.interfaces import Continuous
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.ops import internvl_layout
from perceptio.ops.configuration import Configuration
from perceptio.ops.files import new_file
from perceptio.ops.foreign import parsing
from perceptio.ops.weights import Slice, load_tensors, read_headers
from perceptio.recipe import Recipe

REPORT_FILE = "conversion_report.txt"
SEG = "[SEG]"
SAM2 = "grounding_encoder.sam2_model."
PROMPT = "text_hidden_fcs."
INPUT_ROWS, OUTPUT_ROWS = "language.trunk.embed_tokens.weight", "language.head.weight"
NEW_ROWS = {INPUT_ROWS: "language.new_inputs", OUTPUT_ROWS: "language.new_outputs"}
"""The tables of rows for the text tokenizer's ids, and those for the ids that the library adds."""


@attrs.frozen(kw_only=True)
class ConversionReport:
    """What happened to each tensor.

    Attributes:
        loaded: Tensors of the export, and their places in the model.
        not_in_recipe: Tensors of the export that have no place in the model, and why.
        not_in_checkpoint: Tensors of the model that the export lacks; they keep the recipe's initial values.
    """

    loaded: Mapping[str, tuple[str, ...]]
    not_in_recipe: Mapping[str, str]
    not_in_checkpoint: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"loaded: {theirs} -> {', '.join(ours)}" for theirs, ours in self.loaded.items()]
        lines += [f"not in this recipe: {theirs} ({why})" for theirs, why in self.not_in_recipe.items()]
        lines += [f"not in the checkpoint: {ours}" for ours in self.not_in_checkpoint]
        return "\n".join(lines) + "\n"


def convert_sa2va(folder: Path, recipe: Recipe, out: Path) -> ConversionReport:
    """Write a checkpoint of the recipe's model with the weights of an export, and a `conversion_report.txt`.

    Args:
        folder: The export: `config.json`, the text tokenizer's files, safetensors.
        recipe: The recipe; parts that name weights of their own load them first.
        out: The checkpoint's folder, which is replaced.

    Raises:
        CheckpointError: The folder is not such an export, is broken, or has nothing for this recipe; or `out` cannot
            be written.
    """
    export = _Export.read(folder, _stream_of_masks(recipe))
    model = build_model(recipe)
    places = _places(model)
    plan: dict[str, Sequence[Slice]] = {}
    homeless: dict[str, str] = {}
    for name, header in read_headers(folder).items():
        parts = export.parts(name, recipe.language.spec.vocab_size, places)
        why = _misfit(parts, header, places)
        if why is None:
            plan[name] = parts
        else:
            homeless[name] = why
    if not plan:
        name, why = next(iter(homeless.items()), ("it", "it has no tensors"))
        raise CheckpointError(
            f"{folder} has no tensor for a part of {recipe.name}; of the first, {name}: {why}."
        )
    filled = {part.name for parts in plan.values() for part in parts}
    load_tensors({name: places[name] for name in filled}, folder, rename=plan.get)
    report = ConversionReport(
        loaded={name: tuple(part.name for part in parts) for name, parts in plan.items()},
        not_in_recipe=homeless,
        not_in_checkpoint=tuple(name for name in places if name not in filled),
    )
    save(model, out, add=lambda new: _write_report(new, report))
    return report


def _write_report(folder: Path, report: ConversionReport) -> None:
    with new_file(folder / REPORT_FILE) as new:
        new.write_text(str(report), encoding="utf-8")


@attrs.frozen(kw_only=True)
class _Export:
    """The facts in the files beside the tensors, and the recipe's stream for the masks.

    Attributes:
        num_heads: Number of attention heads, to split fused keys and queries.
        num_kv_heads: Number of heads of keys and values.
        seg: The id of `[SEG]`.
        stream: The recipe's stream of masks.
    """

    num_heads: int
    num_kv_heads: int
    seg: int
    stream: str

    @classmethod
    def read(cls, folder: Path, stream: str) -> "_Export":
        again = "name the folder of a Sa2VA export of an InternVL model"
        config = Configuration.read(folder / "config.json", CheckpointError, again)
        language = config.section("llm_config")
        heads = language.whole("num_attention_heads", high=1000)
        added = _added_ids(folder)
        if SEG not in added:
            raise CheckpointError(f"{folder} has no token {SEG} in its text tokenizer's files: {again}.")
        return cls(
            num_heads=heads,
            num_kv_heads=language.whole("num_key_value_heads", heads, high=1000),
            seg=added[SEG],
            stream=stream,
        )

    def parts(self, name: str, text_vocab: int, places: Mapping[str, Tensor]) -> Sequence[Slice]:
        """Return the places of a tensor, by the names of `_places`; empty if it belongs to nothing that is read."""
        if name.startswith(PROMPT):
            return [_whole(f"streams.{self.stream}.head.layers.{name.removeprefix(PROMPT)}")]
        if name.startswith(SAM2):
            return [_whole(f"streams.{self.stream}.tokenizer.network.{name.removeprefix(SAM2)}")]
        if internvl_layout.PROJECTOR.match(name):
            found: str | Sequence[Slice] | None = internvl_layout.projector(name)
            return _under("vision_head.layers.", found)
        if internvl_layout.VISION.match(name):
            return _under("vision.model.", internvl_layout.vision(name))
        if not internvl_layout.LANGUAGE.match(name):
            return []
        found = internvl_layout.language(name, self.num_heads, self.num_kv_heads)
        if found == "lm_head.weight":
            return self._rows(OUTPUT_ROWS, text_vocab, places)
        if found == "model.embed_tokens.weight":
            return self._rows(INPUT_ROWS, text_vocab, places)
        return [
            attrs.evolve(part, name=part.name.replace("model.", "language.trunk.", 1))
            for part in _under("", found)
        ]

    def _rows(self, table: str, text_vocab: int, places: Mapping[str, Tensor]) -> Sequence[Slice]:
        """Return the rows of the text tokenizer's own ids, and that of `[SEG]`, an id that the library adds here."""
        own = Slice(table, lambda whole: whole[:text_vocab])
        new = _seg_row(table)
        return [own, Slice(new, lambda whole: whole[self.seg : self.seg + 1])] if new in places else [own]


def _places(model: PerceptionModel) -> dict[str, Tensor]:
    """Return the model's tensors by name: adapted layers by plain names, and only the relevant rows of tables."""
    places = {name.replace(".base_layer.", "."): value for name, value in model.state_dict().items()}
    plan = model.plan
    added = {name: span.start for name, span in plan.names}
    for table, new in NEW_ROWS.items():
        if table in places:
            places[table] = places[table][: plan.base_vocab]
        if new in places and SEG in added:
            row = added[SEG] - plan.base_vocab
            places[_seg_row(table)] = places[new][row : row + 1]
    return places


def _stream_of_masks(recipe: Recipe) -> str:
    """Return the stream that is written with `[SEG]`, or otherwise the name that such a stream would have."""
    for stream in recipe.streams:
        if isinstance(stream.spec.written, Continuous) and SEG in stream.spec.written.tokens:
            return stream.name
    return "segmentation"


def _seg_row(table: str) -> str:
    return f"{NEW_ROWS[table]}, the row of {SEG}"


def _misfit(parts: Sequence[Slice], header: Tensor, places: Mapping[str, Tensor]) -> str | None:
    """Return why a tensor cannot be used, or None."""
    if not parts:
        return "nothing reads it"
    for part in parts:
        if part.name not in places:
            return f"there is no {part.name}"
        try:
            shape = tuple(part.take(header).shape)
        except Exception:
            return f"its shape {tuple(header.shape)} cannot be divided for {part.name}"
        if shape != places[part.name].shape:
            return f"its shape is {shape}, and that of {part.name} {tuple(places[part.name].shape)}"
    return None


def _whole(name: str) -> Slice:
    return Slice(name, lambda whole: whole)


def _under(prefix: str, found: str | Sequence[Slice] | None) -> list[Slice]:
    if found is None:
        return []
    parts = [_whole(found)] if isinstance(found, str) else found
    return [attrs.evolve(part, name=prefix + part.name) for part in parts]


def _added_ids(folder: Path) -> dict[str, int]:
    """Return the ids of tokens that were added to a text tokenizer, from whichever of its files lists them."""
    ids: dict[str, int] = {}
    for name, listed in (
        ("tokenizer.json", lambda held: {one["content"]: one["id"] for one in held["added_tokens"]}),
        (
            "tokenizer_config.json",
            lambda held: {
                one["content"]: int(key) for key, one in held.get("added_tokens_decoder", {}).items()
            },
        ),
        ("added_tokens.json", dict),
    ):
        file = folder / name
        if file.is_file():
            held = Configuration.read(file, CheckpointError, "copy or download it again").values
            with parsing(CheckpointError, f"{file} does not list its added tokens ({{reason}})."):
                ids |= listed(held)
    return {name: number for name, number in ids.items() if type(number) is int and number >= 0}
