"""The whole demo at a tiny size: what it writes, that it goes on where it was stopped, and makes nothing twice."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DOCUMENTED = Path(__file__).parents[3] / "docs" / "metrics.md"
PROMISED = (
    "depth_tokenizer.{vqvae,fsq}.{absrel,rmse,delta1,codes_used,perplexity}",
    "{perceptio,direct,answers_only}.relative_depth.{3,4,5,mean}",
    "perceptio.{relative_depth_readout,oracle_codes,shuffled_codes}.mean",
    "perceptio.referring.{ciou,giou,missing}",
    "perceptio.depth_block.{well_formed,well_formed_free,absrel,delta1}",
    "shortcuts.{majority,lowest,largest}",
    "seconds.{scenes,depth_tokenizer,perceptio,direct,answers_only,evaluation}",
)
COMMAND = [
    sys.executable,
    "-m",
    "perceptio.cli.main",
    "demo",
    "--scenes",
    "24",
    "--steps",
    "3",
    "--cores",
    "2",
]


def start(out: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def expanded(keys: str) -> list[str]:
    """`a.{b,c}` as `a.b` and `a.c`."""
    parts = [part.split(",") for part in re.split(r"[{}]", keys)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def leaves(value: object, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {leaf for key, held in value.items() for leaf in leaves(held, f"{path}.{key}")}
    return {path[1:]}


@pytest.fixture(scope="module")
def stopped_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A demo's folder, and what was printed until Ctrl-C and after it."""
    out = tmp_path_factory.mktemp("demo") / "out"
    first = start(out)
    while not (out / "jobs" / "perceptio.json").exists() and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    before, _ = first.communicate(timeout=120)
    assert first.returncode == 130, before
    second = start(out)
    after, _ = second.communicate(timeout=400)
    assert second.returncode == 0, after
    return out, before, after


@pytest.mark.slow
def test_control_c_leaves_what_the_same_command_goes_on_from(
    stopped_and_resumed: tuple[Path, str, str],
) -> None:
    _, before, after = stopped_and_resumed
    assert "perceptio: stopped" in before and "Traceback" not in before
    for job in ("scenes", "vqvae"):
        assert f"{job}: complete, reused" in after


@pytest.mark.slow
def test_every_number_the_demo_promises_is_there(stopped_and_resumed: tuple[Path, str, str]) -> None:
    out, _, after = stopped_and_resumed
    found = leaves(json.loads((out / "metrics.json").read_text()))
    assert {key for keys in PROMISED for key in expanded(keys)} <= found
    assert f"Report: {out / 'report.html'}" in after
    assert all((out / name).stat().st_size > 10_000 for name in ("report.html", "picture.png"))


@pytest.mark.slow
def test_every_number_is_documented(stopped_and_resumed: tuple[Path, str, str]) -> None:
    documented = set()
    for pattern in re.findall(r"^\| (`.*?`) \|", DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE):
        for one in re.findall(r"`(.*?)`", pattern):
            regex = re.escape(one).replace(r"\{", "(").replace(r"\}", ")").replace(",", "|")
            documented.add(regex.replace("ARM", r"\w+").replace(r"\*", r"\w+").replace("…", r"\w+"))
    out, _, _ = stopped_and_resumed
    for leaf in leaves(json.loads((out / "metrics.json").read_text())):
        assert any(re.fullmatch(regex, leaf) for regex in documented), leaf


@pytest.mark.slow
def test_run_again_nothing_is_made_twice(stopped_and_resumed: tuple[Path, str, str]) -> None:
    out, _, _ = stopped_and_resumed
    weights = out / "perceptio" / "checkpoint" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    again = start(out)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and said.count("complete, reused") == 9 and "begins" not in said
    assert weights.stat().st_mtime_ns == made
