"""`make gpu`: everything that only a GPU can show, in one run of at most eight minutes.

    python3 benchmarks/gpu/run.py               on a machine with one GPU
    python3 benchmarks/gpu/run.py --rehearse    every line of it at tiny sizes on a CPU

Each step is a process of its own with a time limit of its own; one that fails or hangs stops nothing. What was found
is written to `benchmarks/results/DEVICE-DATE.json`, and as a table beside it and to stdout; a later run of some steps
on the same day keeps what the file says of the others. Standard library only, so that it starts wherever there is a
Python; see `environments.py` for which one runs the steps.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from environments import ROOT, Environment, candidates, choose, completed

BUDGET_S = 480
"""All steps together; installing, where something is missing, comes before."""
BENCHMARKS = ("attention", "packing", "generation", "segmentation", "start_up")
SHOWN = 4000
"""Last characters of a step's output that are kept."""


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: What the table calls it.
        command: Arguments of Python; `{out}` becomes the path where it writes its result, as JSON.
        limit_s: It is killed after so many seconds.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Attributes:
        name: The step's.
        status: `passed`, `failed`, `timed out` or `not run`.
        seconds: How long it took.
        result: What it wrote, if anything.
        output: The end of what it printed, unless it passed.
        command: What was run.
        commit: The commit that was checked out.
    """

    name: str
    status: str
    seconds: float = 0.0
    result: Any = None
    output: str = ""
    command: str = field(default="", repr=False)
    commit: str = "unknown"


def plan(rehearse: bool) -> list[Step]:
    """The steps, most needed first: what the budget leaves no time for is at the end."""
    here = Path(__file__).parent.relative_to(ROOT)
    tiny = ("--rehearse",) if rehearse else ()
    quick = ("--quick",) if rehearse else ()
    on = "cpu" if rehearse else "cuda"
    tests = (
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--junitxml",
        "{out}",
        "--device",
        on,
        "tests/gpu",
    )
    steps = [
        Step("parity", (f"{here}/parity.py", "--out", "{out}", *tiny), 60),
        Step("tests", tests, 90),
        Step(
            "large training",
            (f"{here}/large_training.py", "--recipe", "perceptio_1b", "--out", "{out}", *tiny),
            150,
        ),
        Step(
            "135M training",
            (f"{here}/large_training.py", "--recipe", "perceptio_135m", "--out", "{out}", *tiny),
            60,
        ),
        Step("small training", (f"{here}/small_training.py", "--out", "{out}", *tiny), 90),
    ]
    for name in BENCHMARKS:
        steps.append(
            Step(f"benchmark {name}", (f"benchmarks/{name}.py", *quick, "--device", on, "--out", "{out}"), 60)
        )
    return steps


def execute(step: Step, python: str, folder: Path, budget_s: float) -> Outcome:
    """Run a step, its limit cut to what is left of the budget."""
    command = " ".join(["python", *step.command])
    if budget_s < 5:
        late = "The time of the whole run was used up."
        return Outcome(step.name, "not run", output=late, command=command, commit=_commit())
    out = folder / re.sub(r"\W+", "_", step.name)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
        "HF_HUB_OFFLINE": "1",
    }
    arguments = [python, *(part.replace("{out}", str(out)) for part in step.command)]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(min(step.limit_s, budget_s))
            status = "failed" if code else "passed"
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            _end(process)
        log.seek(0)
        output = log.read()[-SHOWN:]
    seconds = time.monotonic() - started
    kept = "" if status == "passed" else output
    return Outcome(step.name, status, round(seconds, 1), _read(out), kept, command, _commit())


def table(environment: Environment, outcomes: Sequence[Outcome], rehearsal: bool) -> str:
    """The run in Markdown."""
    versions = {"python": environment.python, **environment.packages}
    shown = ("python", "torch", "xformers", "transformers", "accelerate")
    lines = [
        f"# {'Rehearsal' if rehearsal else environment.gpu}, {date.today().isoformat()}",
        "",
        ", ".join(f"{name} {versions.get(name) or 'missing'}" for name in shown),
        *environment.notes,
        "",
        "| step | commit | status | seconds | found |",
        "|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        found = _told(outcome).replace("|", "\\|").replace("\n", " ")
        lines.append(
            f"| {outcome.name} | {outcome.commit} | {outcome.status} | {outcome.seconds:.0f} | {found} |"
        )
    return "\n".join(lines) + "\n"


def run(steps: Sequence[Step], environment: Environment, results: Path, *, rehearsal: bool) -> list[Outcome]:
    """Run all steps and write what they found; the files are written anew after every step.

    Returns:
        What became of these steps, and not of those that the files tell of from before.
    """
    results.mkdir(parents=True, exist_ok=True)
    device = "rehearsal" if rehearsal else re.sub(r"[^a-z0-9]+", "-", str(environment.gpu).lower()).strip("-")
    path = results / f"{device}-{date.today().isoformat()}.json"
    started, outcomes = time.monotonic(), []
    told = {outcome.name: outcome for outcome in _earlier(path, environment)}
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            print(f"{step.name} ...", file=sys.stderr, flush=True)
            left = BUDGET_S - (time.monotonic() - started)
            outcome = execute(step, environment.executable, Path(folder), left)
            outcomes.append(outcome)
            told[step.name] = outcome
            print(f"{step.name}: {outcome.status} in {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
            if outcome.output:
                print(outcome.output, file=sys.stderr, flush=True)
            document = {
                "date": date.today().isoformat(),
                "rehearsal": rehearsal,
                "seconds": round(sum(one.seconds for one in told.values()), 1),
                "environment": asdict(environment),
                "steps": [asdict(one) for one in told.values()],
            }
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            written = table(environment, list(told.values()), rehearsal)
            path.with_suffix(".md").write_text(written, encoding="utf-8")
    print(written)
    print(f"written to {path} and {path.with_suffix('.md').name}", file=sys.stderr)
    return outcomes


def _earlier(path: Path, environment: Environment) -> list[Outcome]:
    """What a file of the same day says, if its steps ran on the same versions of everything."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        versions = [document["environment"][key] for key in ("python", "packages")]
        if versions != [environment.python, dict(environment.packages)]:
            return []
        return [Outcome(**step) for step in document["steps"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _commit() -> str:
    """The commit that is checked out, in short."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a step with everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(out: Path) -> Any:
    """What a step wrote: JSON, a folder with a benchmark's result file, or pytest's report."""
    try:
        if out.is_dir():
            return json.loads(next(out.glob("*.json")).read_text(encoding="utf-8"))
        text = out.read_text(encoding="utf-8")
        if text.startswith("<?xml"):
            return {
                name: int(re.search(rf'\b{name}="(\d+)"', text)[1])  # type: ignore[index]
                for name in ("tests", "failures", "errors", "skipped")
            }
        return json.loads(text)
    except (OSError, StopIteration, ValueError, TypeError):
        return None


def _told(outcome: Outcome) -> str:
    """What the table says of a step."""
    result = outcome.result
    if not isinstance(result, dict):
        return outcome.output.strip().rpartition("\n")[2][-200:]
    if "summary" in result:
        return str(result["summary"])
    if "ratios" in result:
        return "; ".join(f"{name} {ratio['median']:g}" for name, ratio in result["ratios"].items())
    return ", ".join(f"{value} {name}" for name, value in result.items())


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Run, and return the exit status: 0 where every step passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on a CPU: does every line work?")
    parser.add_argument("--out", type=Path, help="folder of the results; default benchmarks/results")
    parser.add_argument("--only", action="append", help="a step's name; may be repeated")
    parser.add_argument("--wheels", type=Path, help="install what is missing from this folder alone")
    parser.add_argument("--install", action=argparse.BooleanOptionalAction, default=True)
    chosen = parser.parse_args(arguments)
    steps = plan(chosen.rehearse)
    unknown = set(chosen.only or ()) - {step.name for step in steps}
    if unknown:
        parser.error(f"there is no step {min(unknown)!r}; there are: {', '.join(s.name for s in steps)}")
    environment = choose(candidates())
    if environment is None:
        say("No Python 3.11 or 3.12 runs here: name one with PYTHON=/path/to/python3.12.")
        return 2
    if chosen.install:
        environment = completed(environment, chosen.wheels, lambda words: print(words, file=sys.stderr))
    if environment.gpu is None and not chosen.rehearse:
        why = environment.torch_error or "torch sees no GPU"
        say(f"{environment.executable}: {why}. Rehearse without one: make gpu-rehearsal.")
        return 2
    default = ROOT / "build" / "gpu" if chosen.rehearse else ROOT / "benchmarks" / "results"
    wanted = [step for step in steps if not chosen.only or step.name in chosen.only]
    outcomes = run(wanted, environment, chosen.out or default, rehearsal=chosen.rehearse)
    return 0 if all(outcome.status == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
