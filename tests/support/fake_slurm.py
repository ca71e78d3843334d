"""A Slurm of one machine: sbatch, srun, sacct, scancel and scontrol, as far as a launcher needs them.

`install(folder)` writes the commands into FOLDER/bin; what they know lies in FOLDER/state: for each job, or task of
an array, the process that looks after it (NUMBER.pid), the status that it ended with (NUMBER.exit), and whether it is
to be run again (NUMBER.requeue). As with Slurm, a signal reaches every process of a job but its batch script's shell.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")
KILL_WAIT_S = 10
"""Seconds between the signal that a job is to end and its end."""


def install(folder: Path) -> Path:
    """Write the commands; the folder that PATH must have."""
    import submitit

    # This Slurm counts its jobs from 1, and submitit remembers how the jobs of another have ended.
    submitit.SlurmJob.watcher.clear()
    place = folder / "bin"
    place.mkdir(parents=True)
    (folder / "state").mkdir()
    for name in COMMANDS:
        command = place / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{folder}" {name} "$@"\n')
        command.chmod(0o755)
    return place


def sbatch(state: Path, script: str) -> None:
    text = Path(script).read_text()
    if "--partition=closed" in text:
        sys.exit("sbatch: error: invalid partition specified: closed")
    number = str(1 + len(list(state.glob("*.sh"))))
    (state / f"{number}.sh").write_text(text)
    array = re.search(r"--array=0-(\d+)", text)
    for task in range(int(array[1]) + 1) if array else [None]:
        words = [
            sys.executable,
            __file__,
            str(state.parent),
            "task",
            number,
            *([] if task is None else [str(task)]),
        ]
        subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sys.stdout.write(f"Submitted batch job {number}\n")


def task(state: Path, number: str, index: str | None = None) -> None:
    """Look after a job until it has ended and is not to be run again."""
    name = number if index is None else f"{number}_{index}"
    facts = {"SLURM_JOB_ID": name, "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    if index is not None:
        facts |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    (state / f"{name}.pid").write_text(str(os.getpid()))
    while True:
        status = subprocess.call(["bash", str(state / f"{number}.sh")], env=os.environ | facts)
        again = state / f"{name}.requeue"
        if not again.exists():
            break
        again.unlink()
    (state / f"{name}.exit").write_text(str(status))


def srun(state: Path, *words: str) -> None:
    command = words[words.index(sys.executable) :]
    log = state / f"{os.environ['SLURM_JOB_ID']}.log"
    with log.open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.execv(command[0], command)


def sacct(state: Path, *words: str) -> None:
    sys.stdout.write("JobID|State|NodeList\n")
    asked = {words[place + 1] for place, word in enumerate(words) if word == "-j"}
    for file in state.glob("*.pid"):
        if file.stem.split("_")[0] in asked:
            ended = state / f"{file.stem}.exit"
            status = int(ended.read_text()) if ended.exists() else None
            said = "RUNNING" if status is None else "FAILED" if status else "COMPLETED"
            sys.stdout.write(f"{file.stem}|{said}|here\n")


def scancel(state: Path, number: str, *words: str) -> None:
    sent = signal.Signals[f"SIG{words[1].removeprefix('SIG')}"] if words else signal.SIGTERM
    processes = [
        process
        for process in descendants(int((state / f"{number}.pid").read_text()))
        if Path(f"/proc/{process}/comm").read_text().strip() != "bash"
    ]
    for process in processes:
        os.kill(process, sent)
    if not words:
        kill = f"sleep {KILL_WAIT_S}; kill -9 {' '.join(map(str, processes))}"
        subprocess.Popen(["sh", "-c", kill], start_new_session=True, stderr=subprocess.DEVNULL)


def scontrol(state: Path, what: str, number: str) -> None:
    assert what == "requeue"
    (state / f"{number}.requeue").touch()


def descendants(process: int) -> list[int]:
    """The processes that a process has begun, and those that they have."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [one for child in map(int, children) for one in (child, *descendants(child))]


if __name__ == "__main__":
    folder, verb, *given = sys.argv[1:]
    globals()[verb](Path(folder) / "state", *given)
