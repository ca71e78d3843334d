"""From a recipe to a model: the order of construction, widths, new vocabulary rows, and what trains."""

import logging
import math
from collections.abc import Collection
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from perceptio.interfaces import (
    DepthTokenizer,
    LanguageBackbone,
    TrainableDepthTokenizer,
    device_of,
)
from perceptio.model.groups import check_groups, select_trained
from perceptio.model.network import PerceptionNetwork
from perceptio.model.parts import build_part, load_part
from perceptio.recipe import Recipe
from perceptio.vocabulary import TokenPlan

Network = TypeVar("Network", bound=PerceptionNetwork)

logger = logging.getLogger(__name__)

DECODED_PIXELS = 2**19
"""Codes are decoded for their rows in batches of about so many pixels, which bounds memory: 5 maps of 320 pixels."""
MOST_DECODED = 2048
"""Of larger codebooks nothing is decoded, which would take minutes: their vectors alone say which codes are alike."""


def assemble(
    recipe: Recipe,
    network_class: type[Network],
    *,
    load_weights: bool | Collection[str] = True,
    device: Literal["cpu", "meta"] = "cpu",
) -> Network:
    """Build the model that a recipe describes; see `perceptio.build_model`.

    Args:
        recipe: The recipe; it is checked first.
        network_class: The network, or what users hold it by: `PerceptionModel`.
        load_weights: Whether parts read the trained weights they name, or which of them.
        device: Where it is built; `"meta"`: without values.
    """
    recipe.check()
    reading: Collection[str] = recipe.parts if load_weights is True else load_weights or ()
    if device == "meta":
        reading = ()
    with torch.device(device):
        model = _assembled(recipe, network_class, reading)
    check_groups(model, recipe.train)
    if load_weights is True and device != "meta":
        _initialize_new_rows(model.language, model.plan, model.depth)
    select_trained(model, recipe.train.train)
    return model


def _assembled(recipe: Recipe, network_class: type[Network], reading: Collection[str]) -> Network:
    """The parts, built on the default device, filled where they are to read weights, and put together."""
    specs, width = recipe.specs, recipe.language.spec.hidden_dim
    vision = build_part(recipe.vision)
    language = build_part(recipe.language)
    vision_head = build_part(recipe.vision_head, recipe.vision.spec.feature_dim, width, specs)
    depth = build_part(recipe.depth) if recipe.depth else None
    segmentation = build_part(recipe.segmentation) if recipe.segmentation else None
    prompt_head = None
    if recipe.segmentation and recipe.prompt_head:
        prompt_head = build_part(recipe.prompt_head, width, recipe.segmentation.spec.prompt_dim, specs)
    codes = recipe.depth.spec.codebook_size if recipe.depth else 0
    heads = {name: build_part(config, width, codes, specs) for name, config in recipe.heads.items()}
    parts: dict[str, nn.Module | None] = {
        "vision": vision,
        "vision_head": vision_head,
        "language": language,
        "depth": depth,
        "segmentation": segmentation,
        "prompt_head": prompt_head,
    }
    parts |= {f"heads.{name}": head for name, head in heads.items()}
    for name, config in recipe.parts.items():
        part = parts[name]
        if name in reading and part is not None and not load_part(config, part):
            logger.info("%s (%s:%s) starts from random values.", name, config.kind, config.name)

    if isinstance(depth, TrainableDepthTokenizer):
        depth.freeze()

    language.resize_vocabulary(recipe.plan.size)
    return network_class(
        recipe,
        vision=vision,
        vision_head=vision_head,
        language=language,
        depth=depth,
        segmentation=segmentation,
        prompt_head=prompt_head,
        heads=heads,
    )


def _initialize_new_rows(language: LanguageBackbone, plan: TokenPlan, depth: DepthTokenizer | None) -> None:
    """Start depth codes and location tokens where their meaning puts them (ours; AURORA starts them at random).

    A code's row is a random projection of its codebook vector and of the depth it decodes to; a location
    token's of where its cell lies. Codes that mean nearly the same start nearly the same.
    """
    device = device_of(language)
    generator = torch.Generator().manual_seed(0)
    if depth is not None and plan.depth is not None:
        codes_K = torch.arange(plan.depth.codes.size)
        codebook = getattr(depth, "codebook_KC", None)
        meaning = []
        if codebook is None or len(codes_K) <= MOST_DECODED:
            meaning.append(_waves(_decoded_means(depth)))
        if codebook is not None:
            meaning.append(_standardized(codebook.detach().float().cpu()))
        rows = _projected(torch.cat(meaning, 1), language.spec.hidden_dim, generator)
        language.initialize_rows(codes_K.to(device) + plan.depth.codes.start, rows.to(device))
    h, w = plan.grid
    cells = torch.arange(h * w)
    where = torch.cat([_waves((cells // w + 0.5) / h), _waves((cells % w + 0.5) / w)], 1)
    rows = _projected(where, language.spec.hidden_dim, generator)
    language.initialize_rows(cells.to(device) + plan.locations.start, rows.to(device))


@torch.no_grad()
def _decoded_means(depth: DepthTokenizer) -> Tensor:
    """The mean depth of the map that holds one code alone, for every code: [K], on the CPU."""
    spec = depth.spec
    codes_K = torch.arange(spec.codebook_size, device=device_of(depth))
    at_once = max(1, DECODED_PIXELS // math.prod(spec.image_size))
    means = [
        depth.decode(codes_B[:, None].expand(-1, spec.num_codes)).flatten(1).mean(1)
        for codes_B in codes_K.split(at_once)
    ]
    return torch.cat(means).cpu()


def _waves(values_N: Tensor, count: int = 4) -> Tensor:
    """Sines and cosines [N, 2 * count] of values in [0, 1]: near values get near vectors."""
    frequencies = math.pi * 2.0 ** torch.arange(count)
    return torch.cat(
        [torch.sin(values_N[:, None] * frequencies), torch.cos(values_N[:, None] * frequencies)], 1
    )


def _standardized(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)) / rows.std(0).clamp_min(1e-6)


def _projected(rows: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Rows [N, width] of unit variance: a random projection that keeps which rows are alike."""
    projection = torch.randn(rows.shape[1], width, generator=generator)
    projected = _standardized(rows) @ projection
    return (projected - projected.mean()) / projected.std()
