"""Depth teachers: the built-in one, and how one is chosen; `perceptio.interfaces.teacher` says what each must do."""

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
    """The teacher of a name, with its weights.

    Args:
        name: As `perceptio components` lists it, such as `depth-anything-v2` or `PLUGIN/NAME`; or a checkpoint of
            Depth Anything: a published one by its short name, a folder, or a hub id.
        settings: The teacher's own, by name; a string is read as JSON where it is JSON.
        device: Where it is to compute.
        registry: Where teachers are looked up; None: all that `Registry.discover` finds.

    Raises:
        UnknownNameError: The plugin has no such teacher, or the teacher no such setting; the near miss is named.
        CheckpointError: There is no such teacher, or its weights are missing or do not fit.
        PerceptioError: A setting has a value that it cannot have, the plugin was set aside, or what the teacher needs
            is not here.
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
    """Whether a name that no teacher has is a checkpoint of Depth Anything: one here, or on the hub."""
    if name in PUBLISHED or Path(name).exists():
        return True
    return "/" in name and not registry.has_plugin(name) and registry.why_missing(name) is None
