"""Runs jobs on a Slurm cluster through submitit: `--launcher slurm`.

Jobs that are ready and alike are submitted as one array. Each is a call of a plain function with JSON arguments,
`perceptio.experiments.submitted.run_job`, which submitit pickles in a folder of its own, beside the records of the
jobs. Nothing that a job has pickled is read here: its record says how it ended.

The launcher writes a note of each submission. If it is stopped and started again, or started twice, it finds jobs
that are queued or running, and waits for them instead of submitting them again.
"""

import logging
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from filelock import FileLock

from perceptio.errors import DataError, PerceptioError, TrainingError
from perceptio.experiments.display import Display
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.local import LOOK_EVERY_S
from perceptio.experiments.process import usable_cores
from perceptio.experiments.schedule import Schedule
from perceptio.experiments.submitted import progress_of, run_job
from perceptio.interfaces import LaunchSettings
from perceptio.ops.interrupts import Stopped, interrupt_flag
from perceptio.ops.json_files import read_json, write_json
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from perceptio.experiments.launchers import SlurmConfig

logger = logging.getLogger(__name__)

OURS = "PERCEPTIO_"
"""Prefix of environment variables that jobs inherit: plugins, and trackers of metrics."""
LATE_S = 60.0
"""Seconds after which the record of a job that has ended must be visible on a shared folder."""
FORGOTTEN_S = 3600.0
"""Seconds after its submission from which a job that Slurm does not know counts as over."""


@attrs.define(eq=False)
class Submitted:
    """A job that is queued or running on a cluster.

    Attributes:
        job: The job.
        handle: submitit's object for it.
        attempts: Number of attempts in its record before this one.
        begun: Whether the display was told that it runs.
        over_since: When its end was first seen, in seconds of the monotonic clock.
    """

    job: Job
    handle: Any
    attempts: int
    begun: bool = False
    over_since: float | None = None

    @property
    def number(self) -> str:
        """The cluster's number of the job."""
        return str(self.handle.job_id)


class SlurmLauncher:
    """Runs jobs on a cluster, or locally in the same way.

    Args:
        config: The settings of the cluster.
        limits: How many jobs, how long, and whether a failure stops all.

    Raises:
        PerceptioError: submitit is not installed, or there is no Slurm here.
    """

    def __init__(self, config: "SlurmConfig", limits: LaunchSettings) -> None:
        self.config, self.limits = config, limits
        self.submitit = _submitit()
        if config.cluster == "slurm" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
            raise PerceptioError(
                "There is no Slurm on this machine (no commands sbatch and srun): give the command on a login node, "
                "or try here what would be sent, with --launcher-setting cluster=local."
            )
        self.at_most = limits.jobs or (inf if config.cluster == "slurm" else usable_cores())

    def run(self, jobs: Sequence[Job], cache: JobCache, display: Display) -> None:
        """See `perceptio.interfaces.launcher.Launcher`."""
        _Run(self, jobs, cache, display).run()

    def submit(self, jobs: Sequence[Job], cache: JobCache) -> list[Any]:
        """Submit jobs that are alike as one array; return submitit's object for each.

        Raises:
            PerceptioError: The cluster rejects them.
        """
        environment = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
        if not self.config.gpus:
            environment["OMP_NUM_THREADS"] = "1"  # As on one machine, for the same numbers everywhere.
        shared = {
            "cache": str(cache.root.parent.absolute()),
            "folder": str(Path.cwd()),
            "environment": environment,
            "timeout_s": self.limits.timeout_s,
            "save_s": self.config.save_s,
        }
        executor = self._executor(cache, jobs[0])
        try:
            sent = [shared | {"job": job.document} for job in jobs]
            handles: list[Any] = executor.map_array(run_job, sent)
        except (RuntimeError, OSError, ValueError) as error:
            said = " ".join(str(error).split())
            raise PerceptioError(
                f"The cluster refused {number_of(len(jobs), f'{jobs[0].stage} job')} ({said}): change a "
                "--launcher-setting."
            ) from error
        return handles

    def find(self, cache: JobCache, number: str) -> Any:
        """Return submitit's object for a job that was submitted to Slurm earlier."""
        return self.submitit.SlurmJob(folder=_folder(cache), job_id=number)

    def cancel(self, submitted: Submitted) -> None:
        """Tell a job to save and end."""
        if self.config.cluster == "slurm":
            submitted.handle.cancel(check=False)
        elif self.config.cluster == "local":
            with suppress(ProcessLookupError):
                os.kill(int(submitted.number), signal.SIGTERM)

    def _executor(self, cache: JobCache, job: Job) -> Any:
        config, folder = self.config, _folder(cache)
        if config.cluster == "debug":
            return self.submitit.DebugExecutor(folder)
        if config.cluster == "local":
            executor = self.submitit.LocalExecutor(folder, max_num_timeout=config.requeues)
            executor.update_parameters(
                timeout_min=config.time_min,
                signal_delay_s=config.save_s,
                gpus_per_node=config.gpus,
                setup=config.setup,
            )
            return executor
        executor = self.submitit.SlurmExecutor(folder, max_num_timeout=config.requeues)
        parameters = {
            "job_name": f"perceptio-{job.stage}",
            "partition": config.partition,
            "account": config.account,
            "qos": config.qos,
            "constraint": config.constraint,
            "time": config.time_min,
            "signal_delay_s": config.save_s,
            "cpus_per_task": config.cpus or math.ceil(job.cores),
            "gpus_per_node": config.gpus or None,
            "mem": None if config.memory_gb is None else f"{round(1024 * config.memory_gb)}MB",
            "array_parallelism": config.array_parallelism,
            "setup": list(config.setup) or None,
            "additional_parameters": dict(config.options) or None,
        }
        executor.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
        return executor


