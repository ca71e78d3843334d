"""What every benchmark shares: interleaved timing, ratios within one run, checks, and the result file.

A ratio compares two variants that took turns in the same process. In every round each variant runs once, and the
order is reversed from round to round, so that whatever slows the machine down slows all of them. The ratio is the
median over rounds of the ratio within a round.

On a CPU the clock is processor time of one thread, and of processes that a variant has waited for, which other
programs disturb less than a clock on the wall; only ratios are written. Variants that wait for something else than
the processor are measured on the wall. On a GPU it is the wall, the device being waited for, and milliseconds are
written too.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import attrs
import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("perceptio", "torch", "xformers", "transformers")
SHORTEST_TURN_S = 0.02
"""A variant's turn in a round repeats it until the slowest of its group takes so long (ours)."""


class DisagreementError(AssertionError):
    """Two variants that must compute the same do not; their times are not worth comparing."""


@attrs.frozen
class Variant:
    """One way to compute something: `prepare` is called before every turn, outside the clock."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@attrs.define(kw_only=True)
class Bench:
    """One run of one benchmark, gathering what its result file will say.

    Attributes:
        name: The benchmark's name.
        device: Where it runs.
        quick: Whether it runs at a tiny size, to see that it works; its ratios then mean nothing.
        sizes: Facts about what is measured, by case.
        checks: Largest difference found and allowed between variants that must agree.
        ratios: Median and quartiles over the rounds.
        milliseconds: Median time of every variant; of a GPU alone.
    """

    name: str
    device: torch.device
    quick: bool
    sizes: dict[str, object] = attrs.Factory(dict)
    checks: dict[str, dict[str, float]] = attrs.Factory(dict)
    ratios: dict[str, dict[str, float]] = attrs.Factory(dict)
    milliseconds: dict[str, float] = attrs.Factory(dict)

    def check(self, name: str, difference: float, allowed: float) -> None:
        """Note that two variants agree.

        Raises:
            DisagreementError: They differ by more than is allowed, or by NaN.
        """
        if not difference <= allowed:
            raise DisagreementError(
                f"{self.name}: {name} differs by {difference:.3g} and {allowed:.3g} is allowed. Until the variants "
                "compute the same, their times mean nothing."
            )
        self.checks[name] = {"difference": difference, "allowed": allowed}

    def compare(
        self,
        case: str,
        variants: Mapping[str, Variant],
        pairs: Sequence[tuple[str, str]],
        rounds: int,
        *,
        wall: bool = False,
    ) -> None:
        """Time variants in turns and note the ratio of every pair as `CASE.A_over_B`.

        Args:
            case: What is measured.
            variants: Ways to compute it, by name.
            pairs: Which to divide by which.
            rounds: How often each has its turn; 2 in a quick run.
            wall: Whether the clock is that on the wall, wherever they run.
        """
        now = time.perf_counter if wall else partial(_now, self.device)
        seconds = _interleave(variants, 2 if self.quick else rounds, now)
        for above, below in pairs:
            values = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
            low, median, high = statistics.quantiles(values, n=4, method="inclusive")
            self.ratios[f"{case}.{above}_over_{below}"] = {
                "median": round(median, 3),
                "quartiles": [round(low, 3), round(high, 3)],
                "rounds": len(values),
            } | ({"clock": "wall"} if wall else {})
        if self.device.type == "cuda":
            for name, times in seconds.items():
                self.milliseconds[f"{case}.{name}"] = round(statistics.median(times) * 1e3, 4)

    def result(self) -> dict[str, object]:
        """What the result file holds."""
        result = {
            "benchmark": self.name,
            "date": date.today().isoformat(),
            "command": f"python benchmarks/{self.name}.py{' --quick' if self.quick else ''}",
            "quick": self.quick,
            "device": _device_facts(self.device),
            "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
            "sizes": self.sizes,
            "checks": self.checks,
            "ratios": self.ratios,
        }
        return result | ({"milliseconds": self.milliseconds} if self.milliseconds else {})


def run_benchmark(
    name: str, summary: str, measure: Callable[[Bench], None], arguments: Sequence[str] | None = None
) -> dict[str, object]:
    """A benchmark's command line: parse, measure on one thread, print the ratios, write the result file.

    Args:
        name: The benchmark's name, that of its file.
        summary: For `--help`.
        measure: Fills a `Bench`.
        arguments: The command line; None: the process's own.

    Returns:
        What the result file holds.
    """
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: does it run? its ratios mean nothing"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the result file; default benchmarks/results, with --quick none"
    )
    chosen = parser.parse_args(arguments)
    bench = Bench(name=name, device=torch.device(chosen.device), quick=chosen.quick)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        measure(bench)
    finally:
        torch.set_num_threads(threads)
    result, out = bench.result(), chosen.out or (None if chosen.quick else RESULTS)
    for key, ratio in bench.ratios.items():
        low, high = ratio["quartiles"]
        print(f"{key:<72} {ratio['median']:8.2f}   [{low:.2f}, {high:.2f}]")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        path = out / f"{name}-{_device_slug(bench.device)}-{result['date']}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written to {path}", file=sys.stderr)
    return result


def relative_difference(found: Tensor, truth: Tensor) -> float:
    """Largest difference between two tensors, in units of the largest value of the second."""
    found, truth = found.detach().double(), truth.detach().double()
    return float((found - truth).abs().max() / truth.abs().max())


def _interleave(
    variants: Mapping[str, Variant], rounds: int, now: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of one run of every variant, round by round, after runs that do not count."""

    def turn(variant: Variant, runs: int) -> float:
        variant.prepare()
        started = now()
        for _ in range(runs):
            variant.run()
        return (now() - started) / runs

    slowest = max(turn(variant, 1) for variant in variants.values())
    if slowest < 10 * SHORTEST_TURN_S:  # The first run of something short is mostly setting up.
        slowest = max(turn(variant, 1) for variant in variants.values())
    runs = math.ceil(SHORTEST_TURN_S / slowest)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        names = list(variants)
        for name in names if number % 2 else reversed(names):
            seconds[name].append(turn(variants[name], runs))
    return seconds


def _now(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time() + _children_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def _children_time() -> float:
    """Processor time in seconds of processes that have ended and were waited for."""
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _device_facts(device: torch.device) -> dict[str, object]:
    if device.type == "cuda":
        return {"kind": "cuda", "name": torch.cuda.get_device_name(device), "clock": "wall, synchronized"}
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "kind": "cpu",
        "name": f"{platform.machine()}, {capability}",
        "clock": "processor time of one thread",
    }


def _device_slug(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
