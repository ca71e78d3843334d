"""Which Python can run the library here, and what it has: found, not assumed. Standard library only.

A machine with a GPU often comes with a torch of its own. It is used as it is: what is missing beside it is installed
into an overlay, a virtual environment that sees the other's packages and changes none of them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "build" / "gpu" / "venv"
NEEDED_TO_TEST = ("pytest", "hypothesis")
PROBE = """
import importlib.metadata, json, site, sys, sysconfig
found = {"executable": sys.executable, "python": "%d.%d.%d" % sys.version_info[:3], "sites": [], "packages": {}}
found["sites"] = [p for p in sys.path if p.rstrip("/").endswith(("site-packages", "dist-packages"))]
for requirement in json.loads(sys.argv[1]):
    name, _, wanted = requirement.partition(" ")
    try:
        found["packages"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found["packages"][name] = None
    if found["packages"][name] and wanted:
        try:
            from packaging.specifiers import SpecifierSet
        except ImportError:
            from pip._vendor.packaging.specifiers import SpecifierSet
        if not SpecifierSet(wanted).contains(found["packages"][name], prereleases=True):
            found.setdefault("other_versions", {})[name] = wanted
try:
    import torch
    found["cuda"] = torch.cuda.is_available()
    found["gpu"] = torch.cuda.get_device_name(0) if found["cuda"] else None
    found["torch_cuda"] = torch.version.cuda
except Exception as error:
    found["torch_error"] = repr(error)
print("PROBED" + json.dumps(found))
"""


@dataclass(frozen=True)
class Environment:
    """A Python and what it has.

    Attributes:
        executable: Its path.
        python: Its version.
        packages: The version of every package that the library needs, or None.
        other_versions: Packages whose version is not one that pyproject.toml asks for, and what it asks for.
        sites: The folders that hold its packages.
        gpu: The name of its first GPU; None: torch sees none.
        torch_error: Why torch cannot be imported.
        notes: What was done to it.
    """

    executable: str
    python: str
    packages: dict[str, str | None]
    other_versions: dict[str, str]
    sites: tuple[str, ...]
    gpu: str | None
    torch_error: str | None
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Packages that are not there."""
        return [name for name, version in self.packages.items() if version is None]


def requirements() -> dict[str, str]:
    """What pyproject.toml asks for, with transformers and what tests need: version specifiers by package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["hf"]]
    asked += [line for line in extras["dev"] if line.startswith(NEEDED_TO_TEST)]
    parts = [re.match(r"([A-Za-z0-9_-]+)\s*([^;]*)", line) for line in asked]
    return {part[1]: part[2].strip() for part in parts if part}


def probe(executable: str) -> Environment | None:
    """What a Python has; None where it does not run or is of a version that the library does not support."""
    asked = json.dumps([f"{name} {wanted}" for name, wanted in requirements().items()])
    try:
        done = subprocess.run(
            [executable, "-c", PROBE, asked], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    _, marker, document = done.stdout.rpartition("PROBED")
    if not marker:
        return None
    found = json.loads(document)
    if tuple(map(int, found["python"].split(".")))[:2] not in ((3, 11), (3, 12)):
        return None
    return Environment(
        executable=found["executable"],
        python=found["python"],
        packages=found["packages"],
        other_versions=found.get("other_versions", {}),
        sites=tuple(found["sites"]),
        gpu=found.get("gpu"),
        torch_error=found.get("torch_error"),
    )


def choose(pythons: list[str]) -> Environment | None:
    """The first Python that sees a GPU and lacks nothing; else one that sees a GPU before one that lacks less."""
    found = []
    for environment in filter(None, map(probe, pythons)):
        if environment.gpu is not None and not environment.missing:
            return environment
        found.append(environment)
    return max(found, key=lambda one: (one.gpu is not None, -len(one.missing)), default=None)


def candidates() -> list[str]:
    """Pythons to look at, each once: `PYTHON`, those of `make` and of a former run, this one, those on the path."""
    names = [
        os.environ.get("PYTHON"),
        str(ROOT / ".venv" / "bin" / "python"),
        str(OVERLAY / "bin" / "python"),
    ]
    names += [sys.executable, "python3", "python3.12", "python3.11"]
    paths = [shutil.which(name) for name in names if name]
    return list(dict.fromkeys(path for path in paths if path))


def completed(environment: Environment, wheels: Path | None, say: Callable[[str], None]) -> Environment:
    """The environment, or an overlay with what it lacks; what cannot be installed stays missing, with a note.

    Args:
        environment: Which lacks packages.
        wheels: A folder to install from instead of the network.
        say: Told what is being done.
    """
    if not environment.missing:
        return environment
    asked = requirements()
    names = [f"{name}{asked[name]}" for name in environment.missing]
    say(f"Installing {', '.join(environment.missing)} beside {environment.executable} ...")
    if subprocess.run(
        [environment.executable, "-m", "venv", "--clear", str(OVERLAY)], check=False
    ).returncode:
        return replace(environment, notes=(f"No virtual environment could be made in {OVERLAY}.",))
    python = str(OVERLAY / "bin" / "python")
    (own,) = OVERLAY.glob("lib/python*/site-packages")
    (own / "beside.pth").write_text("\n".join(environment.sites) + "\n", encoding="utf-8")
    kept = [f"{name}=={version}" for name, version in environment.packages.items() if version]
    (OVERLAY / "kept.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c"]
    command += [str(OVERLAY / "kept.txt")]
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels)]
    notes = []
    quiet = os.environ | {"SAM2_BUILD_CUDA": "0"}
    if subprocess.run([*command, *names], env=quiet, check=False).returncode:
        # One that cannot be had must not keep the others away.
        for name in names:
            if subprocess.run([*command, name], env=quiet, check=False).returncode:
                notes.append(f"{name} could not be installed.")
    found = probe(python)
    return replace(found or environment, notes=tuple(notes))
