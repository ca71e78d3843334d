"""A model of lmms-eval: the contract of its base class, and its own evaluator where it is installed."""

import inspect
import json
import os
import subprocess
import sys
import tomllib
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import fake_harnesses
import numpy as np
import pytest
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from PIL import Image

from perceptio.errors import InputError, UnknownNameError
from perceptio.harness.lmms_eval import Perceptio, manifest

BOUND_S = 300
DOCUMENTS = [
    {"picture": number, "question": question, "choices": ["red", "a blue box"]}
    for number, question in ((0, "<image>\nWhat is this?"), (1, "Which color?"), (0, "Why?"))
]
TASK = """\
dataset_path: json
dataset_kwargs:
  data_files:
    test: {lines}
test_split: test
doc_to_visual: !function three_functions.pictures
doc_to_text: !function three_functions.question
"""
GENERATED = """\
task: three
output_type: generate_until
doc_to_target: question
process_results: !function three_functions.score
generation_kwargs:
  max_new_tokens: 4
  temperature: 0
  top_p: 1.0
  num_beams: 1
metric_list:
  - metric: length
    aggregation: !function three_functions.total
    higher_is_better: true
"""
CHOSEN = """\
task: three_choices
output_type: multiple_choice
doc_to_target: right
doc_to_choice: choices
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
FUNCTIONS = """\
import numpy as np
from PIL import Image

def pictures(document):
    values = np.random.default_rng(document["picture"]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(values)]

def question(document, prompts=None):
    return document["question"]

def score(document, replies):
    return {"length": len(replies[0])}

def total(values):
    return sum(values)
