"""Who may import whom, read from the source itself."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "perceptio"
FILES = sorted(PACKAGE.rglob("*.py"))

SIBLINGS = (
    "tokenizers.depth",
    "tokenizers.segmentation",
    "tokenizers.perception",
    "backbones.vision",
    "backbones.language",
    "heads",
    "losses",
    "tasks",
)
GROUND = ("errors", "interfaces", "ops")
PLUGGING = ("hookspecs", "python_files", "setting_types", "plugins", "registry")
COMPOSING = (
    *GROUND,
    *PLUGGING,
    "vocabulary",
    "recipe_checks",
    "recipe",
    "recipe_files",
    "serialize",
    "setting_changes",
    "settings",
    "recipe_changes",
)
ALLOWED = {
    "errors": (),
    "interfaces": ("errors", "interfaces"),
    "ops": GROUND,
    **{sibling: (*GROUND, "hookspecs", sibling) for sibling in SIBLINGS},
    # Depth and other maps are codes of one autoencoder, which neither has for itself.
    "tokenizers._autoencoder": (*GROUND, "tokenizers._autoencoder"),
    "tokenizers.depth": (*GROUND, "hookspecs", "tokenizers._autoencoder", "tokenizers.depth"),
    "tokenizers.perception": (*GROUND, "hookspecs", "tokenizers._autoencoder", "tokenizers.perception"),
    "hookspecs": ("interfaces",),
    "python_files": ("errors",),
    "setting_types": ("errors", "interfaces"),
    "plugins": (*GROUND, *PLUGGING),
    "registry": (*GROUND, *PLUGGING),
    "vocabulary": ("errors", "interfaces", "setting_types"),
    "recipe_checks": (*GROUND, "python_files", "setting_types"),
    "recipe": ("errors", "interfaces", "setting_types", "vocabulary", "recipe_checks"),
    "recipe_files": GROUND,
    "serialize": COMPOSING,
    "setting_changes": COMPOSING,
    "settings": COMPOSING,
    "recipe_changes": ("setting_types",),
    "model": (*COMPOSING, "model"),
    "data": (*COMPOSING, "model", "data"),
    "training": (*COMPOSING, "model", "data", "training"),
    "evaluation": (*COMPOSING, "model", "data", "evaluation"),
    "convert": (*COMPOSING, "model", "convert"),
    "harness": (*COMPOSING, "model", "data", "evaluation", "harness"),
    "experiments": (*COMPOSING, "model", "data", "training", "evaluation", "experiments"),
    "demo": (*COMPOSING, "model", "data", "training", "evaluation", "experiments", "demo"),
    "cli": (
        *COMPOSING,
        "model",
        "data",
        "training",
        "evaluation",
        "convert",
        "harness",
        "experiments",
        "demo",
        "cli",
    ),
    "testing": ("errors", "interfaces", "registry", "serialize", "testing"),
}
HEAVY = {
    "sam2",
    "open_clip",
    "timm",
    "xformers",
    "vector_quantize_pytorch",
    "transformers",
    "peft",
    "matplotlib",
    "accelerate",
    "submitit",
    "pyarrow",
}
LIGHT_ROOMS = ("cli",)
NOT_FOR_LIGHT_ROOMS = HEAVY | {"torch", "numpy", "PIL"}


def imports_of(file: Path, *, top_only: bool) -> set[str]:
    """Every module a file imports, `if TYPE_CHECKING:` apart."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    hidden: set[int] = set()
    for node in ast.walk(tree):
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        deferred = top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if checking or deferred:
            hidden |= {id(inner) for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(module: str) -> str | None:
    """The room of a module of ours; None for the package itself."""
    path = module.removeprefix("perceptio").lstrip(".")
    return next(
        (room for room in sorted(ALLOWED, key=len, reverse=True) if (path + ".").startswith(room + ".")), None
    )


def module_of(file: Path) -> str:
    return ".".join(("perceptio", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def test_each_room_imports_what_it_may():
    seen = 0
    for file in FILES:
        room = room_of(module_of(file))
        if room is None:
            assert file.parent in (PACKAGE, PACKAGE / "tokenizers", PACKAGE / "backbones"), (
                f"{file} is in no room"
            )
            continue
        for module in imports_of(file, top_only=False):
            target = room_of(module) if module.split(".")[0] == "perceptio" else None
            if target is not None:
                seen += 1
                assert target in ALLOWED[room], f"{file.relative_to(PACKAGE)} imports {module}"
    assert len(FILES) > 80 and seen > 200


def test_no_module_imports_itself_in_a_circle():
    """Imports inside functions count too: one that only dodges a circle hides it."""
    modules = {module_of(file): file for file in FILES}
    imported = {
        module: imports_of(file, top_only=False) & modules.keys() - {module}
        for module, file in modules.items()
    }
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        raise AssertionError(" is imported by ".join(error.args[1])) from None
    assert sum(map(len, imported.values())) > 500


def test_heavy_packages_are_imported_where_they_are_used():
    for file in FILES:
        light = room_of(module_of(file)) in LIGHT_ROOMS
        top = {module.split(".")[0] for module in imports_of(file, top_only=True)}
        assert not top & (NOT_FOR_LIGHT_ROOMS if light else HEAVY), f"{file.relative_to(PACKAGE)}"


def test_each_foreign_package_has_its_files():
    """One file each where a package is ours to adapt."""
    packages = ("xformers", "vector_quantize_pytorch", "sam2", "lmms_eval", "vlmeval")
    users = {package: set() for package in packages}
    for file in FILES:
        for module in imports_of(file, top_only=False):
            users.get(module.split(".")[0], set()).add(file.name)
    assert users == {
        "xformers": {"attention.py"},
        "vector_quantize_pytorch": {"quantizers.py"},
        "sam2": {"sam2.py"},
        "lmms_eval": {"lmms_eval.py"},
        "vlmeval": {"vlmevalkit.py"},
    }


def test_nothing_prints_but_the_command_line():
    for file in FILES:
        if room_of(module_of(file)) == "cli":
            continue
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), file


def test_parts_are_built_behind_their_boundary():
    """`build_part` names the part in which something fails; losses are built where recipes are checked and train.

    A tokenizer may hold a part of another kind, which it builds when it is built itself. A launcher is no
    part of a model.
    """
    builders = set()
    for file in FILES:
        if room_of(module_of(file)) in ("testing", "tokenizers.perception", "tokenizers.segmentation"):
            continue
        calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        if any(isinstance(call, ast.Attribute) and call.attr == "build" for call in calls):
            builders.add(str(file.relative_to(PACKAGE)))
    assert builders == {
        "model/parts.py",
        "training/objective.py",
        "recipe_checks.py",
        "experiments/launchers.py",
    }
