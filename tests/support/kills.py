"""Kill trainings and see what becomes of them: `python tests/support/kills.py FOLDER --kills 20`.

Each attempt is a process of its own that runs `perceptio train … --auto-resume`. It is killed either at one of the
moments when it touches a file of its run, counted by an audit hook, or after a random time, from outside. Processes
are forked from this one, which has imported everything and done nothing, so that an attempt takes a second.
"""

import argparse
import gc
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import perceptio.cli.main as command
from perceptio.cli import train as _verb  # noqa: F401
from perceptio.training import trainer as _trainer  # noqa: F401

RECIPE = """
import sys
sys.path.insert(0, {support!r})
import attrs
from pathlib import Path
from small import small_recipe


def recipe():
    base = small_recipe(Path({data!r}))
    return attrs.evolve(base, train=attrs.evolve(base.train, steps=8, save_every=2))
"""


def write_recipe(folder: Path) -> Path:
    """A recipe that saves after every second of eight steps, and its data."""
    from small import scenes_folder

    scenes_folder(folder / "data")
    recipe = folder / "recipe.py"
    recipe.write_text(RECIPE.format(support=str(Path(__file__).parent), data=str(folder / "data")))
    return recipe


def forked(work) -> int:
    """Run something in a process of its own: its number."""
    number = os.fork()
    if number:
        return number
    try:
        work()
    except SystemExit as ended:
        os._exit(ended.code or 0)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(3)
    os._exit(0)


def train(
    recipe: Path,
    out: Path,
    *,
    kill_before: tuple[str, int] | None = None,
    events: Path | None = None,
    log: Path | None = None,
) -> int:
    """Begin or resume a training in a process of its own.

    Args:
        recipe: What is trained.
        out: The run's folder.
        kill_before: The process kills itself before its n-th touch of a file ("any"), or rename of a checkpoint
            ("rename"): a first checkpoint takes one, each later one two.
        events: Where the touches are written to, when it ends by itself.
        log: Where its output goes.
    """
    run, seen = str(out), {"any": 0, "rename": 0}

    def hook(event: str, arguments: tuple) -> None:
        paths = [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | os.PathLike)]
        if not any(path.startswith(run) and "tensorboard" not in path for path in paths):
            return
        place, old = f"{run}/checkpoint", f"{run}/.checkpoint.old"
        renamed = event == "os.rename" and paths[0] != old and paths[1] in (place, old)
        for kind in ("any", "rename") if renamed else ("any",):
            seen[kind] += 1
            if (kind, seen[kind]) == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        if log is not None:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        sys.addaudithook(hook)
        sys.argv = ["perceptio", "train", str(recipe), "--out", run, "--auto-resume"]
        try:
            command.main()
        finally:
            if events is not None:
                events.write_text(json.dumps(seen))

    return forked(work)


def ended(process: int) -> int:
    """How a process ended: its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def state_of(out: Path) -> dict:
    """What a run's folder holds in the end: the checkpoint's bytes, the logged losses, and what is left over."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": (out / "checkpoint" / "model.safetensors").read_bytes(),
        "optimizer": (out / "checkpoint" / "optimizer.safetensors").read_bytes(),
        "metrics": [(line["step"], line["loss"], line["gradient_norm"]) for line in lines],
        "left": sorted(str(p.relative_to(out)) for p in out.rglob(".*") if p.name != ".lock"),
    }


def loads(out: Path) -> int:
    """Whether the last checkpoint can be read, in a process of its own: 0 if so."""
    from perceptio.model.perception_model import load

    return ended(forked(lambda: load(out) and None))


def killed_runs(folder: Path, kills: int, seed: int) -> dict:
    """Train once without and once with kills, and compare.

    Returns:
        `kills`: how many processes were killed, and `moments`, at what; `unreadable`: after which of them no
        checkpoint could be read although there had been one; `status` of the last process, which was not killed; and
        of all `runs` that came to their end, which facts of `state_of` are the `same` as without kills.
    """
    recipe, rng = write_recipe(folder), random.Random(seed)
    started = time.monotonic()
    assert ended(train(recipe, folder / "whole", events=folder / "events.json")) == 0
    seconds = time.monotonic() - started
    events = json.loads((folder / "events.json").read_text())
    whole = state_of(folder / "whole")
    out, moments, unreadable, had_one, finished = folder / "killed", [], [], False, []
    while len(moments) < kills:
        kind = ("rename", "any", "time")[len(moments) % 3]
        if kind == "time":
            process = train(recipe, out)
            time.sleep(rng.uniform(0, seconds))
            os.kill(process, signal.SIGKILL)
            at = None
        else:
            between = rng.choice((2, 4)) + (
                not (out / "checkpoint").exists()
            )  # The two renames of a checkpoint.
            at = between if kind == "rename" else rng.randint(1, events["any"])
            process = train(recipe, out, kill_before=(kind, at))
        if ended(process) == 0:  # It was through; begin again, with the next moment.
            finished.append(out)
            out, had_one = folder / f"killed-{len(moments)}", False
            continue
        moments.append([kind, at])
        if loads(out) == 0:
            had_one = True
        elif had_one:
            unreadable.append(moments[-1])
    status = ended(train(recipe, out))
    states = [state_of(out) for out in (*finished, out)]
    return {
        "kills": len(moments),
        "moments": moments,
        "unreadable": unreadable,
        "status": status,
        "runs": len(states),
        "same": {key: all(state[key] == value for state in states) for key, value in whole.items()},
        "beside": sorted(p.name for p in folder.iterdir() if p.name.startswith(".")),
    }


def small_disk(folder: Path) -> dict:
    """Train where the second checkpoint has no room, then make room and resume; needs the right to mount."""
    import subprocess

    recipe, disk = write_recipe(folder), folder / "disk"
    disk.mkdir()
    assert ended(train(recipe, folder / "whole")) == 0
    size = sum(path.stat().st_size for path in (folder / "whole" / "checkpoint").rglob("*") if path.is_file())

    def mount(option: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", disk], check=True)

    mount(f"size={int(1.7 * size)}")
    try:
        statuses = [ended(train(recipe, disk / "run", log=folder / "full.log"))]
        readable = loads(disk / "run")
        before = sorted(path.name for path in (disk / "run").iterdir())
        mount(f"remount,size={10 * size}")
        statuses.append(ended(train(recipe, disk / "run")))
        whole, resumed = state_of(folder / "whole"), state_of(disk / "run")
        return {
            "statuses": statuses,
            "said": (folder / "full.log").read_text(),
            "readable": readable,
            "before": before,
            "same": {key: whole[key] == resumed[key] for key in whole},
        }
    finally:
        subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument(
        "--kills", type=int, default=20, help="how many processes are killed; 0: a small disk"
    )
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    gc.freeze()
    found = (
        killed_runs(chosen.folder, chosen.kills, chosen.seed) if chosen.kills else small_disk(chosen.folder)
    )
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
