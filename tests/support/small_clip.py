"""Configurations of open_clip as small as they can be, made known through its own door."""

import functools
import json
import tempfile
from pathlib import Path
from typing import ClassVar

from torch import nn

VIT, RESNET, TIMM = "small-vit", "small-resnet", "small-timm"
TIMM_VIT, NO_MAP = "small-timm-vit", "small-without-map"
TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
VISION = {
    VIT: {"image_size": 32, "patch_size": 8, "width": 16, "head_width": 8, "layers": 3},
    RESNET: {"image_size": 32, "width": 8, "head_width": 8, "layers": [1, 1, 1, 1]},
    TIMM: {"image_size": 32, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"},
    TIMM_VIT: {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
    NO_MAP: {"image_size": 32, "timm_model_name": "test_without_map", "timm_pool": "", "timm_proj": "linear"},
}


@functools.cache
def register() -> None:
    """Let open_clip know them."""
    import open_clip
    from timm.models import register_model

    register_model(test_without_map)
    with tempfile.TemporaryDirectory() as folder:
        for name, vision in VISION.items():
            settings = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": TEXT}
            (Path(folder) / f"{name}.json").write_text(json.dumps(settings))
        open_clip.add_model_config(folder)


class WithoutMap(nn.Module):
    """As much of a timm model as open_clip asks for."""

    default_cfg: ClassVar[dict[str, object]] = {}
    num_features = 4

    def reset_classifier(self, *_: object, **__: object) -> None:
        """It has none."""


def test_without_map(**_: object) -> WithoutMap:
    """A tower that gives no feature maps; timm knows it by this name."""
    return WithoutMap()


test_without_map.__test__ = False