class _Run:
    """One call of `SlurmLauncher.run`."""

    def __init__(
        self, launcher: SlurmLauncher, jobs: Sequence[Job], cache: JobCache, display: Display
    ) -> None:
        self.launcher, self.cache, self.display = launcher, cache, display
        self._schedule = Schedule(jobs, cache, display)
        self._submitted: dict[str, Submitted] = {}

    def run(self) -> None:
        with interrupt_flag() as interrupted:
            try:
                while not self._schedule.finished:
                    self._submit_ready()
                    self._look()
                    self._rest(interrupted.is_set)
                    if interrupted.is_set():
                        raise Stopped(interrupted.signal)
            except Stopped:
                self._leave()
                raise
            except PerceptioError:
                self._cancel_all()
                raise

    def _rest(self, woken: Callable[[], bool]) -> None:
        until = time.monotonic() + self.launcher.config.look_every_s
        while not self._schedule.finished and not woken() and time.monotonic() < until:
            time.sleep(min(LOOK_EVERY_S, self.launcher.config.look_every_s))

    # -- submitting ------------------------------------------------------------------------------------------------

    def _submit_ready(self) -> None:
        """Submit the jobs that can begin and are not submitted yet."""
        ready = list(self._schedule.ready(self._submitted))
        if not ready:
            return
        with self._alone():
            new: dict[tuple[str, float], list[Job]] = {}
            for job in ready:
                if len(self._submitted) + sum(map(len, new.values())) >= self.launcher.at_most:
                    break
                submitted = self._submission(job)
                if submitted is not None:
                    self._follow(submitted)
                elif self._schedule.claim(job):
                    self.cache.release(job)  # The process that runs it claims it.
                    new.setdefault((job.stage, job.cores), []).append(job)
            for alike in new.values():
                for job, handle in zip(alike, self.launcher.submit(alike, self.cache), strict=True):
                    submitted = Submitted(job, handle, len(self.cache.record(job.name).intervals))
                    self._note(submitted)
                    self._follow(submitted)

    def _follow(self, submitted: Submitted) -> None:
        self._submitted[submitted.job.name] = submitted
        self.display.queued(submitted.job, submitted.number)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other launchers from submitting to this cache in the meantime."""
        self.cache.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.cache.root / "submissions.lock"):
            yield

    # -- notes of submissions ----------------------------------------------------------------------------------------

    def _note_of(self, job: Job) -> Path:
        return self.cache.root / f"{job.name}.submission.json"

    def _note(self, submitted: Submitted) -> None:
        note = {
            "cluster": self.launcher.config.cluster,
            "number": submitted.number,
            "fingerprint": submitted.job.fingerprint,
            "attempts": submitted.attempts,
            "time": time.time(),
        }
        write_json(self._note_of(submitted.job), note)

    def _submission(self, job: Job) -> Submitted | None:
        """Return a job that an earlier or another command has submitted to Slurm, unless it is over."""
        try:
            note = read_json(self._note_of(job))
        except DataError:
            return None
        here = (self.launcher.config.cluster, job.fingerprint)
        if (note["cluster"], note["fingerprint"]) != here or note["cluster"] != "slurm":
            return None  # Outside of a cluster, jobs end with the command that started them.
        handle = self.launcher.find(self.cache, note["number"])
        if handle.done(force_check=True):
            return None
        if str(handle.state).upper() == "UNKNOWN" and time.time() > note["time"] + FORGOTTEN_S:
            return None
        return Submitted(job, handle, note["attempts"])

    # -- looking -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Check the state of the jobs that were submitted."""
        for submitted in list(self._submitted.values()):
            job = submitted.job
            over = (
                submitted.handle.done()
            )  # Before the record is read: a record is written before its job is over.
            record = self.cache.record(job.name)
            own = record.fingerprint == job.fingerprint and len(record.intervals) > submitted.attempts
            if own and record.intervals[-1][1] is None:
                self._show(submitted)
            if self.cache.complete(job):
                self._end(submitted, complete=True)
            elif own and record.error:
                self._end(submitted, error=record.error)
            elif over:
                self._end_over(submitted, seen=own and record.intervals[-1][1] is not None)

    def _show(self, submitted: Submitted) -> None:
        """Tell the display that a job runs, and its progress."""
        if not submitted.begun:
            submitted.begun = True
            self.display.begun(submitted.job)
        with suppress(DataError):  # There is no report yet.
            told = read_json(progress_of(self.cache, submitted.job))
            self.display.advanced(submitted.job, told["done"], told["total"], told["note"])

    def _end_over(self, submitted: Submitted, *, seen: bool) -> None:
        """End a job that is over but whose record does not say how, after waiting for the record to appear.

        Args:
            submitted: The job.
            seen: Whether the record has the end of its attempt: it was stopped, and has saved its state.
        """
        now = time.monotonic()
        submitted.over_since = submitted.over_since or now
        if self.launcher.config.cluster == "slurm" and now < submitted.over_since + LATE_S and not seen:
            return
        state = str(submitted.handle.state).upper()
        error = "" if seen or state.startswith("CANCELLED") else self._last_words(submitted, state)
        if not seen:
            self._end_record(submitted, error)
        self._end(submitted, error=error)

    def _last_words(self, submitted: Submitted, state: str) -> str:
        if state == "OUT_OF_MEMORY":
            return "ran out of memory: give --launcher-setting memory_gb=…, or make the recipe smaller."
        log = submitted.handle.paths.stderr
        return f"ended as {state} in the cluster's words; what happened is at the end of {log}."

    def _end_record(self, submitted: Submitted, error: str) -> None:
        job = submitted.job
        if len(self.cache.record(job.name).intervals) == submitted.attempts:  # It never began.
            self.cache.begin(job)
        self.cache.end(job, complete=False, error=error)

    def _end(self, submitted: Submitted, *, complete: bool = False, error: str = "") -> None:
        job = submitted.job
        if not submitted.begun:
            self.display.begun(job)
        del self._submitted[job.name]
        self.display.ended(job, complete=complete, error=error)
        self._schedule.end(job, complete=complete)
        if not complete and self.launcher.limits.stop_on_failure:
            raise TrainingError(
                f"{job.title}: {error or 'was stopped from outside; run the command again to go on.'}"
            )

    # -- leaving -----------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """After Ctrl-C, leave jobs on a cluster running unless they are to be canceled; end all others."""
        if self.launcher.config.cluster != "slurm" or self.launcher.config.on_stop == "cancel":
            self._cancel_all()
        elif self._submitted:
            numbers = " ".join(sorted(one.number for one in self._submitted.values()))
            logger.warning(
                "%d jobs go on in the cluster; give the same command to wait for them, or end them with: scancel %s",
                len(self._submitted),
                numbers,
            )

    def _cancel_all(self) -> None:
        for submitted in self._submitted.values():
            self.launcher.cancel(submitted)
        if self.launcher.config.cluster == "local":
            until = time.monotonic() + LATE_S
            while time.monotonic() < until and not all(s.handle.done() for s in self._submitted.values()):
                time.sleep(LOOK_EVERY_S)
        for submitted in self._submitted.values():
            if submitted.begun:
                self.display.ended(submitted.job, complete=self.cache.complete(submitted.job))


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise PerceptioError(
            "The launcher slurm needs submitit, which is not installed: pip install 'perceptio[slurm]'."
        ) from None
    return submitit


def _folder(cache: JobCache) -> Path:
    """Return the folder for submitit's pickles and logs."""
    return cache.root.absolute() / "submitit"
