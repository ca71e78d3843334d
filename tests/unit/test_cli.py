"""The command line as a user meets it: what it prints, what it writes, and its exit status."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import scenes_folder

from perceptio.cli import ablate, compare, depth_targets
from perceptio.cli import main as command
from perceptio.data.scenes import Split
from perceptio.evaluation.answers import read_answers, right_or_wrong
from perceptio.ops.intervals import wilson
from perceptio.ops.wording import number_of
from perceptio.training.trainer import Trainer

RECIPE = """
import sys
sys.path.insert(0, {support!r})
from pathlib import Path
from small import small_recipe


def recipe():
    return small_recipe(Path({folder!r}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with scenes and a recipe that trains on them."""
    from pathlib import Path

    folder = tmp_path_factory.mktemp("place")
    scenes_folder(folder / "train")
    scenes_folder(folder / "test", count=4, split=Split.TEST)
    support = str(Path(__file__).parents[1] / "support")
    (folder / "recipe.py").write_text(RECIPE.format(support=support, folder=str(folder / "train")))
    return folder


def test_help_and_import_do_not_load_torch():
    code = (
        "import sys, perceptio, perceptio.cli.main; assert not {'torch', 'numpy'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_names_every_verb(run):
    status, out, _ = run("--help")
    assert status == 0
    verbs = [
        "demo",
        "explain",
        "train",
        "train-tokenizer",
        "eval",
        "compare",
        "report",
        "power",
        "ask",
        "tokenize",
        "components",
        "recipes",
        "scenes",
        "data",
    ]
    for verb in verbs:
        assert verb in out
        assert run(verb, "--help")[0] == 0


@pytest.mark.parametrize(
    ("name", "verb"), [("ablate", ablate), ("compare", compare), ("depth-targets", depth_targets)]
)
def test_help_breaks_lines_only_where_the_terminal_ends(run, name, verb):
    shown = [line.strip() for line in run(name, "--help", columns=500)[1].splitlines()]
    paragraphs = [" ".join(one.split()) for one in verb.run.__doc__.split("\n\n")]
    assert len(paragraphs) > 1 and set(paragraphs) <= set(shown)


def test_components_lists_every_kind(run):
    status, out, _ = run("components")
    assert status == 0
    for name in (
        "vqvae",
        "fsq",
        "pixel_features",
        "conv",
        "decoder",
        "prompt_mlp",
        "expected_count",
        "map",
        "referring",
    ):
        assert name in out


def test_recipes_lists_what_ships_and_copies_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("recipes")
    assert status == 0 and "perceptio recipes copy NAME FILE" in out
    for line in (
        "perceptio_tiny ",
        "ablations/direct ",
        "arXiv 2412.03548 · recipe(size='1.5-13b') · tiny()",
    ):
        assert line in out
    status, out, _ = run("recipes", "copy", "ablations/direct", "mine.py")
    assert (status, out.splitlines()) == (
        0,
        [
            "mine.py is yours to change; perceptio explain mine.py shows it.",
            "It starts from perceptio_tiny.py, which comes with the library.",
        ],
    )
    assert run("explain", "mine.py")[0] == 0
    _, out, _ = run("recipes", "copy", "experiments/losses", "several.py")
    assert out.startswith("several.py is yours to change; perceptio ablate several.py --dry-run shows it.")
    status, _, err = run("recipes", "copy", "ablations/direct", "mine.py")
    assert status == 2 and "mine.py is there already and is not overwritten" in err


def test_names_of_recipes_are_whole_on_a_narrow_terminal():
    done = subprocess.run(
        [sys.executable, "-m", "perceptio.cli.main", "recipes"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "40"},
    )
    assert "ablations/readout_without_block " in done.stdout


def test_explain_shows_what_will_be_built(run):
    status, out, _ = run(
        "explain",
        "perceptio_tiny",
        "--set",
        "streams.depth.codes_per_step=5",
        "--set",
        'data.validation=["absent"]',
    )
    assert status == 0
    for shown in (
        "depth:vqvae",
        "[SEG]",
        "<depth_start>",
        "depth_token",
        "loss:token",
        "segmentation → depth → text",
        "1 special token an object",
        "5 a step",
        "codebook of depth",
        "tokens per image",
        "mixture of tasks",
        "relative_depth 1, ",
        "optimizer 0.01",
        "no weights: `train` trains it first",
        "absent (not there)",
        "fingerprint",
    ):
        assert shown in out, shown


def test_explain_foretells_the_peak_of_a_step_on_the_data(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    folder = scenes_folder(tmp_path / "scenes", count=4)
    data = ("--set", f'data.folders=["{folder}"]', "--set", "train.micro_batch_size=2")
    status, out, _ = run("explain", "perceptio_1b:tiny", *data, "--peak")
    assert status == 0 and "Memory, without caches" in out
    assert re.search(
        r"peak of a step +1\.\d\d +tensors 0\.\d\d, Python and libraries 0\.90; a step on cpu in bfloat16 of the "
        r"longest of the first 16 batches: conversations of [\d,]+, [\d,]+ tokens, pictures of \d+x\d+ pixels",
        out,
    )


def test_explain_of_two_recipes_shows_what_differs(run):
    changed = ("--set", "streams.depth.tokenizer.codebook_size=64")
    status, out, _ = run("explain", "perceptio_tiny", "ablations/direct", *changed)
    rows = {" ".join(line.split()) for line in out.splitlines()}
    assert status == 0
    assert {
        "setting A: perceptio-tiny B: direct",
        "streams.depth.tokenizer.codebook_size 128 64",
        "answer_format readout direct",
        "parameters 2,566,891 2,538,091",
        "of language 684,928 676,736",  # 64 codes less, of width 128.
        "vocabulary 734 ids 670 ids",
        "tokens per image 100 100",
    } <= rows
    assert not any(row.startswith("of vision ") for row in rows) and "vision.widths" not in out
    status, out, _ = run("explain", "perceptio_tiny", "perceptio_tiny")
    assert status == 0 and "Every setting is the same." in out


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("perceptio_tiny", "readout: the code of depth at each marked point, written by the model"),
        ("ablations/direct", "direct"),
        (
            "perceptio_lookup",
            "lookup: depth at each marked point in 64 levels, given to the model from the map that it wrote (soft "
            "decoding; trained with true codes)",
        ),
        ("ablations/lookup_from_vision", "given to the model from a map from the vision features"),
        (
            "ablations/readout_without_block",
            "readout: depth at each marked point in 64 levels, written by the model",
        ),
    ],
)
def test_explain_shows_what_is_said_of_marked_points(run, recipe, said):
    status, out, _ = run("explain", recipe)
    assert status == 0 and said in " ".join(out.partition("answer format")[2].split())


def test_explain_shows_what_tasks_are_told(run):
    status, out, _ = run("explain", "perceptio_streams")
    assert status == 0 and "tasks.edges_map" in out and '"edges"' in out


def test_explain_says_which_stream_no_loss_is_about(run):
    losses = 'losses=["next_token"]'
    status, out, _ = run("explain", "perceptio_tiny", "--set", losses, "--set", "heads={}")
    assert status == 0 and "losses of depth         none: it is written, and nothing of it is learned" in out


def test_train_eval_ask(run, place, tmp_path):
    status, out, _ = run("train", place / "recipe.py", "--out", tmp_path / "run", "--set", "train.steps=3")
    assert status == 0 and "perceptio eval" in out

    status, _, err = run("train", place / "recipe.py", "--out", tmp_path / "run", "--set", "train.steps=3")
    assert status == 2 and "holds a checkpoint already; give --resume" in err
    assert (
        "names no weights for the tokenizer depth:vqvae of the stream 'depth': it is trained first, for 4"
        in out
    )
    assert "of 8 codes of depth (perplexity" in out

    status, out, _ = run(
        "eval", tmp_path / "run", "--data", place / "test", "--limit", "3", "--out", tmp_path / "out"
    )
    assert status == 0
    (figures,) = json.loads((tmp_path / "out" / "metrics.json").read_text()).values()
    assert {"relative_depth", "depth_block", "oracle_codes", "referring"} <= figures.keys()
    assert figures["depth_block"]["well_formed"] == 1.0
    assert "relative_depth.mean" in out
    answers = read_answers(tmp_path / "out")
    for name in ("relative_depth", "relative_depth_readout", "oracle_codes", "shuffled_codes"):
        right = [one.scored[name]["right"] for one in answers if name in one.scored]
        assert len(right) == figures[name]["count"]
        assert wilson(sum(right), len(right)) == pytest.approx(tuple(figures[name]["interval"]))
    status, out, _ = run("compare", tmp_path / "out", tmp_path / "out")
    assert status == 0 and out.count("No question is discordant") == len(right_or_wrong(answers)) > 3
    status, out, _ = run(
        *("eval", tmp_path / "run", "--data", place / "test", "--limit", "3", "--out", tmp_path / "out"),
        *("--controls", "markers_only,self"),
    )
    (controlled,) = json.loads((tmp_path / "out" / "metrics.json").read_text()).values()
    assert list(controlled["controls"]["relative_depth"]["depth"]) == ["self", "markers_only"]
    assert controlled["relative_depth"] == figures["relative_depth"]
    kept = "controls.relative_depth.depth.markers_only"
    again = [one.scored[kept]["right"] for one in read_answers(tmp_path / "out") if kept in one.scored]
    assert len(again) == controlled["controls"]["relative_depth"]["depth"]["markers_only"]["count"]
    for shown in ("relative_depth, with something else in place of depth", "read off the map", "(shortcut)"):
        assert shown in out
    status, _, err = run("eval", tmp_path / "run", "--controls", "slef")
    assert status == 2 and "There is no control 'slef'; did you mean 'self'?" in err
    status, _, err = run("eval", tmp_path / "run", "--limit", "1", "--out", tmp_path / "out")
    assert status == 0 and "questions that the model was trained on" in err
    assert len(read_answers(tmp_path / "out")) < len(answers)  # Those of the new evaluation alone.
    status, _, err = run("compare", tmp_path / "out", tmp_path / "run")
    assert status == 2 and f"{tmp_path / 'run'} has no answers.jsonl: run `perceptio eval` again" in err
    shutil.copytree(place / "test", tmp_path / "flat")
    lines = [json.loads(line) for line in (tmp_path / "flat" / "samples.jsonl").read_text().splitlines()]
    without_depth = [{key: held for key, held in line.items() if key != "depth"} for line in lines]
    (tmp_path / "flat" / "samples.jsonl").write_text(
        "".join(f"{json.dumps(line)}\n" for line in without_depth)
    )
    folders = ("--data", tmp_path / "flat", "--data", place / "test")
    status, out, _ = run("eval", tmp_path / "run", *folders, "--limit", "1")
    assert status == 0
    assert {one.data for one in read_answers(tmp_path / "run")} == {str(one) for one in folders[1::2]}
    assert "Not scored: the stream 'depth', as no sample has what it is learned from." in out
    for line in lines:
        line["turns"] = [turn for turn in line["turns"] if turn["task"] == "attribute"]
    (tmp_path / "flat" / "samples.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    status, out, _ = run("eval", tmp_path / "run", "--data", tmp_path / "flat", "--controls", "all")
    assert status == 0 and "No controls: nothing was written before an answer that they can replace." in out

    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((40, 60, 3), 128, dtype=np.uint8)).save(picture)
    status, out, _ = run(
        "ask",
        tmp_path / "run",
        picture,
        "Which point is closest?",
        "--point",
        "0.2,0.5",
        "--point",
        "0.8,0.5",
        "--out",
        tmp_path / "answer",
    )
    assert status == 0
    answer = json.loads((tmp_path / "answer" / "answer.json").read_text())
    assert answer["points"] == [[0.2, 0.5], [0.8, 0.5]] and answer["tokens"]
    assert answer["seconds"].keys() == {"load", "answer"} and min(answer["seconds"].values()) > 0
    assert len(answer["codes"]["depth"]) in (0, 16)
    assert Image.open(tmp_path / "answer" / "marked-picture.png").size == (60, 40)

    def ask(*more, out="answer"):
        return run("ask", tmp_path / "run", picture, "What is it?", "--out", tmp_path / out, *more)

    assert ask("--perceive", "depth", "--perceive", "segmentation") == ask("--perceive", "depth,segmentation")
    status, out, _ = ask("--perceive", "depth,segmentation")
    assert status == 0 and "answer.json, marked-picture.png, depth.png" in out
    answer = json.loads((tmp_path / "answer" / "answer.json").read_text())
    assert answer["tokens"][0] == "<depth_start>" and len(answer["codes"]["depth"]) == 16
    assert answer["objects"]["segmentation"]
    assert Image.open(tmp_path / "answer" / "depth.png").size == (60, 40)
    status, _, _ = ask("--perceive", "none", "--point", "0.5,0.5", out="marked")
    with Image.open(tmp_path / "marked" / "marked-picture.png") as marked:
        assert (np.asarray(marked) == (255, 0, 0)).all(-1).any()
    status, out, _ = run("ask", tmp_path / "run", "What is a point?", "--out", tmp_path / "words")
    assert status == 0 and "answer.json" in out and "picture" not in out
    answer = json.loads((tmp_path / "words" / "answer.json").read_text())
    assert answer["image"] is None and answer["pictures"] == []
    status, _, err = run("ask", tmp_path / "run", "Which is closest?", "--point", "0.2,0.5")
    assert status == 2 and "image" in err
    status, out, _ = ask("--perceive", "none")
    assert status == 0 and not (tmp_path / "answer" / "depth.png").exists()
    for tokens, cut in ((1, True), (400, False)):
        status, out, _ = ask("--max-new-tokens", tokens, "--device", "cpu")
        answer = json.loads((tmp_path / "answer" / "answer.json").read_text())
        assert status == 0 and answer["truncated"] == (
            f"cut at {number_of(tokens, 'token')}: --max-new-tokens allows" in out
        )
        assert answer["truncated"] or not cut
    status, _, err = ask("--device", "mps")
    assert status == 2 and "--device mps is asked for, and PyTorch finds none here" in err
    status, _, err = ask("--perceive", "depht")
    assert (
        status == 2
        and "The stream 'depht' is asked for, and the model has none such; did you mean 'depth'" in err
    )
    status, out, err = ask(out="picture.png")
    assert status == 2 and "picture.png could not be written" in err and not out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "No such command 'trian'"),
        (("explain", "no_such_recipe"), "There is no recipe no_such_recipe"),
        (("explain", "perceptio_tiny", "--set", "train.lr"), "is no KEY=VALUE"),
        (
            ("explain", "perceptio_tiny", "perceptio_1b", "--peak"),
            "--peak is of one recipe, and two are named",
        ),
        (("explain", "perceptio_tiny", "--set", "train.lrr=1"), "did you mean 'lr'"),
        (("ask", "nowhere", "nowhere.png", "What?"), "nowhere.png does not exist"),
        (("eval", "nowhere"), "nowhere holds no checkpoint"),
        (("compare", "nowhere", "nowhere"), "nowhere has no answers.jsonl: run `perceptio eval` again"),
        (
            ("power", "--difference", "30", "--accuracy", "75"),
            "75% and 105% are no two different numbers from 0% to 100%",
        ),
        (
            ("power", "--difference", "5", "--accuracy", "75", "--discordant", "1"),
            "5% to 45% of the questions are discordant, and 1% was given",
        ),
        (
            ("power", "--difference", "5", "--accuracy", "0.75"),
            "give percent, --accuracy 75 for a share of 0.75",
        ),
        (
            ("power", "--difference", "5", "--accuracy", "175"),
            "--accuracy 175 is no percentage: give a number",
        ),
        (
            ("power", "--difference", "5", "--accuracy", "75", "--discordant", "0.25"),
            "give percent, --discordant 25 for a share of 0.25",
        ),
        (("ask", "nowhere", "a", "b", "c"), "give a question, or an image and a question"),
        (("ask", "nowhere", "tests"), "tests is a file or folder, and there is no question"),
    ],
)
def test_what_a_user_did_wrong_is_one_sentence(run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("import perceptioo", ["import perceptioo", "ModuleNotFoundError: No module named 'perceptioo'"]),
        ("def recipe():\n    return 1 / 0", ["return 1 / 0", "ZeroDivisionError: division by zero"]),
        ("def recipe(:", ["def recipe(:", "SyntaxError: invalid syntax"]),
    ],
)
def test_an_error_in_a_recipe_file_is_traced_from_that_file_on(run, tmp_path, code, lines):
    (tmp_path / "mine.py").write_text(code)
    status, _, err = run("explain", tmp_path / "mine.py")
    assert status == 1
    assert "mine.py" in err and "perceptio/cli" not in err
    assert [line for line in lines if line not in err] == []


@pytest.mark.parametrize("verb", ["train", "train-tokenizer"], ids=["train", "train-tokenizer"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(run, place, verb):
    out = place / "recipe.py" / "run" / "one"
    status, _, err = run(verb, place / "recipe.py", "--out", out)
    assert status == 2 and "could not be written" in err and "choose another place" in err


@pytest.mark.parametrize("name", ["[lr=2e-3]", "b[/red]x", "caf\udce9", "~"])
def test_any_name_of_a_folder_is_written_and_printed_as_it_is(run, place, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out = Path("~/run") if name == "~" else tmp_path / name
    written = out.expanduser()
    status, said, err = run("scenes", f"--out={out}", "--count", "1", "--size", "32")
    assert status == 0 and os.path.basename(written).replace("\udce9", "\\udce9") in said, err
    assert (written / "samples.jsonl").exists()
    status, said, err = run("data", "check", out)
    assert status == 0 and "nothing is wrong" in said, err


def test_the_working_folder_is_a_place_like_any_other(run, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("scenes", "--out", ".", "--count", "1", "--size", "32")[0] == 0
    assert run("data", "check", ".")[0] == 0
    status, _, err = run("scenes", "--out", ".", "--count", "1", "--size", "32")
    assert status == 2 and ". exists already" in err
    (tmp_path / "tokenizer").mkdir()
    monkeypatch.chdir(tmp_path / "tokenizer")
    steps = ("--set", "streams.depth.training.steps=1")
    status, _, err = run("train-tokenizer", place / "recipe.py", "--out", ".", *steps)
    assert status == 0 and (tmp_path / "tokenizer" / "component.json").exists(), err


def test_a_stopped_run_says_how_to_go_on(run, place, tmp_path, monkeypatch):
    whole = Trainer._train_step

    def stopping(self, micro, counts):
        whole(self, micro, counts)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_train_step", stopping)
    out = tmp_path / "a run"
    given = ("train", place / "recipe.py", "--set", 'data.mixture={"referring": 1.0}', "--out", out)
    status, _, err = run(*given, "--resume")
    assert status == 2 and "holds no checkpoint to resume; look at --out" in err and not out.exists()
    status, said, _ = run(*given, "--auto-resume")
    hint = next(line for line in said.splitlines() if line.startswith("Stopped. To go on: "))
    words = shlex.split(hint.removeprefix("Stopped. To go on: perceptio "))
    assert status == 143 and words == [*map(str, given), "--resume"]
    monkeypatch.setattr(Trainer, "_train_step", whole)
    status, said, err = run(*words)
    assert status == 0 and "Resuming at step 1 of 6." in said, err


def test_a_run_in_a_folder_of_any_name_and_the_hints_about_it(run, place, tmp_path):
    out = tmp_path / "b[/red] x"
    status, said, err = run("train", place / "recipe.py", "--out", out, "--set", "train.steps=1")
    assert status == 0 and f"perceptio ask {shlex.quote(str(out))} IMAGE" in said, err
    status, said, err = run("eval", out, "--data", place / "test", "--limit", "1")
    assert (
        status == 0
        and f"Written to {out / 'metrics.json'}; every answer is in {out / 'answers.jsonl'}." in said
    ), err
    status, _, err = run("train", place / "recipe.py", "--out", tmp_path / "caf\udce9")
    assert status == 2 and "is not UTF-8, and TensorBoard writes nowhere else: choose another --out" in err


def test_a_full_disk_behind_the_output_is_a_sentence():
    code = "import sys; sys.argv = ['perceptio', 'components']; from perceptio.cli.main import main; main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert "Error: The output could not be printed (No space left on device)." in done.stderr
    assert done.returncode != 0 and "Traceback" not in done.stderr


def test_ctrl_c_while_nothing_runs_yet_is_status_130(run, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "app", interrupted)
    assert run("components") == (130, "", "")


def test_a_bad_point_is_one_sentence(run, tmp_path):
    status, _, err = run("ask", "nowhere", "nowhere.png", "What?", "--point", "a,b")
    assert status == 2 and "--point a,b is no X,Y" in err


def test_a_plugin_file_is_listed(run, tmp_path, monkeypatch):
    monkeypatch.delenv("PERCEPTIO_PLUGIN_FILES", raising=False)
    file = tmp_path / "mine.py"
    file.write_text(
        "from perceptio.hookspecs import hookimpl\nfrom perceptio.heads.linear import LinearHeadConfig\n"
        "class Mine(LinearHeadConfig):\n    '''My own head.'''\n    name = 'own'\n"
        "@hookimpl\ndef register_heads():\n    return [Mine]\n"
    )
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", "")
    status, out, _ = run("--plugin", file, "components")
    assert status == 0 and "mine/own" in out and "My own head." in out
