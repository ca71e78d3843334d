"""The hooks that a plugin can implement: one per kind of component, each returning config classes.

A plugin is a module that an entry point of the group `perceptio` names. The name of the entry point is the plugin's
name, and its components are called `plugin/name`. Built-in components use the same hooks, with names without prefix.

    # my_plugin.py                                  # pyproject.toml
    from perceptio.hookspecs import hookimpl        # [project.entry-points.perceptio]
                                                    # acme = "my_plugin"
    @hookimpl
    def register_depth_tokenizers():
        return [MyDepthConfig]                      # known as acme/<its name>

Hooks are called once, when a registry is created. They return classes, so nothing is built before it is needed.
"""

from collections.abc import Sequence

import pluggy

from perceptio.interfaces import (
    DepthTokenizer,
    DepthTokenizerConfig,
    Head,
    HeadConfig,
    Kind,
    LanguageBackbone,
    LanguageBackboneConfig,
    LauncherConfig,
    LossConfig,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    SegmentationTokenizer,
    SegmentationTokenizerConfig,
    SourceConfig,
    Task,
    TaskConfig,
    TeacherConfig,
    VisionEncoder,
    VisionEncoderConfig,
)

PROJECT = "perceptio"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_depth_tokenizers() -> Sequence[type[DepthTokenizerConfig]]:
    """Return config classes of depth tokenizers: depth maps <-> codes."""
    raise NotImplementedError


@hookspec
def register_segmentation_tokenizers() -> Sequence[type[SegmentationTokenizerConfig]]:
    """Return config classes of segmentation tokenizers: prompts or codes -> masks."""
    raise NotImplementedError


@hookspec
def register_perception_tokenizers() -> Sequence[type[PerceptionTokenizerConfig]]:
    """Return config classes of tokenizers of any other stream: codes or special tokens <-> what they stand for."""
    raise NotImplementedError


@hookspec
def register_vision_encoders() -> Sequence[type[VisionEncoderConfig]]:
    """Return config classes of vision encoders: images -> features with their centers."""
    raise NotImplementedError


@hookspec
def register_language_backbones() -> Sequence[type[LanguageBackboneConfig]]:
    """Return config classes of language backbones: causal transformers with their text tokenizers."""
    raise NotImplementedError


@hookspec
def register_heads() -> Sequence[type[HeadConfig]]:
    """Return config classes of heads: small trained maps between vector widths."""
    raise NotImplementedError


@hookspec
def register_losses() -> Sequence[type[LossConfig]]:
    """Return config classes of losses."""
    raise NotImplementedError


@hookspec
def register_tasks() -> Sequence[type[TaskConfig]]:
    """Return config classes of tasks: which streams answers need, and how answers are scored."""
    raise NotImplementedError


@hookspec
def register_launchers() -> Sequence[type[LauncherConfig]]:
    """Return config classes of launchers, which run the jobs of an experiment."""
    raise NotImplementedError


@hookspec
def register_sources() -> Sequence[type[SourceConfig]]:
    """Return config classes of sources: published data sets -> samples of a data folder."""
    raise NotImplementedError


@hookspec
def register_teachers() -> Sequence[type[TeacherConfig]]:
    """Return config classes of depth teachers: images -> depth maps as training targets."""
    raise NotImplementedError


HOOKS: dict[Kind, tuple[str, type]] = {
    Kind.DEPTH: ("register_depth_tokenizers", DepthTokenizerConfig),
    Kind.SEGMENTATION: ("register_segmentation_tokenizers", SegmentationTokenizerConfig),
    Kind.PERCEPTION: ("register_perception_tokenizers", PerceptionTokenizerConfig),
    Kind.VISION: ("register_vision_encoders", VisionEncoderConfig),
    Kind.LANGUAGE: ("register_language_backbones", LanguageBackboneConfig),
    Kind.HEAD: ("register_heads", HeadConfig),
    Kind.LOSS: ("register_losses", LossConfig),
    Kind.TASK: ("register_tasks", TaskConfig),
    Kind.LAUNCHER: ("register_launchers", LauncherConfig),
    Kind.SOURCE: ("register_sources", SourceConfig),
    Kind.TEACHER: ("register_teachers", TeacherConfig),
}
"""The hook of each kind, and the base class of the configs that it returns."""
BUILDS: dict[Kind, type] = {
    Kind.DEPTH: DepthTokenizer,
    Kind.SEGMENTATION: SegmentationTokenizer,
    Kind.PERCEPTION: PerceptionTokenizer,
    Kind.VISION: VisionEncoder,
    Kind.LANGUAGE: LanguageBackbone,
    Kind.HEAD: Head,
    Kind.TASK: Task,
}
"""The type that the configs of each kind build. The check of a recipe covers losses."""
