"""Perception-enhanced vision-language models with pluggable tokenizers: perceive first, then answer.

    import perceptio

    model = perceptio.load("runs/mine")
    answer = model.ask("photo.jpg", "Which point is closest to the camera?", points=[(0.2, 0.3), (0.7, 0.6)])
    answer.text, answer["depth"], answer["segmentation"], answer.tokens

Each name is imported on first use, so importing the package is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceptio.interfaces import GenerationSettings
    from perceptio.model.checkpoints.checkpoint import save
    from perceptio.model.inference.answer import Answer
    from perceptio.model.perception_model import PerceptionModel, build_model, load
    from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
    from perceptio.registry import Registry
    from perceptio.serialize import component, fingerprint
    from perceptio.settings import load_recipe, with_settings
    from perceptio.training.trainer import train

__version__ = "0.1.0"

_HOMES = {
    "perceptio.model.inference.answer": ("Answer",),
    "perceptio.model.checkpoints.checkpoint": ("save",),
    "perceptio.interfaces": ("GenerationSettings",),
    "perceptio.model.perception_model": ("PerceptionModel", "build_model", "load"),
    "perceptio.recipe": ("DataConfig", "DataFolder", "Recipe", "Stream", "TrainConfig", "WeightedLoss"),
    "perceptio.registry": ("Registry",),
    "perceptio.serialize": ("component", "fingerprint"),
    "perceptio.settings": ("load_recipe", "with_settings"),
    "perceptio.training.trainer": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "DataConfig",
    "DataFolder",
    "GenerationSettings",
    "PerceptionModel",
    "Recipe",
    "Registry",
    "Stream",
    "TrainConfig",
    "WeightedLoss",
    "build_model",
    "component",
    "fingerprint",
    "load",
    "load_recipe",
    "save",
    "train",
    "with_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'perceptio' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
