"""A model of VLMEvalKit: the contract of its base class, and its own loop where it is installed."""

import base64
import io
import os
import subprocess
import sys

import fake_harnesses
import numpy as np
import pytest
from PIL import Image
from vlmeval.config import supported_VLM
from vlmeval.vlm.base import BaseModel

from perceptio.errors import InputError, UnknownNameError
from perceptio.harness.vlmevalkit import Perceptio, register

BOUND_S = 300


def png(number):
    held = io.BytesIO()
    values = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(held, "PNG")
    return held.getvalue()


@pytest.fixture(scope="module")
def model(checkpoint):
    return Perceptio(pretrained=str(checkpoint), perceive="none", device="cpu", max_new_tokens=4)


def test_a_message_is_answered_as_the_model_answers(model, tmp_path):
    assert issubclass(Perceptio, BaseModel) and not model.use_custom_prompt("MMBench")
    (tmp_path / "one.png").write_bytes(png(1))
    message = [
        {"type": "image", "value": str(tmp_path / "one.png")},
        {"type": "text", "value": "What is this?"},
        {"type": "text", "value": "A. red"},
    ]
    reply = model.generate(message, dataset="MMBench")
    asked = model.responder.model.ask(tmp_path / "one.png", "What is this?\nA. red", perceive=())
    assert reply and asked.text.startswith(reply)
    assert isinstance(model.generate([{"type": "text", "value": "What is this?"}]), str)


def test_several_pictures_are_refused_by_the_dataset_s_name(model, tmp_path):
    (tmp_path / "one.png").write_bytes(png(1))
    message = [{"type": "image", "value": str(tmp_path / "one.png")}] * 2 + [
        {"type": "text", "value": "Which?"}
    ]
    with pytest.raises(
        InputError, match="A question of BLINK shows 2 pictures, and a Perceptio model sees one"
    ):
        model.generate(message, dataset="BLINK")


def test_a_model_is_added_to_the_table(checkpoint, monkeypatch):
    monkeypatch.setattr(
        sys.modules["perceptio.harness.vlmevalkit"], "supported_VLM", table := dict(supported_VLM)
    )
    register("mine", pretrained=str(checkpoint), perceive="none", device="cpu", temperature=0.5)
    assert table["mine"]().decoding.temperature == 0.5
    register("mine", pretrained=str(checkpoint))
    with pytest.raises(UnknownNameError, match="has no argument 'pretraind'; did you mean 'pretrained'"):
        register("other", pretraind="x")
    taken = next(name for name in table if name != "mine")
    with pytest.raises(InputError, match="of its own: give yours another name"):
        register(taken, pretrained=str(checkpoint))


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A dataset of three questions, by its name."""
    monkeypatch.setenv("LMUData", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    rows = [
        [str(number), base64.b64encode(png(number)).decode(), f"What is it{'?' * number}", "red", "blue", "A"]
        for number in range(3)
    ]
    table = "\n".join("\t".join(row) for row in [["index", "image", "question", "A", "B", "answer"], *rows])
    (tmp_path / "data" / "Three.tsv").write_text(table)
    (tmp_path / "out").mkdir()


@pytest.mark.skipif(not fake_harnesses.there("vlmeval"), reason="VLMEvalKit is not installed")
def test_vlmevalkit_itself_asks_it(model, three, tmp_path):
    from vlmeval.dataset import build_dataset
    from vlmeval.inference import infer_data_job
    from vlmeval.smp import load

    dataset = build_dataset("Three")
    asked = [model.generate(dataset.build_prompt(number), dataset="Three") for number in range(3)]
    infer_data_job(model, str(tmp_path / "out"), "mine", dataset)
    (file,) = (tmp_path / "out").glob("mine_Three.*")
    predicted = [str(text) for text in load(str(file))["prediction"]]
    assert predicted == asked


JOB = """\
import sys
import torch.distributed
from vlmeval.config import supported_VLM
from vlmeval.dataset import build_dataset
from vlmeval.inference import infer_data_job
from perceptio.harness.vlmevalkit import register

torch.distributed.init_process_group("gloo")
register("mine", pretrained=sys.argv[1], perceive="none", device="cpu", max_new_tokens=4)
infer_data_job(supported_VLM["mine"](), sys.argv[2], "mine", build_dataset("Three"))
"""


@pytest.mark.skipif(not fake_harnesses.there("vlmeval"), reason="VLMEvalKit is not installed")
def test_two_processes_of_vlmevalkit_reply_as_one(checkpoint, model, three, tmp_path):
    from vlmeval.dataset import build_dataset
    from vlmeval.smp import load

    (tmp_path / "job.py").write_text(JOB)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", tmp_path / "job.py"]
    done = subprocess.run(
        [sys.executable, *map(str, [*command, checkpoint, tmp_path / "out"])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert done.returncode == 0, done.stderr
    dataset = build_dataset("Three")
    (file,) = (tmp_path / "out").glob("mine_Three.*")
    predicted = [str(text) for text in load(str(file))["prediction"]]
    assert predicted == [model.generate(dataset.build_prompt(number), dataset="Three") for number in range(3)]
