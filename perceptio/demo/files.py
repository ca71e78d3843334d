"""The files in which the demo's jobs leave what the report shows, beside their checkpoints."""

import json
from pathlib import Path
from typing import Any

FIGURES = "figures.json"
"""Figures of a job: of the shortcuts, of a depth tokenizer, of an arm."""
HISTORY = "history.jsonl"
"""Records of the training of a depth tokenizer."""


def read_json(path: Path) -> Any:
    """The value that a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, in a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
