"""Three processes at the shards of one pass, of which one is killed: `python shard_passes.py PHOTOS OUT`.

Prints, as JSON, how each ended and what it said; then the killed shard is given again. They are forked from this
process, which has imported everything and computed nothing.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from kills import ended, forked

from perceptio.data.teachers.shards import Shard
from perceptio.data.teachers.targets import write_depth_targets
from perceptio.interfaces import Teacher, TeacherSpec


class OfBatch(Teacher):
    """Depth that depends on how many pictures go through at once, as a network's does in its last digits.

    Each picture is put down in `computed.SHARD` by its brightness, before it is computed.
    """

    name, weights_hash, spec = "of batch", "none", TeacherSpec()

    def __init__(self, log: Path | None = None, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds

    @property
    def preprocessing(self):
        return {}

    def prepare(self, image_3HW):
        return image_3HW

    def depth(self, seen_BChw):
        if self.log is not None:
            with self.log.open("a") as file:
                file.writelines(f"{number}\n" for number in numbers_of(seen_BChw))
        time.sleep(self.seconds)
        places_hw = torch.linspace(0, 1, seen_BChw.shape[2])[:, None] ** 2
        return seen_BChw.mean(1) + len(seen_BChw) * places_hw


def numbers_of(seen_BChw) -> list[int]:
    """The numbers that are the red of the first pixel."""
    return [round(255 * float(picture[0, 0, 0])) for picture in seen_BChw]


def begin(photos: Path, out: Path, number: int, seconds: float) -> int:
    def work():
        teacher = OfBatch(out.with_name(f"computed.{number}"), seconds)
        report = write_depth_targets(photos, out, teacher, batch_size=2, workers=1, shard=Shard(number, 3))
        said = {"made": report.made, "kept": report.kept, "waits_for": [str(one) for one in report.waits_for]}
        out.with_name(f"said.{number}").write_text(json.dumps(said))

    return forked(work)


def main() -> None:
    photos, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    processes = {number: begin(photos, out, number, 0.2 if number == 2 else 0.0) for number in (1, 2, 3)}
    computed = out.with_name("computed.2")
    while not computed.is_file() or len(computed.read_text().splitlines()) < 3:
        time.sleep(0.01)
    os.kill(processes[2], signal.SIGKILL)
    statuses = [ended(processes[number]) for number in (1, 2, 3)]
    said = {number: json.loads(out.with_name(f"said.{number}").read_text()) for number in (1, 3)}
    incomplete = not (out / "samples.jsonl").exists()
    statuses.append(ended(begin(photos, out, 2, 0.0)))
    said[2] = json.loads(out.with_name("said.2").read_text())
    sys.stdout.write(json.dumps({"statuses": statuses, "said": said, "incomplete": incomplete}))


if __name__ == "__main__":
    main()
