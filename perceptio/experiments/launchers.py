"""The built-in launchers, and lookup by name; `perceptio.interfaces.launcher` defines what each must do."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import attrs

from perceptio.errors import RecipeError
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind, Launcher, LauncherConfig, LaunchSettings
from perceptio.registry import Registry
from perceptio.settings import with_component_settings

__all__ = ["LaunchSettings", "Launcher", "LocalConfig", "SlurmConfig", "launcher_named"]


@attrs.frozen(kw_only=True)
class LocalConfig(LauncherConfig):
    """Runs jobs as parallel processes on this machine."""

    name: ClassVar[str] = "local"
    kind: ClassVar[Kind] = Kind.LAUNCHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, settings: LaunchSettings) -> Launcher:
        """See `LauncherConfig.build`."""
        from perceptio.experiments.local import LocalLauncher

        return LocalLauncher(
            cores=settings.jobs, timeout_s=settings.timeout_s, stop_on_failure=settings.stop_on_failure
        )


def _positive(_: Any, field: "attrs.Attribute[Any]", value: Any) -> None:
    if value is not None and value <= 0:
        raise RecipeError(f"{field.name} is {value}; it must be above 0.")


def _not_negative(_: Any, field: "attrs.Attribute[Any]", value: int) -> None:
    if value < 0:
        raise RecipeError(f"{field.name} is {value}; it must not be below 0.")


@attrs.frozen(kw_only=True)
class SlurmConfig(LauncherConfig):
    """Submits jobs to a Slurm cluster in arrays, through submitit.

    Attributes:
        cluster: `"slurm"`; `"local"`, which runs the same on this machine, to test that jobs work; or `"debug"`,
            which runs them in this process, one after the other.
        partition: As `sbatch --partition`, and likewise `account`, `qos` and `constraint`; None: the cluster's
            default.
        time_min: The time limit of a job in minutes. A job that reaches it saves, is queued again, and continues.
        requeues: How often a job may reach its time limit and be queued again before it counts as failed.
        save_s: Seconds before the time limit at which a job is told to save.
        cpus: Cores per job; None: as many as the job uses.
        gpus: GPUs per job; a job uses one.
        memory_gb: Memory per job in GB; None: the cluster's default.
        array_parallelism: Maximum number of jobs of an array that run at a time.
        setup: Shell lines to run before each job, such as `module load cuda`.
        options: Any other options of sbatch by name, such as `{"mail-type": "FAIL"}`.
        on_stop: What happens to jobs when this command is stopped: `"continue"`, and the same command finds them
            again; or `"cancel"`, they save and end.
        look_every_s: Seconds between two checks of the folder for the state of jobs.
    """

    name: ClassVar[str] = "slurm"
    kind: ClassVar[Kind] = Kind.LAUNCHER
    interface: ClassVar[tuple[int, int]] = (2, 0)

    cluster: Literal["slurm", "local", "debug"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_min: int = attrs.field(default=240, validator=_positive)
    requeues: int = attrs.field(default=20, validator=_not_negative)
    save_s: int = attrs.field(default=120, validator=_positive)
    cpus: int | None = attrs.field(default=None, validator=_positive)
    gpus: int = attrs.field(default=0, validator=_not_negative)
    memory_gb: float | None = attrs.field(default=None, validator=_positive)
    array_parallelism: int = attrs.field(default=256, validator=_positive)
    setup: tuple[str, ...] = ()
    options: Mapping[str, str] = attrs.field(factory=dict)
    on_stop: Literal["continue", "cancel"] = "continue"
    look_every_s: float = attrs.field(default=5.0, validator=_positive)

    def __attrs_post_init__(self) -> None:
        """Reject settings that conflict with each other."""
        if self.save_s >= 60 * self.time_min:
            raise RecipeError(
                f"save_s is {self.save_s} and time_min is {self.time_min}: a job runs longer than it takes to save."
            )

    def build(self, settings: LaunchSettings) -> Launcher:
        """See `LauncherConfig.build`."""
        from perceptio.experiments.slurm import SlurmLauncher

        return SlurmLauncher(self, settings)


@hookimpl
def register_launchers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [LocalConfig, SlurmConfig]


def launcher_named(
    name: str,
    limits: LaunchSettings,
    settings: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Launcher:
    """Return the launcher with a name.

    Args:
        name: As listed by `perceptio components`: `local`, `slurm`, or `PLUGIN/NAME`.
        limits: How to run jobs.
        settings: The launcher's own settings, by name; a string that is valid JSON is parsed.
        registry: The registry to look in; None: `Registry.discover`.

    Raises:
        UnknownNameError: There is no such launcher or setting; the message suggests a close match.
        RecipeError: A setting has an invalid value.
        PluginError: The launcher belongs to a plugin that failed to load.
        PerceptioError: Something that the launcher needs is not installed or not available here.
    """
    registry = registry or Registry.discover()
    config = registry.get(Kind.LAUNCHER, name)
    assert issubclass(config, LauncherConfig)
    return with_component_settings(config(), settings or {}, name, registry).build(limits)
