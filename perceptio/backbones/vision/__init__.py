"""Built-in vision encoders."""

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.backbones.vision.open_clip import OpenCLIPConfig
from perceptio.backbones.vision.timm import TimmConfig
from perceptio.hookspecs import hookimpl


@hookimpl
def register_vision_encoders() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [ConvVisionConfig, InternViTConfig, OpenCLIPConfig, TimmConfig]
