"""Configurations of open_clip as small as they can be, made known through its own door."""

import functools
import json
import tempfile
from pathlib import Path

VIT, RESNET, TIMM, NO_MAP = "small-vit", "small-resnet", "small-timm", "small-without-map"
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
VISION = {
    VIT: {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 3},
    RESNET: {"image_size": 32, "width": 8, "head_width": 8, "layers": [1, 1, 1, 1]},
    TIMM: {"image_size": 32, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"},
    NO_MAP: {"image_size": 32, "timm_model_name": "pit_ti_224", "timm_pool": "", "timm_proj": "linear"},
}


@functools.cache
def register() -> None:
    """Let open_clip know them."""
    import open_clip

    with tempfile.TemporaryDirectory() as folder:
        for name, vision in VISION.items():
            settings = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}
            (Path(folder) / f"{name}.json").write_text(json.dumps(settings))
        open_clip.add_model_config(folder)
