"""What decoding ahead of a depth teacher and writing behind it gains: the pass against its steps in turn.

The teacher plays a device: it waits as long as its batch would take there, and leaves the processor alone. Pictures
of 640x480 pixels are decoded, resized for Depth Anything at 518, and their maps written, as in a real pass, by one
thread. The clock is that on the wall.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support import Bench, Variant, run_benchmark
from torch import nn

from perceptio.data.teachers.depth_anything import DepthAnything
from perceptio.data.teachers.levels import to_levels
from perceptio.data.teachers.targets import TargetsReport, write_depth_targets
from perceptio.ops.files import new_file
from perceptio.ops.image_files import read_image

ROUNDS = 5
BATCH = 4
CASES = {"device_as_fast_as_decoding": 1.0, "device_three_times_slower": 3.0}
"""How long the device takes for a batch, in the time that decoding and writing it take."""


class Waiting(DepthAnything):
    """Depth Anything without its network: brightness, after a wait of so many seconds."""

    def __init__(self, seconds: float, image_size: int) -> None:
        super().__init__(model=nn.Identity(), name="waiting", weights_hash="none", image_size=image_size)
        self.seconds = seconds

    def depth(self, seen_BChw: torch.Tensor) -> torch.Tensor:
        """See `Teacher.depth`."""
        time.sleep(self.seconds)
        return seen_BChw.mean(1)


def photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of smooth noise, of which a decoder has about as much to do as of photographs."""
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        files.append(folder / f"{number:03}.jpg")
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(files[-1], quality=90)
    return files


def in_turn(files: Sequence[Path], out: Path, teacher: Waiting) -> None:
    """One step after the other: decode a batch, compute it, write it."""
    for first in range(0, len(files), BATCH):
        batch = files[first : first + BATCH]
        images = [read_image(file) for file in batch]
        depth_Bhw = teacher.depth(torch.stack([teacher.prepare(image_3HW) for image_3HW in images]))
        for file, image_3HW, depth_hw in zip(batch, images, depth_Bhw, strict=True):
            size = image_3HW.shape[-2:]
            depth_HW = nn.functional.interpolate(depth_hw[None, None], size, mode="bilinear")[0, 0].numpy()
            with new_file(out / "depth" / f"{file.name}.png") as new:
                Image.fromarray(to_levels(depth_HW, teacher.spec)).save(new, "PNG", compress_level=1)


def measure(bench: Bench) -> None:
    """A folder of photographs, on a device as fast as the processor, and on a slower one."""
    count, size, image_size = (2 * BATCH, (64, 48), 28) if bench.quick else (8 * BATCH, (640, 480), 518)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "photographs").mkdir()
        files = photographs(folder / "photographs", count, size)
        in_turn(files, folder / "first", Waiting(0.0, image_size))
        began = time.perf_counter()
        in_turn(files, folder / "plain", Waiting(0.0, image_size))
        host_s = (time.perf_counter() - began) / (count / BATCH)

        for case, factor in CASES.items():
            teacher = Waiting(factor * host_s, image_size)
            out = folder / case
            reports: list[TargetsReport] = []

            def ahead(teacher: Waiting = teacher, out: Path = out, reports: list = reports) -> None:
                settings = {"batch_size": BATCH, "workers": 1, "placing": "path"}
                reports.append(write_depth_targets(folder / "photographs", out, teacher, **settings))

            def forget(out: Path = out) -> None:
                shutil.rmtree(out, ignore_errors=True)

            def plain(teacher: Waiting = teacher, out: Path = out) -> None:
                in_turn(files, out, teacher)

            ahead()
            names = [f"depth/{file.name}.png" for file in files]
            differing = sum(
                (out / name).read_bytes() != (folder / "plain" / name).read_bytes() for name in names
            )
            bench.check(f"{case}.ahead", differing, 0)
            variants = {"in_turn": Variant(plain, forget), "ahead": Variant(ahead, forget)}
            bench.compare(case, variants, [("in_turn", "ahead")], ROUNDS, wall=True)
            bench.sizes[case] = {
                "pictures": count,
                "pixels": list(size),
                "batch": BATCH,
                "share_of_the_time_computing": round(float(np.median([one.computing for one in reports])), 2),
            }


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("depth_targets", "Decoding ahead of a depth teacher.", measure, arguments)


if __name__ == "__main__":
    main()
