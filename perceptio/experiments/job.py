"""A job: one process that writes one folder, from its settings and the folders of other jobs only."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

Report = Callable[[int, int, str], None]
"""Called with how much is done, the total, and a description of the state."""


@attrs.frozen(kw_only=True)
class Task:
    """The argument of a function that does a job's work.

    Attributes:
        out: The folder to write.
        settings: The settings, from `Job.settings`.
        inputs: The folders of the jobs that it depends on, by their names.
        cores: Number of cores it may use; less than one is a share of a core.
        report: Called with the progress.
    """

    out: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    cores: float
    report: Report


Work = Callable[[Task], None]


def work(function: Work) -> Work:
    """Mark a function as the work of jobs; `work_named` finds only marked functions."""
    function.is_work = True  # type: ignore[attr-defined]
    return function


def work_named(name: str) -> Work:
    """Return the function with a name such as `perceptio.demo.work:train_arm`, if `work` marks it.

    Raises:
        ValueError: There is no such function.
    """
    module, _, function = name.partition(":")
    found: Any = None
    if module.startswith("perceptio."):
        found = getattr(importlib.import_module(module), function, None)
    if not getattr(found, "is_work", False):
        raise ValueError(f"{name!r} is the work of no job.")
    done: Work = found
    return done


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Job:
    """One process.

    Attributes:
        name: Unique among the jobs of a cache, and valid as a file name.
        title: The name to display.
        stage: The kind of job, such as `"evaluation"`; durations are summed by kind.
        work: The name of its function, see `work_named`.
        out: The one folder it writes.
        settings: The settings of that function, as JSON.
        identity: What its result depends on besides its work and the jobs it depends on, as JSON; None: its settings.
        defaults: Settings at their declared default, by path, as JSON. The identity omits them, so that a newly
            declared setting does not change the job; storing them here reveals a default that changes.
        after: The jobs whose folders it reads.
        cores: Number of cores it uses; less than one is a share of a core.
    """

    name: str
    title: str = attrs.field(default=attrs.Factory(lambda job: job.name.replace("_", " "), takes_self=True))
    stage: str
    work: str
    out: Path
    settings: Mapping[str, Any]
    identity: Any = None
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    after: "tuple[Job, ...]" = ()
    cores: float = 1

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything its result depends on."""
        own = self.settings if self.identity is None else self.identity
        content = [self.work, own, [job.fingerprint for job in self.after]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def all_defaults(self) -> dict[str, Any]:
        """Its `defaults`, and those of the jobs it depends on, prefixed with their names."""
        before = {
            f"{job.name}: {path}": value for job in self.after for path, value in job.all_defaults.items()
        }
        return {**self.defaults, **before}

    @property
    def document(self) -> dict[str, Any]:
        """The whole job as JSON, including the jobs it depends on; `of_document` is the inverse."""
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Job)}
        return fields | {"out": str(self.out), "after": [before.document for before in self.after]}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "Job":
        """Return the job of a `document`."""
        after = tuple(cls.of_document(before) for before in document["after"])
        return cls(**{**document, "out": Path(document["out"]), "after": after})

    @property
    def request(self) -> dict[str, Any]:
        """The JSON that is sent to the process that does the work, `perceptio.experiments.worker`."""
        return {
            "work": self.work,
            "out": str(self.out),
            "settings": dict(self.settings),
            "inputs": {before.name: str(before.out) for before in self.after},
            "cores": self.cores,
        }
