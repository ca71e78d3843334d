"""Opening a large data folder: every line checked, as the first time, against the index that this leaves."""

import json
import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from support import Bench, Variant, run_benchmark

from perceptio.data.folder import FolderDataset, line_index

LINES, QUICK_LINES = 100_000, 200
ROUNDS = 3


def measure(bench: Bench) -> None:
    """Lines of LLaVA's layout: one to ten turns of words, most about a picture."""
    count = QUICK_LINES if bench.quick else LINES
    with mock.patch.object(line_index, "KEPT_FROM", 1), tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(folder, count)
        index = folder / line_index.INDEX_FILE
        bench.sizes["open"] = {"lines": count, "bytes": (folder / "samples.jsonl").stat().st_size}
        bench.check("open.lines", abs(len(FolderDataset(folder)) - count), 0)
        checked, indexed = known(FolderDataset(folder)), known(FolderDataset(folder))
        bench.check("open.tasks_and_pictures", float(checked != indexed), 0)
        variants = {
            "checked": Variant(partial(open_without, index)),
            "indexed": Variant(partial(FolderDataset, folder)),
        }
        bench.compare("open", variants, [("checked", "indexed")], ROUNDS)


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


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("opening", "Opening a large data folder.", measure, arguments)


if __name__ == "__main__":
    main()
