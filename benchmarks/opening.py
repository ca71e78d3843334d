"""Opening a large data folder: what is read the first time, against what that leaves for the next.

Of its lines an index is kept, and of its files a hash, by which runs know their data.
"""

import json
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from support import Bench, Variant, run_benchmark

from perceptio.data.folder import FolderDataset, identity, line_index
from perceptio.data.folder.kept import DATA, HASH_FILES, INDEX_FILE

LINES, QUICK_LINES = 100_000, 200
FILES, QUICK_FILES, FILE_BYTES = 20_000, 50, 2_000
ROUNDS = 3


def measure(bench: Bench) -> None:
    """Opening, and what tells the data of a run."""
    measure_lines(bench)
    measure_files(bench)


def measure_lines(bench: Bench) -> None:
    """Lines of LLaVA's layout: one to ten turns of words, most about a picture."""
    count = QUICK_LINES if bench.quick else LINES
    with mock.patch.object(line_index, "KEPT_FROM", 1), tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(folder, count)
        index = folder / INDEX_FILE
        bench.sizes["open"] = {"lines": count, "bytes": (folder / "samples.jsonl").stat().st_size}
        bench.check("open.lines", abs(len(FolderDataset(folder)) - count), 0)
        checked, indexed = known(FolderDataset(folder)), known(FolderDataset(folder))
        bench.check("open.tasks_and_pictures", float(checked != indexed), 0)
        variants = {
            "checked": Variant(partial(open_without, index)),
            "indexed": Variant(partial(FolderDataset, folder)),
        }
        bench.compare("open", variants, [("checked", "indexed")], ROUNDS)


def measure_files(bench: Bench) -> None:
    """Small files, each of a sample."""
    count = QUICK_FILES if bench.quick else FILES
    kept_always = mock.patch.multiple(identity, KEPT_FROM=1, SETTLED_S=0.0)
    with kept_always, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_files(folder, count)
        dataset, kept = FolderDataset(folder), folder / HASH_FILES.format(DATA)
        bench.sizes["hash"] = {"files": count, "bytes": count * FILE_BYTES}
        read = hash_without(dataset, kept)
        bench.check("hash.kept", float(not kept.is_file()), 0)
        bench.check("hash.same", float(identity.hash_of_data(dataset) != read), 0)
        variants = {
            "read": Variant(partial(hash_without, dataset, kept)),
            "kept": Variant(partial(identity.hash_of_data, dataset)),
        }
        bench.compare("hash", variants, [("read", "kept")], ROUNDS)


def hash_without(dataset: FolderDataset, kept: Path) -> str:
    """The hash of a folder as if it had never been asked for."""
    kept.unlink(missing_ok=True)
    return identity.hash_of_data(dataset)


def open_without(index: Path) -> FolderDataset:
    """The folder as if it had never been opened."""
    index.unlink(missing_ok=True)
    return FolderDataset(index.parent)


def known(dataset: FolderDataset) -> tuple[object, list[int]]:
    """What is known of every line without reading it."""
    return dataset.tasks, dataset.with_target("image").tolist()


def write(folder: Path, count: int) -> None:
    """A folder of so many lines; its pictures are nowhere."""
    drawn = random.Random(0)
    words = [
        "".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 10))) for _ in range(3000)
    ]

    def text(most: int) -> str:
        return " ".join(drawn.choices(words, k=drawn.randint(5, most)))

    with (folder / "samples.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            turns = [
                {"task": "chat", "question": text(20), "answer": text(60)}
                for _ in range(drawn.choice([1, 1, 2, 3, 4, 5, 8, 10]))
            ]
            image = {} if drawn.random() < 0.06 else {"image": f"images/{number:012d}.jpg"}
            lines.write(json.dumps({"id": str(number), **image, "ordered": True, "turns": turns}) + "\n")
    (folder / "dataset.json").write_text('{"format": "perceptio-data", "version": 1}')


def write_files(folder: Path, count: int) -> None:
    """A folder of so many lines with a small file each, which is no picture."""
    drawn = random.Random(0)
    (folder / "images").mkdir()
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(count):
            image = f"images/{number:012d}.jpg"
            (folder / image).write_bytes(drawn.randbytes(FILE_BYTES))
            lines.write(json.dumps({"id": str(number), "image": image, "turns": []}) + "\n")
    (folder / "dataset.json").write_text('{"format": "perceptio-data", "version": 1}')


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("opening", "Opening a large data folder.", measure, arguments)


if __name__ == "__main__":
    main()
