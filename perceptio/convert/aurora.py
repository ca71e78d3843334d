"""Converts the VQ-VAE of AiT (arXiv 2301.02229), trained by AURORA (arXiv 2412.03548) on relative depth, to `vqvae`.

`vqvae` has the same network, with the same layers and names, and internally reads depth in [-1, 1], too; only the
quantizer's buffers have other names. Sizes are read from the tensors; all other settings are AURORA's.

AiT's own weights for NYU depth have the same tensors but another meaning: metres at 480 pixels. Nothing in a file
distinguishes the two.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.interfaces import DepthTokenizerConfig
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.parts import build_part
from perceptio.ops.pickled_weights import is_state_dict, read_pickled
from perceptio.ops.weights import Slice, load_tensors
from perceptio.registry import Registry
from perceptio.serialize import from_json

GRID = 10
"""Number of rows, and of columns, of AURORA's codes."""
CODEBOOK = "_vq_vae._embedding"
CLUSTER_SIZE, CLUSTER_SUM = "_vq_vae._ema_cluster_size", "_vq_vae._ema_w"
RENAMED = {
    CODEBOOK: "quantizer.vq._codebook.embed",
    CLUSTER_SIZE: "quantizer.vq._codebook.cluster_size",
    CLUSTER_SUM: "quantizer.vq._codebook.embed_avg",
}


def convert_aurora_vqvae(file: Path, out: Path, *, registry: Registry | None = None) -> DepthTokenizerConfig:
    """Write the VQ-VAE of a `.pt` file as a depth tokenizer's folder, for the tokenizer's setting `weights`.

    Args:
        file: A state dict, bare or under the key `weights`, with or without the prefix `module.` in its names.
        out: The tokenizer's folder, which is replaced.
        registry: The registry to find `vqvae` in; None: built-ins and installed plugins.

    Returns:
        The config of the tokenizer.

    Raises:
        CheckpointError: The file is missing, broken, asks to run code or holds something else, with all tensors that
            do not fit; or `out` cannot be written.
    """
    theirs = _state_dict(file)
    config = from_json(_document(file, theirs), registry or Registry.discover())
    assert isinstance(config, DepthTokenizerConfig)
    tokenizer = build_part(config)
    # Buffers that only this library has: the codebook is initialized, and its training is complete.
    ours = {"quantizer.vq._codebook.initted": torch.tensor(True), "frozen": torch.tensor(True)}
    try:
        load_tensors(tokenizer, {**theirs, **ours}, rename=_renamed)
    except CheckpointError as error:
        raise CheckpointError(f"{file} is not AURORA's VQ-VAE: {error}") from error
    save(tokenizer, out, config=config)
    return config


def _state_dict(file: Path) -> dict[str, Tensor]:
    held = read_pickled(file)
    held = held.get("weights", held) if isinstance(held, Mapping) else held
    if not is_state_dict(held):
        raise CheckpointError(
            f"{file} holds no state dict of whole tensors, neither at its top nor under 'weights'."
        )
    tensors = {name.removeprefix("module."): value for name, value in held.items()}
    if CODEBOOK in tensors and tensors[CODEBOOK].ndim and not {CLUSTER_SIZE, CLUSTER_SUM} & tensors.keys():
        # The sums behind the moving averages matter only for training, and may be missing from a file for inference.
        tensors[CLUSTER_SIZE] = torch.ones(len(tensors[CODEBOOK]))
        tensors[CLUSTER_SUM] = tensors[CODEBOOK]
    return tensors


def _document(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the config that follows from the shapes of the tensors."""
    widths: list[int] = []
    while (weight := tensors.get(f"encoder.{2 * len(widths)}.weight")) is not None and weight.shape[-1:] == (
        4,
    ):
        widths.append(len(weight))
    codebook = tensors.get(CODEBOOK)
    if codebook is None or codebook.ndim != 2 or not widths:
        raise CheckpointError(
            f"{file} is not AURORA's VQ-VAE: it lacks {CODEBOOK} or encoder.0.weight; it holds "
            f"{', '.join(list(tensors)[:8]) or 'nothing'}{', …' if len(tensors) > 8 else ''}."
        )
    side = GRID * 2 ** len(widths)
    return {
        "component": "depth:vqvae",
        "codebook_size": codebook.shape[0],
        "latent_dim": codebook.shape[1],
        "widths": widths,
        "residual_blocks": sum(bool(re.fullmatch(r"encoder\.\d+\.net\.0\.weight", name)) for name in tensors),
        "grid": [GRID, GRID],
        "image_size": [side, side],
        "dead_code_threshold": 0.0,
    }


def _renamed(name: str) -> str | Sequence[Slice]:
    # The library's quantizer supports several heads, so its buffers have one more axis.
    return (Slice(RENAMED[name], lambda whole: whole[None]),) if name in RENAMED else name
