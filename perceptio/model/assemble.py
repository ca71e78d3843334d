"""Build a model from a recipe: construct the parts, load weights, add vocabulary rows, and select what trains."""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from perceptio.interfaces import Continuous, TrainableTokenizer, device_of, without_weights
from perceptio.model.groups import check_groups, select_trained
from perceptio.model.network import PerceptionNetwork, StreamModule
from perceptio.model.parts import build_part, load_part
from perceptio.ops.undrawn import without_drawing, without_values
from perceptio.recipe import Recipe, Stream

Network = TypeVar("Network", bound=PerceptionNetwork)
Parameters = Literal["drawn", "open", "absent"]
BUILDERS: dict[Parameters, Callable[[Callable[[], Any]], Any]] = {
    "drawn": lambda build: build(),
    "open": without_drawing,
    "absent": without_values,
}

logger = logging.getLogger(__name__)


def assemble(
    recipe: Recipe,
    network_class: type[Network],
    *,
    load_weights: bool | Collection[str] = True,
    device: Literal["cpu", "meta"] = "cpu",
    parameters: Parameters = "drawn",
) -> Network:
    """Build the model that a recipe describes; see `perceptio.build_model`.

    Args:
        recipe: The recipe; it is checked first.
        network_class: The class of the model: `PerceptionNetwork` or `PerceptionModel`.
        load_weights: Whether parts load the trained weights that they name, or the names of the parts that do.
        device: The device on which the model is built; on `"meta"` it has no values.
        parameters: The initial values of parameters. `"drawn"`: random values. `"open"`: uninitialized, if files will
            provide all of them. `"absent"`: on the meta device, while everything else has values.
    """
    recipe.check()
    reading: Collection[str] = recipe.parts if load_weights is True else load_weights or ()
    if device == "meta":
        reading = ()
    configs = dict(recipe.parts)
    if parameters == "drawn" and device == "cpu":
        # A part that names weights may leave its values uninitialized, so it is built without them if not read.
        configs |= {
            name: without_weights(config) for name, config in configs.items() if not _reads(name, reading)
        }
    with torch.device(device):
        model = _assembled(recipe, network_class, configs, reading, BUILDERS[parameters])
    check_groups(model, recipe.train)
    if load_weights is True and device != "meta":
        _initialize_new_rows(model)
    select_trained(model, recipe.train.train)
    return model


def _assembled(
    recipe: Recipe,
    network_class: type[Network],
    configs: Mapping[str, Any],
    reading: Collection[str],
    builder: Callable[[Callable[[], Network]], Network],
) -> Network:
    """Build the model on the default device, load the weights of the parts in `reading`, and add vocabulary rows."""

    def built() -> Network:
        model = _put_together(recipe, network_class, configs)
        if not reading:
            model.language.resize_vocabulary(recipe.plan.size)
        return model

    model = builder(built)
    if reading:
        parts = model.parts()
        for name, config in recipe.parts.items():
            if _reads(name, reading) and not load_part(config, parts[name]):
                logger.info("%s (%s:%s) starts from random values.", name, config.kind, config.name)
        # New rows are drawn to resemble the rows that were loaded.
        model.language.resize_vocabulary(recipe.plan.size)
    return model


def _reads(part: str, reading: Collection[str]) -> bool:
    """Return whether a part should load the weights that it names, or those of a part that it holds."""
    return any(one == part or one.startswith(f"{part}.") for one in reading)


def _put_together(recipe: Recipe, network_class: type[Network], configs: Mapping[str, Any]) -> Network:
    """Build all parts from their configs and assemble them to a network."""
    specs, width = recipe.specs, recipe.language.spec.hidden_dim

    def built(name: str, *arguments: Any) -> Any:
        return build_part(configs[name], *arguments)

    def stream_built(stream: Stream) -> StreamModule:
        where, written = f"streams.{stream.name}", stream.spec.written
        tokenizer, head, feedback = built(f"{where}.tokenizer"), None, None
        if isinstance(written, Continuous):
            head = built(f"{where}.head", width, written.width, specs) if stream.head else None
            feedback = built(f"{where}.feedback", written.width, width, specs) if stream.feedback else None
        return StreamModule(stream, tokenizer=tokenizer, head=head, feedback=feedback)

    vision, language = built("vision"), built("language")
    vision_head = built("vision_head", recipe.vision.spec.feature_dim, width, specs)
    # Streams of codes are built first, so that trained parts get the same random values in any order of streams.
    ordered = sorted(recipe.streams, key=lambda stream: isinstance(stream.spec.written, Continuous))
    streams = {stream.name: stream_built(stream) for stream in ordered}
    model = network_class(
        recipe,
        vision=vision,
        vision_head=vision_head,
        language=language,
        streams={stream.name: streams[stream.name] for stream in recipe.streams},
        heads={name: built(f"heads.{name}", width, recipe.head_width(name), specs) for name in recipe.heads},
    )
    for stream in streams.values():
        if isinstance(stream.tokenizer, TrainableTokenizer):
            stream.tokenizer.freeze()
    return model


def _initialize_new_rows(model: PerceptionNetwork) -> None:
    """Initialize the rows of codes, location tokens and levels by meaning (ours; AURORA initializes codes randomly).

    The row of a code is a random projection of its codebook vector and of what it decodes to. The row of a location
    token is a projection of the position of its cell, and that of a level of its value. So codes with similar meaning
    start with similar rows.
    """
    language, plan = model.language, model.plan
    device = device_of(language)
    generator = torch.Generator().manual_seed(0)
    for name, block in plan.blocks():
        meanings = model.stream(name).tokenizer.code_meanings()
        for span, meaning in zip(block.codebooks, meanings, strict=True):
            known = []
            if meaning.values_KV is not None:
                known += [_waves(values_K) for values_K in meaning.values_KV.float().cpu().T]
            if meaning.vectors_KC is not None:
                known.append(_standardized(meaning.vectors_KC.detach().float().cpu()))
            if known:
                rows = _projected(torch.cat(known, 1), language.spec.hidden_dim, generator)
                ids_K = torch.arange(span.start, span.start + span.size, device=device)
                language.initialize_rows(ids_K, rows.to(device))
    h, w = plan.grid
    cells = torch.arange(h * w)
    where = torch.cat([_waves((cells // w + 0.5) / h), _waves((cells % w + 0.5) / w)], 1)
    rows = _projected(where, language.spec.hidden_dim, generator)
    language.initialize_rows(cells.to(device) + plan.locations.start, rows.to(device))
    if plan.levels is not None:
        levels = torch.arange(plan.levels.size)
        rows = _projected(_waves((levels + 0.5) / plan.levels.size), language.spec.hidden_dim, generator)
        language.initialize_rows(levels.to(device) + plan.levels.start, rows.to(device))


def _waves(values_N: Tensor, count: int = 4) -> Tensor:
    """Return sines and cosines [N, 2 * count] of values in [0, 1]; similar values have similar vectors."""
    frequencies = math.pi * 2.0 ** torch.arange(count)
    return torch.cat(
        [torch.sin(values_N[:, None] * frequencies), torch.cos(values_N[:, None] * frequencies)], 1
    )


def _standardized(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) / rows.std(0).clamp_min(1e-6)


def _projected(rows: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Project rows randomly to [N, width] with zero mean and unit variance; similar rows stay similar."""
    projection = torch.randn(rows.shape[1], width, generator=generator)
    projected = _standardized(rows) @ projection
    return (projected - projected.mean()) / projected.std()
