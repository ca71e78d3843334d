"""A depth teacher with random weights, as transformers saves it, that depends on every one of its tensors."""

from pathlib import Path

import torch


def official_teacher(folder: Path, seed: int = 0, **changes):
    """A tiny `DepthAnythingForDepthEstimation`, saved into a folder."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    backbone = {
        "model_type": "dinov2",
        "image_size": 28,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 4,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    }
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 6, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        **changes,
    )
    model = DepthAnythingForDepthEstimation(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator))
        # A rectifier comes last: lifted, it passes every value on.
        model.head.conv3.bias.fill_(3.0)
    model.save_pretrained(folder)
    return model
