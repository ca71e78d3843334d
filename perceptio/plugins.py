"""Discovery, import and validation of plugins.

pluggy checks the hooks of a plugin. A plugin that violates the contract of the hooks provides nothing, whatever the
problem is.
"""

import inspect
import json
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import attrs
import pluggy

from perceptio import hookspecs
from perceptio.errors import PerceptioError, PluginError, near_miss, quoted
from perceptio.hookspecs import HOOKS, PROJECT
from perceptio.interfaces import INTERFACE_VERSION, ComponentConfig, Kind
from perceptio.ops.files import expanded
from perceptio.ops.foreign import parsing
from perceptio.python_files import is_of_file, module_of
from perceptio.setting_types import COMPONENT, unsupported

VARIABLE = "PERCEPTIO_PLUGINS"
FILES_VARIABLE = "PERCEPTIO_PLUGIN_FILES"
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 400
"""Maximum number of characters quoted from what a plugin raised or returned."""


@attrs.frozen(kw_only=True)
class Entry:
    """One registered component: its full name, its config class, and the distribution that provides it."""

    name: str
    config: type[ComponentConfig]
    provider: str


@attrs.frozen(kw_only=True)
class Broken:
    """A plugin that was set aside: its provider, the reason in a sentence, and the traceback if there is one."""

    provider: str
    reason: str
    details: str = ""


@attrs.frozen(kw_only=True)
class Plugin:
    """A plugin that was found but not yet imported.

    Attributes:
        source: Where it is imported from.
        content: A hash of its file; None: it is installed, or cannot be read.
    """

    name: str
    provider: str
    source: EntryPoint | Path
    content: str | None = None

    @classmethod
    def installed(cls, point: EntryPoint) -> "Plugin":
        """Return the plugin of a distribution."""
        return cls(name=point.name, provider=point.dist.name if point.dist else point.value, source=point)

    @classmethod
    def of_file(cls, file: Path) -> "Plugin":
        """Return the plugin in a Python file."""
        content = None
        with suppress(OSError):  # The import reports the reason.
            content = sha256(file.read_bytes()).hexdigest()
        return cls(name=file.stem, provider=str(file), source=file, content=content)

    def components(self) -> tuple[Entry, ...]:
        """Return the components that it registers.

        Raises:
            PluginError: Why it provides nothing; the cause is the exception that the plugin raised, if any.
        """
        if not _NAME.fullmatch(self.name):
            raise PluginError(f"Its name {self.name!r} may have letters, digits, _ and - only: rename it.")
        with _blaming("Importing it"):
            loaded = module_of(self.source) if isinstance(self.source, Path) else self.source.load()
        with _blaming("Looking for its parts"):
            return components_of(loaded, self.name, self.provider)


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Turn any exception of a plugin's code into the reason why it provides nothing, except Ctrl-C.

    Raises:
        PluginError: The cause is the original exception, unless it had a message of one sentence already.
    """
    try:
        yield
    except PerceptioError as error:
        if isinstance(error, PluginError):
            raise
        raise PluginError(str(error)) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{what} raised {quoted(error, _LONGEST)}.") from error


def blamed(error: BaseException) -> str | None:
    """Return the function of a plugin or user file in which an error occurred, for messages; None if in neither."""
    packages = {point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=PROJECT)}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__"))
        if is_of_file(module) or module.partition(".")[0] in packages:
            return f"{frame.f_code.co_qualname} in {frame.f_code.co_filename}, line {line},"
    return None


@cache
def offered(plugin: Plugin) -> tuple[Entry, ...] | Broken:
    """Return what a plugin provides, or why it provides nothing; cached, as it may be slow or have side effects."""
    try:
        return plugin.components()
    except PluginError as error:
        cause = error.__cause__
        details = "" if cause is None else "".join(traceback.format_exception(cause))
        return Broken(provider=plugin.provider, reason=str(error), details=details)


def chosen_entry_points() -> tuple[list[EntryPoint], frozenset[str]]:
    """Return the chosen entry points, and the names of the others."""
    points = list(entry_points(group=PROJECT))
    names = {point.name for point in points}
    chosen = os.environ.get(VARIABLE)
    if chosen is None:
        return points, frozenset()
    wanted = {name.strip() for name in chosen.split(",") if name.strip()}
    missing = wanted - names
    if missing:
        raise PluginError(
            f"{VARIABLE} names {', '.join(sorted(missing))}, which is not installed{near_miss(min(missing), names)}"
        )
    return [point for point in points if point.name in wanted], frozenset(names - wanted)


def python_file(file: Path | str) -> Path:
    """Return the path of a plugin file. A missing file is an error at once, because the user needs its components."""
    found = expanded(file)
    with parsing(
        PluginError, f"{quoted(str(file))} cannot be a plugin file ({{reason}}): check its spelling."
    ):
        found = found.resolve()
        there = found.is_file()
    if found.suffix == ".py" and not there:
        raise PluginError(f"There is no plugin file {file}: check the path.")
    if not there or found.suffix != ".py":
        raise PluginError(
            f"The plugin file {file} is no Python file: give a path that ends in .py. (In {FILES_VARIABLE}, paths "
            f"with {os.pathsep!r} in them need the form of a JSON list.)"
        )
    return found


def listed_files() -> list[str]:
    """Return the files that the environment variable lists."""
    listed = os.environ.get(FILES_VARIABLE, "").strip()
    try:
        files = json.loads(listed) if listed.startswith("[") else listed.split(os.pathsep)
    except ValueError as error:
        raise PluginError(f"{FILES_VARIABLE} is {listed}, which is no JSON list ({error}).") from None
    if not all(isinstance(file, str) for file in files):
        raise PluginError(f"{FILES_VARIABLE} is {listed}; it must be a list of paths.")
    return [file for file in files if file]


@cache
def components_of(plugin: object, name: str, provider: str) -> tuple[Entry, ...]:
    """Return the validated components that a plugin registers. Hooks are called once, as they may create classes.

    Raises:
        PluginError: The plugin violates the contract of the hooks.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join(hook for hook, _ in HOOKS.values())
        said = " ".join(str(error).split())
        raise PluginError(f"A hook does not exist or does not fit: {said}. There are {known}.") from None
    _check_marks(plugin, bool(manager.get_hookcallers(plugin)))
    entries: list[Entry] = []
    for kind, (hook, base) in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            for config in _returned(implementation.function, hook):
                _check_component(config, kind, base, hook)
                full = f"{name}/{config.name}" if name else config.name
                if any(entry.config.kind is kind and entry.name == full for entry in entries):
                    raise PluginError(f"{hook} registers the {kind} component {full} twice.")
                entries.append(Entry(name=full, config=config, provider=provider))
    return tuple(entries)


