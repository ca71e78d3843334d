"""Files are written whole, by one module; and verbs print plain text, by one module. Read from the source itself."""

import ast
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from perceptio.cli import files
from perceptio.cli.main import app

PACKAGE = Path(__file__).parents[2] / "perceptio"
SOURCES = sorted(PACKAGE.rglob("*.py"))
WHOLE = {"new_file", "new_folder"}
WRITERS = {"write_text", "write_bytes", "save", "savez", "savez_compressed", "save_file", "savefig", "tofile"}
WRITERS |= {"save_pretrained", "SummaryWriter", "memmap", "rename"}
WRITERS |= {"mkstemp", "mkdtemp", "TemporaryFile", "NamedTemporaryFile", "TemporaryDirectory"}
REASONS = {
    "ops/files.py": "is the one that writes",
    "ops/json_files.py:append_line": "a log grows; its reader drops a torn end",
    "ops/weights.py:write_weights": "is given a folder of new_folder",
    "model/checkpoints/hub.py:push_to_hub": "a temporary folder, removed after the upload",
    "backbones/language/hf_text.py": "is given a folder of new_folder",
    "backbones/language/words.py:save": "is given a folder of new_folder",
    "data/folder/stream_writer.py": "is unfinished by its name until it is whole",
    "data/folder/shards.py:to_bytes": "writes into memory",
    "data/folder/kept.py:kept_bytes": "writes into memory",
    "data/folder/pack.py": "is unfinished by its name until it is whole",
    "data/folder/writer.py:_save_map": "is given a folder of new_folder",
    "data/folder/writer.py:_save_png": "is given a folder of new_folder",
    "training/optimizer.py:save": "is given a folder of new_folder",
    "training/run_folder.py:add_state": "is given a folder of new_folder",
    "training/trackers.py": "TensorBoard appends, and reads what is whole",
    "training/trainer.py": "the run's folder saves it whole",
    "training/target_maps.py": "a nameless file that is gone with the process",
    "experiments/local.py:_begin": "the log of a job grows",
    "experiments/submitted.py:_start": "the log of a job grows",
    "data/show.py": "writes into memory",
    "demo/figures.py": "writes into memory",
    "experiments/curves.py": "writes into memory",
    "experiments/worker.py": "is a pipe",
    "testing/source.py:config": "a temporary folder, gone with the test",
}


def writes(call: ast.Call) -> bool:
    """Whether a call writes to a place by its name."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    source = ast.unparse(call.func)
    if name in WRITERS:
        # On its own, `save` is that of checkpoints and `rename` a mapping of names.
        return source not in ("save", "save_pretrained", "rename", f"self.{name}")
    if name in ("open", "fdopen"):
        modes = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        texts = [
            mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)
        ]
        return any(set(text) & set("wax+") and set(text) <= set("rwaxbt+") for text in texts)
    return (
        source.startswith("shutil.c")
        or source == "shutil.move"
        or (name == "replace" and "." in source and len(call.args) == 1)
    )


def direct_writes(tree: ast.AST) -> list[tuple[str, int, str]]:
    """Calls that write outside every block of `new_file` or `new_folder`: function, line and source."""
    found: list[tuple[str, int, str]] = []

    def walk(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.With):
            called = {getattr(getattr(item.context_expr, "func", None), "id", "") for item in node.items}
            if called & WHOLE:
                return
        if isinstance(node, ast.Call) and writes(node):
            found.append((function, node.lineno, ast.unparse(node)[:80]))
        for child in ast.iter_child_nodes(node):
            walk(child, function)

    walk(tree, "")
    return found


def test_what_is_written_is_written_whole():
    used, direct = set(), []
    for file in SOURCES:
        name = file.relative_to(PACKAGE).as_posix()
        for function, line, source in direct_writes(ast.parse(file.read_text(encoding="utf-8"))):
            reason = next((place for place in (name, f"{name}:{function}") if place in REASONS), None)
            used.add(reason)
            if reason is None:
                direct.append(f"{name}:{line} {source}")
    assert not direct, "use new_file or new_folder"
    assert used == REASONS.keys(), "a reason is no longer needed"


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text(x)",
        "open(path, 'w')",
        "path.open('a', encoding='utf-8')",
        "np.save(path, x)",
        "image.save(path)",
        "save_file(tensors, path)",
        "os.rename(a, b)",
        "new.replace(path)",
    ],
)
def test_a_direct_write_is_seen(source):
    assert direct_writes(ast.parse(source))
    assert not direct_writes(ast.parse(f"with disk_errors(p, E), new_file(p) as new:\n    {source}"))
    assert not direct_writes(
        ast.parse("path.open()\npath.read_text()\nopen(path, 'rb')\n'a'.replace('b', 'c')")
    )


def test_verbs_print_plain_text():
    """Only `cli/console.py` makes consoles and bars; text columns elsewhere say that they are plain."""
    seen = 0
    for file in SOURCES:
        if file == PACKAGE / "cli" / "console.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich"):
                names = {alias.name for alias in node.names}
                assert not names & {"escape", "Markup", "render", "Status", "print"}, (
                    f"{file} imports {names}"
                )
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                plain = any(k.arg == "markup" and ast.unparse(k.value) == "False" for k in node.keywords)
                assert name not in ("Console", "status", "from_markup"), f"{file}:{node.lineno} {name}"
                assert name != "TextColumn" or plain, f"{file}:{node.lineno}"
                seen += name == "TextColumn"
    assert seen == 1


def test_every_path_that_a_verb_takes_knows_the_home_folder():
    apps, seen = [app], 0
    for one in apps:
        apps += [group.typer_instance for group in one.registered_groups]
        verbs = [verb.callback for verb in (*one.registered_commands, one.registered_callback) if verb]
        for hints in (get_type_hints(verb, include_extras=True) for verb in verbs):
            for name, hint in hints.items():
                if "Path" in str(get_args(hint)[:1]):
                    seen += 1
                    assert get_args(hint)[1].parser is files.path, name
    assert seen > 15
