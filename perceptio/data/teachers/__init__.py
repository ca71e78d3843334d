"""The built-in depth teacher, and lookup by name; `perceptio.interfaces.teacher` defines what each must do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from perceptio.data.teachers.depth_anything import PUBLISHED, DepthAnythingConfig
from perceptio.errors import CheckpointError, near_miss
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind, Teacher, TeacherConfig
from perceptio.registry import Registry
from perceptio.settings import with_component_settings

__all__ = ["DepthAnythingConfig", "load_teacher"]


@hookimpl
def register_teachers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [DepthAnythingConfig]


def load_teacher(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    device: torch.device | str = "cpu",
    registry: Registry | None = None,
) -> Teacher:
    """Load the teacher with a name, with its weights.

    Args:
        name: As listed by `perceptio components`, such as `depth-anything-v2` or `PLUGIN/NAME`; or a checkpoint of
            Depth
            Anything: the short name of a published one, a folder, or a hub id.
        settings: The teacher's own settings, by name; a string that is valid JSON is parsed.
        device: The device to compute on.
        registry: The registry to look in; None: `Registry.discover`.

    Raises:
        UnknownNameError: The plugin has no such teacher, or the teacher no such setting; the message suggests a
            match.
        CheckpointError: There is no such teacher, or its weights are missing or do not fit.
        PerceptioError: A setting has an invalid value, the plugin was set aside, or something that the teacher needs
            is not available.
    """
    registry = registry or Registry.discover()
    known = registry.names(Kind.TEACHER)
    chosen = dict(settings or {})
    component = name
    if name not in known and _is_checkpoint(name, registry):
        component = DepthAnythingConfig.name
        chosen["weights"] = name
    elif name not in known and "/" not in name:
        raise CheckpointError(
            f"There is no teacher {name!r}{near_miss(name, {*known, *PUBLISHED})} Or name a folder, or a hub id, "
            "owner/name, of Depth Anything."
        )
    config = registry.get(Kind.TEACHER, component)
    assert issubclass(config, TeacherConfig)
    made = with_component_settings(config(), chosen, component, registry)
    teacher = made.load(torch.device(device))
    teacher.origin = f"{component} ({registry.provider(Kind.TEACHER, component)})"
    return teacher


def _is_checkpoint(name: str, registry: Registry) -> bool:
    """Return whether a name that no teacher has is a checkpoint of Depth Anything, local or on the hub."""
    if name in PUBLISHED or Path(name).exists():
        return True
    return "/" in name and not registry.has_plugin(name) and registry.why_missing(name) is None
