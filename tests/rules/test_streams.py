"""What every stream has in common knows none of them by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "perceptio"
GENERAL = (
    *PACKAGE.glob("model/**/*.py"),
    *PACKAGE.glob("training/**/*.py"),
    PACKAGE / "vocabulary.py",
    *(PACKAGE / "data" / f"{name}.py" for name in ("collate", "lengths", "conversations")),
    *(PACKAGE / "evaluation" / f"{name}.py" for name in ("asking", "evaluation")),
)
NAMES = ("depth", "segment")
"""Of streams: what they perceive and how it is written is their tokenizers' and tasks' alone."""


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every line, and the name or string in it, that speaks of a stream; docstrings may give examples."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        for text in spoken(node):
            if any(name in text.lower() for name in NAMES):
                yield getattr(node, "lineno", 0), text


def spoken(node: ast.AST) -> Iterator[str]:
    """The names and strings that a node itself has, and not its parts."""
    for _, held in ast.iter_fields(node):
        for one in held if isinstance(held, list) else [held]:
            if isinstance(one, bytes):
                yield one.decode("latin-1")
            elif isinstance(one, str):
                yield one


@pytest.mark.parametrize("file", GENERAL, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_stream_is_known_by_name(file):
    found = [f"line {line}: {text}" for line, text in named(ast.parse(file.read_text(encoding="utf-8")))]
    assert not found


@pytest.mark.parametrize(
    "text",
    [
        "depth = 1",
        "model.depth_codes",
        "x['segmentation']",
        "f'the {x} depths'",
        "def f(depth): ...",
        "f(segmentation=1)",
        "import perceptio.tokenizers.depth",
        "from perceptio.interfaces import DepthTokenizer",
        "from perceptio.interfaces import Tokenizer as DepthTokenizer",
        "class Segments: ...",
        "def depth(): ...",
        "match x:\n    case {'a': depth}: ...",
        "try: ...\nexcept E as depth: ...",
        "global depth",
        "x = b'depth'",
    ],
)
def test_every_way_of_naming_one_is_seen(text):
    assert list(named(ast.parse(text)))


def test_docstrings_may_give_examples_and_comments_too():
    text = '"""As depth."""\n\ndef f():\n    """Depth."""\n\n\nX = 1\n"""Of segmentation."""\n# depth\n'
    assert not list(named(ast.parse(text)))
