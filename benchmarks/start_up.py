"""What a verb that computes nothing costs beyond what it must import: processor time of whole processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from support import Bench, Variant, run_benchmark

ROUNDS = 3
RUN = "import sys; sys.argv[0] = 'perceptio'; from perceptio.cli.main import main; main()"
IMPORTS = {
    "python": "",
    "torch": "import torch",
    "imports": "import torch, transformers",
    "model_imports": "import torch, transformers.modeling_utils",
}
VERBS = {
    "help": ("--help",),
    "components": ("components",),
    "explain": ("explain", "perceptio_1b"),
}
PAIRS = {
    "help": [("help", "python")],
    "components": [("components", "torch")],
    "explain": [("explain", "imports"), ("explain", "model_imports")],
}


def measure(bench: Bench) -> None:
    """Verb by verb, the last one building a large model on the meta device; a quick run asks for help alone."""
    programs: dict[str, Variant] = {name: Variant(partial(run, code)) for name, code in IMPORTS.items()}
    programs |= {name: Variant(partial(run, RUN, *words)) for name, words in VERBS.items()}
    for case, pairs in PAIRS.items():
        if bench.quick and case != "help":
            continue
        bench.sizes[case] = {"command": " ".join(["perceptio", *VERBS[case]])}
        group = {name: programs[name] for pair in pairs for name in pair}
        for name, program in group.items():
            bench.check(f"{case}.{name}.exit_status", program.run(), 0)
        bench.compare(case, group, pairs, ROUNDS)


def run(code: str, *words: str) -> int:
    """The exit status of a program in a process of its own, on one thread."""
    command = [sys.executable, "-c", code, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, capture_output=True, env=environment).returncode


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("start_up", "What verbs cost that compute nothing.", measure, arguments)


if __name__ == "__main__":
    main()
