"""A job: one process that writes one folder, from its settings and the folders of other jobs alone."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

Report = Callable[[int, int, str], None]
"""Told how much is done, of how much, and how it stands."""


@attrs.frozen(kw_only=True)
class Task:
    """What the function that does a job's work is given.

    Attributes:
        out: The folder it writes.
        settings: Of `Job.settings`.
        inputs: The folders of the jobs it comes after, by their names.
        cores: How many it may keep busy; less than one is a share of one.
        report: Told how far it is.
    """

    out: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Path]
    cores: float
    report: Report


Work = Callable[[Task], None]


def work(function: Work) -> Work:
    """Marks a function as the work of jobs: no other is found by its name."""
    function.is_work = True  # type: ignore[attr-defined]
    return function


def work_named(name: str) -> Work:
    """The function of a name such as `perceptio.demo.work:train_arm`: one of this package that `work` marks.

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
        name: Unique among the jobs of a cache, and fit for a file name.
        title: What it is called where it is shown.
        stage: What kind of job it is, such as `"evaluation"`; seconds are counted by it.
        work: What it does, as `work_named` finds it.
        out: The one folder it writes.
        settings: What that function is given, as JSON.
        identity: What its result depends on beside its work and the jobs it comes after, as JSON; None: its settings.
        defaults: The settings that its identity leaves out, as they are at their declared default, by their paths, as
            JSON. So one that is declared later leaves the job what it was, and a default that changes is noticed.
        after: The jobs whose folders it reads.
        cores: How many cores it keeps busy; less than one is a share of one.
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
        """Of what its result depends on."""
        own = self.settings if self.identity is None else self.identity
        content = [self.work, own, [job.fingerprint for job in self.after]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def all_defaults(self) -> dict[str, Any]:
        """Its `defaults`, and after their names those of the jobs that it comes after."""
        before = {
            f"{job.name}: {path}": value for job in self.after for path, value in job.all_defaults.items()
        }
        return {**self.defaults, **before}

    @property
    def document(self) -> dict[str, Any]:
        """All of it as JSON, with the jobs that it comes after; `of_document` reads it elsewhere."""
        fields = {field.name: getattr(self, field.name) for field in attrs.fields(Job)}
        return fields | {"out": str(self.out), "after": [before.document for before in self.after]}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "Job":
        """The job of a `document`."""
        after = tuple(cls.of_document(before) for before in document["after"])
        return cls(**{**document, "out": Path(document["out"]), "after": after})

    @property
    def request(self) -> dict[str, Any]:
        """What a process is sent that is to do it, as JSON; `perceptio.experiments.worker` does it."""
        return {
            "work": self.work,
            "out": str(self.out),
            "settings": dict(self.settings),
            "inputs": {before.name: str(before.out) for before in self.after},
            "cores": self.cores,
        }
