"""The whole plugin contract on one screen: one hook per kind of component, each returning config classes.

A plugin is a module, named by an entry point of the group `perceptio`; the entry point's name is the plugin's name,
and its components are known as `plugin/name`. Built-ins register through these same hooks, under bare names.

    # my_plugin.py                                  # pyproject.toml
    from perceptio.hookspecs import hookimpl        # [project.entry-points.perceptio]
                                                    # acme = "my_plugin"
    @hookimpl
    def register_depth_tokenizers():
        return [MyDepthConfig]                      # known as acme/<its name>

Hooks are called once, when a registry is made. They return classes, so that nothing is built until it is asked for.
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
    """Config classes of depth tokenizers: depth maps <-> codes."""
    raise NotImplementedError


@hookspec
def register_segmentation_tokenizers() -> Sequence[type[SegmentationTokenizerConfig]]:
    """Config classes of segmentation tokenizers: prompts or codes -> masks."""
    raise NotImplementedError


@hookspec
def register_perception_tokenizers() -> Sequence[type[PerceptionTokenizerConfig]]:
    """Config classes of tokenizers of any other stream: codes or special tokens <-> what they stand for."""
    raise NotImplementedError


@hookspec
def register_vision_encoders() -> Sequence[type[VisionEncoderConfig]]:
    """Config classes of vision encoders: images -> features with their centers."""
    raise NotImplementedError


@hookspec
def register_language_backbones() -> Sequence[type[LanguageBackboneConfig]]:
    """Config classes of language backbones: causal trunks with their text tokenizers."""
    raise NotImplementedError


@hookspec
def register_heads() -> Sequence[type[HeadConfig]]:
    """Config classes of heads: small trained maps between widths."""
    raise NotImplementedError


@hookspec
def register_losses() -> Sequence[type[LossConfig]]:
    """Config classes of losses."""
    raise NotImplementedError


@hookspec
def register_tasks() -> Sequence[type[TaskConfig]]:
    """Config classes of tasks: how conversations are written, and answers judged."""
    raise NotImplementedError


@hookspec
def register_launchers() -> Sequence[type[LauncherConfig]]:
    """Config classes of launchers: where the jobs of an experiment run."""
    raise NotImplementedError


@hookspec
def register_sources() -> Sequence[type[SourceConfig]]:
    """Config classes of sources: published data sets -> samples of a data folder."""
    raise NotImplementedError


@hookspec
def register_teachers() -> Sequence[type[TeacherConfig]]:
    """Config classes of depth teachers: pictures -> the depth maps that others learn from."""
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
"""The hook of each kind, and the config class that everything it returns derives from."""
BUILDS: dict[Kind, type] = {
    Kind.DEPTH: DepthTokenizer,
    Kind.SEGMENTATION: SegmentationTokenizer,
    Kind.PERCEPTION: PerceptionTokenizer,
    Kind.VISION: VisionEncoder,
    Kind.LANGUAGE: LanguageBackbone,
    Kind.HEAD: Head,
    Kind.TASK: Task,
}
"""What a config of each kind of part builds; losses are checked where a recipe is."""
