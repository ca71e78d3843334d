"""The folder of a complete demo, as read by the report and the picture.

Shapes: H W pixels.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from perceptio.data.folder import FolderDataset
from perceptio.data.scenes import Split
from perceptio.demo.gallery import GalleryItem, read_gallery
from perceptio.demo.settings import CONTROLS, DIRECT, PERCEPTIO, STREAMS
from perceptio.interfaces import Sample
from perceptio.model.checkpoints.checkpoint import RECIPE
from perceptio.ops.json_files import read_json
from perceptio.ops.weights import CHECKPOINT

NAMES = {
    "perceptio": "Perceptio",
    "readout_without_block": "read-out without a block",
    "lookup_from_vision": "look-up without tokens",
    "direct": "direct",
    "streams": "every kind of stream",
}
COMPARED = (PERCEPTIO, *CONTROLS, DIRECT)
"""The arms whose answers are compared with each other."""


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Demo:
    """The folder of a complete demo, whose files are read on access."""

    root: Path
    metrics: Mapping[str, Any]

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that were trained and are compared with each other."""
        return tuple(arm for arm in COMPARED if arm in self.metrics)

    @property
    def learned(self) -> tuple[str, ...]:
        """Perceptio and the controls that have learned to answer; others are not valid controls."""
        return tuple(arm for arm in self.arms if self.metrics[arm].get("learned", True))

    @property
    def strongest(self) -> str | None:
        """The control that is right most often; None if none has learned."""
        controls = [arm for arm in self.learned if arm != PERCEPTIO]
        return max(controls, key=lambda arm: self.metrics[arm]["relative_depth"]["mean"], default=None)

    @property
    def trained(self) -> tuple[str, ...]:
        """All arms that were trained."""
        return (*self.arms, *[STREAMS] * (STREAMS in self.metrics))

    @cached_property
    def galleries(self) -> Mapping[str, tuple[GalleryItem, ...]]:
        """The gallery of each arm on the first test scenes."""
        return {arm: read_gallery(self.root / "evaluation" / arm) for arm in self.trained}

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The test scenes of the galleries."""
        dataset = FolderDataset(self.root / "scenes" / Split.TEST)
        return tuple(dataset[shown.sample] for shown in self.galleries["perceptio"])

    def recipe(self, arm: str) -> Any:
        """Return the `recipe` of an arm's checkpoint as JSON, and its `fingerprint`."""
        return read_json(self.root / arm / CHECKPOINT / RECIPE)

    def pixels(self, number: int) -> np.ndarray:
        """Return the image of a scene, uint8 [H, W, 3]."""
        image_3HW = self.samples[number].image_3HW
        assert image_3HW is not None
        return (image_3HW.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    def true_depth(self, number: int) -> np.ndarray:
        """Return the depth of a scene in metres [H, W]."""
        depth = self.samples[number].depth
        assert depth is not None
        return depth.values_HW


def depth_at(depth_HW: np.ndarray, point: tuple[float, float]) -> float:
    """Return depth at a point (x, y) in [0, 1]."""
    height, width = depth_HW.shape
    x, y = point
    return float(depth_HW[min(int(y * height), height - 1), min(int(x * width), width - 1)])
