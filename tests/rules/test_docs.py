"""What the documents show is run, and what they link to is there."""

import re
import shlex
from pathlib import Path

import attrs
import pytest
import torch
import typer

from perceptio.cli.main import app
from perceptio.cli.recipe import chosen_recipe
from perceptio.evaluation.suites import SUITES
from perceptio.experiments.experiment import load_experiment
from perceptio.harness.model_args import ModelArgs
from perceptio.hookspecs import HOOKS
from perceptio.interfaces import ComponentConfig, Kind
from perceptio.recipe import Recipe
from perceptio.registry import Registry
from perceptio.settings import load_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    ("page", "shown", "hook", "config", "suite"),
    [
        ("docs/plugins.md", (0, 1), "register_depth_tokenizers", "BinsConfig", "TestBins"),
        ("docs/plugins.md", (2, 3), "register_perception_tokenizers", "ThumbnailConfig", "TestThumbnail"),
        ("docs/plugins.md", (4, 5), "register_teachers", "HeightConfig", "TestHeight"),
        ("docs/plugins.md", (6, 7), "register_sources", "NotesConfig", "TestNotes"),
        ("docs/tasks.md", (0, 1), "register_tasks", "CountingConfig", "TestCounting"),
    ],
)
def test_a_page_s_plugin_passes_its_own_test(page, shown, hook, config, suite):
    names: dict = {}
    plugin, test = (blocks(page)[number] for number in shown)
    exec(compile(plugin + test, page, "exec"), names)
    assert names[hook]() == [names[config]]
    tests = names[suite]()
    named = ("test_the_config_survives_json", "test_the_config_survives_pickling")  # Classes found by name.
    ran = [name for name in dir(tests) if name.startswith("test_") and name not in named]
    assert len(ran) >= 5
    for name in ran:
        try:
            getattr(tests, name)()
        except pytest.skip.Exception:
            continue


def test_the_plugin_page_names_every_hook():
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    for hook, base in HOOKS.values():
        assert hook in page and base.__name__ in page


def test_the_figures_page_and_the_readme_list_every_loss():
    losses = {name for name in Registry.discover().names(Kind.LOSS) if "/" not in name}
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    table = page[page.index("| loss | of streams") : page.index("## `perceptio eval`")]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == losses
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| loss \|.*$", readme, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == losses


def test_the_data_page_and_the_readme_list_every_source():
    sources = {name for name in Registry.discover().names(Kind.SOURCE) if "/" not in name}
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[`([\w-]+)`\]", page, re.MULTILINE)) == sources
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| \[source\].*$", readme, re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", row)) == sources


def test_the_recipe_page_is_a_recipe():
    (text,) = blocks("docs/recipes.md")
    names: dict = {}
    exec(compile(text, "docs/recipes.md", "exec"), names)
    recipe = names["recipe"]()
    assert isinstance(recipe, Recipe) and recipe.stream("depth").tokenizer.name == "fsq"
    recipe.check()


def test_the_checkpoint_page_saves_and_loads(tmp_path, monkeypatch):
    shown = blocks("docs/checkpoints.md")
    assert len(shown) == 2
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile("".join(shown), "docs/checkpoints.md", "exec"), names)
    assert (tmp_path / "out" / "model.safetensors.index.json").exists()
    assert names["same"].recipe == names["recipe"]


def test_every_command_from_checkpoints_on_is_one(tmp_path, monkeypatch):
    page = "docs/from_checkpoints.md"
    recipe, sharing = blocks(page)
    compile(sharing, page, "exec")
    (tmp_path / "mine.py").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("mine.py").name == "mine"
    assert commands(page) == 17


def test_the_harness_page_has_every_argument_of_a_model():
    page = "docs/harnesses.md"
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {
        field.name for field in attrs.fields(ModelArgs)
    }
    (shown,) = blocks(page)
    compile(shown, page, "exec")
    assert commands(page) == 1