def _check_marks(plugin: object, has_hooks: bool) -> None:
    """Refuse hooks that pluggy would ignore, and a plugin without hooks."""
    for hook, _ in HOOKS.values():
        held = inspect.getattr_static(plugin, hook, None)
        marked = hasattr(held, f"{PROJECT}_impl") or held is getattr(hookspecs, hook)
        if callable(held) and not marked:
            raise PluginError(f"Its function {hook} is not marked as a hook: write @hookimpl above it.")
    if not has_hooks:
        raise PluginError("It has no hook of perceptio.hookspecs, and so offers nothing.")


def _returned(function: Callable[[], Any], hook: str) -> Iterable[Any]:
    """Return what a hook returns, as an iterable of components."""
    with _blaming(hook):
        returned = function()
        if isinstance(returned, Iterable) and not isinstance(returned, type | str | Mapping):
            return list(returned)
    raise PluginError(f"{hook} returned {quoted(returned, _LONGEST)}; it must return a list of classes.")


def _check_component(config: Any, kind: Kind, base: type, hook: str) -> None:
    """Refuse anything but a config class of the right kind with valid facts."""
    derived = isinstance(config, type) and issubclass(config, base) and issubclass(config, ComponentConfig)
    if not derived:
        raise PluginError(
            f"{hook} returned {quoted(config, _LONGEST)}; it must return classes derived from {base.__name__}."
        )
    who = config.__name__
    for fact in ("name", "kind", "interface"):
        if not hasattr(config, fact):
            raise PluginError(f"{who} states no {fact}; set it as a class variable.")
    if not isinstance(config.kind, Kind):
        raise PluginError(f"{who} has the kind {quoted(config.kind)}; give Kind.{kind.name}.")
    if config.kind is not kind:
        raise PluginError(f"{who} says that it is a {config.kind}; what {hook} returns must be a {kind}.")
    if not (isinstance(config.name, str) and _NAME.fullmatch(config.name)):
        raise PluginError(f"{who} has the name {quoted(config.name)}; use letters, digits, _ and - only.")
    _check_version(config)
    if not isinstance(config.retired, Mapping):
        raise PluginError(
            f"{who} has retired {quoted(config.retired)}; it must be a mapping of names to reasons."
        )
    if inspect.isabstract(config):
        raise PluginError(
            f"{who} lacks {', '.join(sorted(config.__abstractmethods__))}: see {base.__name__}."
        )
    _check_settings(config)


def _check_version(config: type[ComponentConfig]) -> None:
    who, stated = config.__name__, config.interface
    if not (isinstance(stated, tuple) and [type(one) for one in stated] == [int, int]):
        raise PluginError(
            f"{who} states the interface {quoted(stated)}; give two whole numbers, such as (2, 0)."
        )
    if stated[0] != INTERFACE_VERSION[0] or stated[1] > INTERFACE_VERSION[1]:
        written, ours = (".".join(map(str, version)) for version in (stated, INTERFACE_VERSION))
        todo = (
            "docs/interfaces.md says what to change in it"
            if stated < INTERFACE_VERSION
            else "upgrade perceptio, or use an earlier release of the plugin"
        )
        raise PluginError(
            f"{who} was written for version {written} of the interfaces, and this library has {ours}: {todo}."
        )


def _check_settings(config: type[ComponentConfig]) -> None:
    """Refuse settings that could not be written and read back, or that attrs does not know."""
    own = [name for name, kind in inspect.get_annotations(config).items() if "ClassVar" not in str(kind)]
    seen = {field.name for field in attrs.fields(config)}
    missed = [name for name in own if name not in seen]
    if missed:
        raise PluginError(
            f"{config.__name__} has {', '.join(missed)} without being an attrs class of its own: write "
            "@attrs.frozen(kw_only=True) above it."
        )
    if COMPONENT in seen:
        raise PluginError(
            f"{config.__name__} has a setting {COMPONENT!r}, which names the part in JSON: rename it."
        )
    reason = unsupported(config)
    if reason is not None:
        raise PluginError(f"A setting cannot be written in JSON: {reason}.")
