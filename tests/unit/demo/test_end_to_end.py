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
from typer.testing import CliRunner

from perceptio.cli.main import app

DOCUMENTED = Path(__file__).parents[3] / "docs" / "metrics.md"
PROMISED = (
    "depth_tokenizer.{vqvae,fsq}.{absrel,rmse,delta1,codes_used,perplexity}",
    "{perceptio,readout_without_block,lookup_from_vision}.relative_depth.{3,4,5,mean}",
    "{readout_without_block,lookup_from_vision}.{learned,validation.relative_depth.mean}",
    "paired.perceptio_minus_{readout_without_block,lookup_from_vision}.{difference,interval}",
    "perceptio.answer_format",
    "perceptio.{relative_depth_readout,oracle_codes,shuffled_codes}.mean",
    "perceptio.referring.{ciou,giou,missing}",
    "perceptio.depth_block.{well_formed,well_formed_free,absrel,delta1}",
    "shortcuts.{majority,lowest,largest}",
    "seconds.{scenes,depth_tokenizer,perceptio,readout_without_block,lookup_from_vision,evaluation}",
)
OF_STREAMS = (
    "streams.edges_map.{absolute_error,correlation,count,missing}",
    "streams.normals_map.{angle_degrees,count,missing}",
    "streams.features_map.{cosine,mse,count,missing}",
    "streams.referring_box.{count,missing}",
    "streams.true_codes.{box.iou,edges.correlation,normals.angle_degrees}",
    "streams.another_scene.{box.iou,edges.correlation,normals.angle_degrees,features.cosine}",
)
WORDS = ["demo", "--scenes", "24", "--steps", "3", "--cores", "2", "--out"]


def demo(out: Path, *more: str) -> str:
    """What a demo prints that comes to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        result = CliRunner().invoke(app, [*WORDS, str(out), *more])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


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
    first = subprocess.Popen(
        [sys.executable, "-m", "perceptio.cli.main", *WORDS, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (out / "jobs" / "vqvae.json").exists() and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    before, _ = first.communicate(timeout=120)
    assert first.returncode == 130, before
    return out, before, demo(out)


@pytest.fixture(scope="module")
def with_streams(stopped_and_resumed: tuple[Path, str, str]) -> tuple[Path, str]:
    """The same folder after every kind of stream is asked for, too, and what was printed."""
    out, _, _ = stopped_and_resumed
    return out, demo(out, "--streams")


@pytest.mark.slow
def test_control_c_leaves_what_the_same_command_goes_on_from(
    stopped_and_resumed: tuple[Path, str, str],
) -> None:
    _, before, after = stopped_and_resumed
    assert "vqvae: stopped" in before and "Traceback" not in before
    assert "scenes: complete, reused" in after and "vqvae: begins" in after


@pytest.mark.slow
def test_every_number_the_demo_promises_is_there(stopped_and_resumed: tuple[Path, str, str]) -> None:
    out, _, after = stopped_and_resumed
    found = leaves(json.loads((out / "metrics.json").read_text()))
    assert {key for keys in PROMISED for key in expanded(keys)} <= found
    assert f"Report: {out / 'report.html'}" in after
    assert all((out / name).stat().st_size > 10_000 for name in ("report.html", "picture.png"))


@pytest.mark.slow
def test_run_again_nothing_is_made_twice(stopped_and_resumed: tuple[Path, str, str]) -> None:
    out, _, _ = stopped_and_resumed
    weights = out / "perceptio" / "checkpoint" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    said = demo(out)
    assert said.count("complete, reused") == 9 and "begins" not in said
    assert weights.stat().st_mtime_ns == made


@pytest.mark.slow
def test_every_kind_of_stream_is_added_to_a_complete_demo(
    stopped_and_resumed: tuple[Path, str, str], with_streams: tuple[Path, str]
) -> None:
    out, said = with_streams
    assert said.count("complete, reused") == 9 and said.count("begins") == 2
    found = leaves(json.loads((out / "metrics.json").read_text()))
    assert {key for keys in OF_STREAMS for key in expanded(keys)} <= found
    assert "Every kind of stream" in (out / "report.html").read_text(encoding="utf-8")
    _, _, before = stopped_and_resumed
    table = re.compile(r"Which marked point.*?masks cIoU", re.DOTALL)
    assert table.search(said)[0] == table.search(before)[0]


@pytest.mark.slow
def test_every_number_is_documented(with_streams: tuple[Path, str]) -> None:
    documented = set()
    for pattern in re.findall(r"^\| (`.*?`) \|", DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE):
        for one in re.findall(r"`(.*?)`", pattern):
            regex = re.escape(one).replace(r"\{", "(").replace(r"\}", ")").replace(",", "|")
            documented.add(regex.replace("ARM", r"\w+").replace(r"\*", r"\w+").replace("…", r"\w+"))
    out, _ = with_streams
    for leaf in leaves(json.loads((out / "metrics.json").read_text())):
        assert any(re.fullmatch(regex, leaf) for regex in documented), leaf