def commands(page: str) -> int:
    """How many commands a page has; each is one, with such options, and its recipe is there."""
    lines = re.findall(r"^perceptio .*", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    for line in lines:
        words, command = shlex.split(line.partition("   ")[0])[1:], typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        given = command.make_context(line, words).params
        if given.get("recipe") is not None:
            chosen_recipe(given["recipe"], given["arg"], given["set_"])
    return len(lines)


def test_every_command_that_a_page_speaks_of_is_a_verb_with_such_options():
    pages, seen = [*PAGES, *ROOT.glob("benchmarks/README.md"), *ROOT.glob("examples/*/README.md")], 0
    for page in pages:
        text = re.sub(r"--plugin \S+ ", "", page.read_text(encoding="utf-8").replace("\\\n", " "))
        for line in re.findall(r"(?:^|`)perceptio +([a-z][^`\n]*)", text, re.MULTILINE):
            words, command = line.split(), typer.main.get_command(app)
            while words and hasattr(command, "commands") and not words[0].startswith("["):
                assert words[0] in command.commands, f"{page.name}: perceptio {line}"
                command = command.commands[words.pop(0)]
            options = {option for parameter in command.params for option in parameter.opts}
            named = set(re.findall(r"(?<!\S)\[?(--[a-z][\w-]*)", " ".join(words)))
            assert named <= options, f"{page.name}: perceptio {line}"
            seen += 1
    assert seen > 100


def test_the_page_of_benchmarks_scores_and_every_command_on_it_is_one():
    page = "docs/benchmarks.md"
    (text,) = blocks(page)
    exec(compile(text, page, "exec"), {})
    assert commands(page) == 5
    listed = re.findall(
        r"^\| `([\w-]+)` \| .* \| .* \| .* \|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert listed == list(SUITES)


def test_the_page_of_experiments_is_an_experiment(tmp_path, monkeypatch):
    page = "docs/experiments.md"
    file, from_python = blocks(page)
    (tmp_path / "losses.py").write_text(file)
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment("losses.py", tiny=True)
    assert len(experiment.variants) == 8
    for name in experiment.variants:
        assert experiment.recipe(name).train.steps == 4
    assert "codebook_size=32,lr=0.001" in load_experiment("losses.py").variants
    compile(from_python, page, "exec")
    assert commands(page) == 8


@pytest.mark.parametrize(
    "page", ["docs/adapters/internvl.md", "docs/adapters/open_clip.md", "docs/adapters/timm.md"]
)
def test_an_adapters_page_builds_its_parts(page, capsys):
    (text,) = blocks(page)
    names: dict = {}
    exec(compile(text, page, "exec"), names)
    configs = [value for value in names.values() if isinstance(value, ComponentConfig)]
    assert len(configs) >= 2
    stated = re.search(r"print\(.*#(.*)", text)
    assert stated is None or capsys.readouterr().out.strip() == stated[1].strip()


def test_the_sam2_page_is_a_recipe():
    (text,) = blocks("docs/adapters/sam2.md")
    names: dict = {}
    exec(compile(text, "docs/adapters/sam2.md", "exec"), names)
    recipe = names["recipe"]()
    recipe.check()
    with torch.device("meta"):
        segmentation = recipe.stream("segmentation").tokenizer.build()
    groups = [f"streams.segmentation.tokenizer.{name}" for name in segmentation.parameter_groups()]
    page = (ROOT / "docs/adapters/sam2.md").read_text(encoding="utf-8")
    assert len(groups) == 3 and all(f"`{group}`" in page for group in groups)
    trained = [name for name in recipe.train.train if name.startswith("streams.segmentation.tokenizer")]
    assert trained == ["streams.segmentation.tokenizer.mask_decoder"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not heading or heading in anchors(target), f"{page.name} links to {link}"


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_streams_lists_every_tokenizer_and_its_streams_are_a_recipe_s():
    page = (ROOT / "docs/streams.md").read_text(encoding="utf-8")
    table = page[page.index("| tokenizer |") : page.index("## One recipe")]
    registry = Registry.discover()
    for kind in (Kind.DEPTH, Kind.PERCEPTION):
        names = [name for name in registry.names(kind) if "/" not in name]
        assert len(names) >= 3 and all(name in table for name in names)
    (shown,) = blocks("docs/streams.md")
    names = {}
    exec(compile(shown, "docs/streams.md", "exec"), names)
    recipe = attrs.evolve(load_recipe("perceptio_tiny"), streams=names["streams"], losses=(), heads={})
    recipe.check()