"""


def pictures(document):
    values = np.random.default_rng(document["picture"]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(values)]


@pytest.fixture(scope="module")
def model(checkpoint):
    arguments = f"pretrained={checkpoint},perceive=none"
    extra = {"batch_size": "2", "max_batch_size": None, "device": "cpu"}
    held = Perceptio.create_from_arg_string(arguments, extra)
    held.task_dict = {"three": {"test": DOCUMENTS}}
    return held


def generated(number, settings=None, visual=pictures, documents=DOCUMENTS):
    settings = {"max_new_tokens": 4, "until": ["\n\n"]} if settings is None else settings
    return Instance(
        request_type="generate_until",
        arguments=(documents[number]["question"], settings, visual, number, "three", "test"),
        idx=0,
        metadata={"task": "three", "doc_id": number, "repeats": 1},
    )


def test_it_is_a_model_by_the_published_interface(model):
    assert issubclass(Perceptio, lmms) and not inspect.isabstract(Perceptio) and Perceptio.is_simple
    assert (model.rank, model.world_size, model.batch_size, model.device.type) == (0, 1, 2, "cpu")
    made = manifest()
    assert (made.model_id, made.simple_class_path) == ("perceptio", "perceptio.harness.lmms_eval.Perceptio")


def test_the_package_offers_it_to_the_registry():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    offered = project["project"]["entry-points"]["lmms_eval.models"]["perceptio"]
    assert EntryPoint("perceptio", offered, "lmms_eval.models").load() is manifest


def test_three_questions_are_answered_in_order(model):
    replies = model.generate_until([generated(number) for number in range(3)])
    asked = model.responder.model
    for reply, document in zip(replies, DOCUMENTS, strict=True):
        (picture,), text = pictures(document), document["question"].replace("<image>\n", "")
        answer = asked.ask_batch([(picture, text, ())], perceive=())[0].text
        assert answer.startswith(reply) and reply


def test_a_question_may_show_no_picture(model):
    assert model.generate_until([generated(1, visual=lambda document: [])])


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (
            lambda document: pictures(document) * 2,
            "Document 1 of the task 'three' shows 2 pictures, and a Per",
        ),
        (
            lambda document: ["film.mp4"],
            "Document 1 of the task 'three' shows 'film.mp4', and a Perceptio model",
        ),
    ],
)
def test_several_pictures_and_films_are_refused_by_the_task_s_name(model, shown, message):
    with pytest.raises(InputError, match=message):
        model.generate_until([generated(1, visual=shown)])


def test_settings_of_generation_are_followed(model):
    def decoding(**settings):
        return model._decoding(settings, "three")

    assert decoding().max_new_tokens == 1024 and decoding().temperature == 0
    assert decoding(max_new_tokens=7, until="stop").until == ("stop",)
    assert decoding(temperature=0.7).temperature == 0.7
    assert decoding(temperature=0.7, do_sample=False).temperature == 0
    assert (
        decoding(do_sample=True).temperature == 1
        and decoding(do_sample=True, temperature=0.2).temperature == 0.2
    )
    assert decoding(masks="coco_rle").masks and not decoding().masks
    with pytest.raises(
        InputError, match="The task 'three' sets masks='polygons'; the one form of masks is coco_rle"
    ):
        decoding(masks="polygons")


def test_settings_that_are_not_followed_are_said_once_where_they_make_a_difference(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model._decoding({"top_p": 0.1, "num_beams": 1, "top_k": None, "repetition_penalty": 1.0}, "three")
    with pytest.warns(
        UserWarning, match="The task 'beams' sets num_beams=5 for generation, which a Perceptio"
    ):
        model._decoding({"num_beams": 5}, "beams")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model._decoding({"num_beams": 5}, "beams")
    with pytest.warns(UserWarning, match="The task 'warm' sets top_p=0.9 for generation"):
        model._decoding({"top_p": 0.9, "temperature": 1.0}, "warm")


def test_the_loss_of_an_answer_is_the_mean_of_its_tokens(model):
    def rated(answer):
        arguments = (DOCUMENTS[1]["question"], answer, pictures, 1, "three", "test")
        metadata = {"task": "three", "doc_id": 1, "repeats": 1}
        return Instance(request_type="loglikelihood", arguments=arguments, idx=0, metadata=metadata)

    answers = [" red", lambda document: document["choices"][1]]
    results = [result.text for result in model.loglikelihood([rated(answer) for answer in answers])]
    for (loss, likeliest), answer in zip(results, DOCUMENTS[1]["choices"], strict=True):
        request = model._request("Which color?", pictures, 1, "three", "test", None)
        (told,) = model.responder.likelihoods([request], [answer])
        assert loss == pytest.approx(-told.log_likelihood / told.ids, rel=1e-4) and loss > 0
        assert likeliest is told.likeliest
    alone = Instance("loglikelihood", ("", "red"), 0, {"task": "three", "doc_id": 1, "repeats": 1})
    with pytest.raises(
        InputError, match="The task 'three' asks how likely an answer is without its question"
    ):
        model.loglikelihood([alone])


def test_several_rounds_are_refused(model):
    with pytest.raises(
        InputError, match="The task 'three' asks in several rounds, and a Perceptio model answers"
    ):
        model.generate_until_multi_round([generated(0)])


def test_an_unknown_argument_is_named():
    with pytest.raises(UnknownNameError, match="has no argument 'device_map'; did you mean 'device'"):
        Perceptio.create_from_arg_string("pretrained=x,device_map=auto", {})


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A folder for `--include_path` with two tasks of three questions."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    documents = [one | {"right": number % 2} for number, one in enumerate(DOCUMENTS)]
    lines = tmp_path / "three.jsonl"
    lines.write_text("".join(f"{json.dumps(one)}\n" for one in documents))
    (tmp_path / "three_functions.py").write_text(FUNCTIONS)
    (tmp_path / "three.yaml").write_text(GENERATED + TASK.format(lines=lines))
    (tmp_path / "three_choices.yaml").write_text(CHOSEN + TASK.format(lines=lines))
    return tmp_path


@pytest.mark.skipif(not fake_harnesses.there("lmms_eval"), reason="lmms-eval is not installed")
def test_lmms_eval_itself_asks_it(checkpoint, tasks):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    results = simple_evaluate(
        model="perceptio",
        model_args=f"pretrained={checkpoint},perceive=before",
        tasks=["three", "three_choices"],
        batch_size=2,
        device="cpu",
        task_manager=TaskManager(include_path=str(tasks), model_name="perceptio"),
    )
    replies = [one["filtered_resps"] for one in results["samples"]["three"]]
    assert len(replies) == 3
    assert results["results"]["three"]["length,none"] == sum(
        len(one[0] if isinstance(one, list) else one) for one in replies
    )
    rated = [[pair[0] for pair in one["filtered_resps"]] for one in results["samples"]["three_choices"]]
    right = [int(np.argmin(losses)) == number % 2 for number, losses in enumerate(rated)]
    assert results["results"]["three_choices"]["acc,none"] == pytest.approx(np.mean(right))


@pytest.mark.skipif(not fake_harnesses.there("lmms_eval"), reason="lmms-eval is not installed")
def test_two_processes_of_lmms_eval_come_to_the_figures_of_one(checkpoint, tasks):
    """Of three questions one has two, and is asked the second of them once more."""

    def figures(out, *start):
        asked = ("--model", "perceptio", "--model_args", f"pretrained={checkpoint}", "--device", "cpu")
        chosen = ("--include_path", tasks, "--tasks", "three,three_choices", "--batch_size", "2")
        command = (*start, "-m", "lmms_eval", *asked, *chosen, "--output_path", out, "--log_samples")
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert done.returncode == 0, done.stderr
        (results,) = out.rglob("*_results.json")
        (samples,) = out.rglob("*_samples_three.jsonl")
        lines = map(json.loads, samples.read_text().splitlines())
        replies = {one["doc_id"]: one["filtered_resps"] for one in lines}
        found = json.loads(results.read_text())["results"]
        return found["three"]["length,none"], found["three_choices"]["acc,none"], replies

    several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one = figures(tasks / "one")
    assert figures(tasks / "two", *several) == one and one[0] > 0 and sorted(one[2]) == [0, 1, 2]
