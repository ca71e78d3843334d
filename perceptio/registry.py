"""Which components there are: built-ins, installed plugins, and plugin files named on the command line.

pluggy finds and validates; nothing here is in a forward pass, and there is no global state.
"""

import importlib
import importlib.util
import logging
import os
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Self

import attrs
import pluggy

from perceptio import hookspecs
from perceptio.errors import PluginError, UnknownNameError, near_miss
from perceptio.hookspecs import HOOKS, PROJECT
from perceptio.interfaces import INTERFACE_VERSION, ComponentConfig, Kind

logger = logging.getLogger(__name__)

BUILT_INS = (
    "perceptio.tokenizers.depth",
    "perceptio.tokenizers.segmentation",
    "perceptio.backbones.vision",
    "perceptio.backbones.language",
    "perceptio.heads",
    "perceptio.losses",
)
VARIABLE = "PERCEPTIO_PLUGINS"
FILES_VARIABLE = "PERCEPTIO_PLUGIN_FILES"


@attrs.frozen(kw_only=True)
class Entry:
    """One registered component: its full name, its config class, and the distribution that offers it."""

    name: str
    config: type[ComponentConfig]
    provider: str


@attrs.frozen(kw_only=True, eq=False)
class Registry:
    """Every component by kind and name; frozen once made.

    Attributes:
        entries: All components, built-ins first.
        broken: The traceback of every plugin that could not be loaded, by its name.
    """

    entries: tuple[Entry, ...]
    broken: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def discover(cls, plugin_files: Sequence[Path | str] = ()) -> Self:
        """Built-ins, installed plugins and plugin files.

        `PERCEPTIO_PLUGINS=acme,other` loads only these installed plugins; set and empty, none. A plugin that cannot
        be imported is set aside with one warning, and asking for its components shows its traceback. The files that
        `PERCEPTIO_PLUGIN_FILES` lists (`perceptio --plugin FILE` sets it) are plugins, too.

        Args:
            plugin_files: Python files, each a plugin named by its stem. An error in one is the author's to see.

        Raises:
            PluginError: Two plugins have one name, a hook is misspelt or returns something else than config classes,
                or a component was written for another version of the interfaces.
        """
        entries: list[Entry] = []
        for module in BUILT_INS:
            entries += _components(importlib.import_module(module), "", PROJECT)
        broken: dict[str, str] = {}
        for point in _installed():
            provider = point.dist.name if point.dist else point.value
            try:
                plugin = point.load()
            except Exception as error:
                broken[point.name] = traceback.format_exc()
                logger.warning("The plugin %s (%s) could not be loaded: %r", point.name, provider, error)
                continue
            entries += _components(plugin, point.name, provider)
        named = [Path(file) for file in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if file]
        for file in [*named, *map(Path, plugin_files)]:
            entries += _components(_module_from(file), file.stem, str(file))
        return cls(entries=tuple(entries), broken=MappingProxyType(broken))

    def names(self, kind: Kind) -> tuple[str, ...]:
        """The names of all components of a kind."""
        return tuple(entry.name for entry in self.entries if entry.config.kind is kind)

    def get(self, kind: Kind, name: str) -> type[ComponentConfig]:
        """The config class of a component.

        Raises:
            UnknownNameError: There is none of this name; a near miss and the known names are in the message.
            PluginError: It belongs to a plugin that could not be loaded; its traceback is in the message.
        """
        return self._entry(kind, name).config

    def provider(self, kind: Kind, name: str) -> str:
        """The distribution, or the file, that offers a component; see `get`."""
        return self._entry(kind, name).provider

    def name_of(self, config: ComponentConfig) -> str:
        """The full name under which a config's class is registered.

        Raises:
            UnknownNameError: Its class is not registered.
        """
        for entry in self.entries:
            if entry.config is type(config):
                return entry.name
        raise UnknownNameError(
            f"{type(config).__module__}.{type(config).__qualname__} is not registered, so that nothing could find it "
            f"again by name: return it from {HOOKS[config.kind][0]} of a plugin."
        )

    def _entry(self, kind: Kind, name: str) -> Entry:
        for entry in self.entries:
            if entry.config.kind is kind and entry.name == name:
                return entry
        plugin = name.partition("/")[0]
        if plugin in self.broken:
            raise PluginError(
                f"The plugin {plugin} could not be loaded, so there is no {name}:\n{self.broken[plugin]}"
            )
        raise UnknownNameError(f"There is no {kind} component {name!r}{near_miss(name, self.names(kind))}")


def _installed() -> list[EntryPoint]:
    """The chosen entry points, each name once.

    pluggy's own loader skips a second distribution of one name in silence, and one import error ends it.
    """
    chosen = os.environ.get(VARIABLE)
    wanted = None if chosen is None else {name.strip() for name in chosen.split(",") if name.strip()}
    points = [point for point in entry_points(group=PROJECT) if wanted is None or point.name in wanted]
    for name in {point.name for point in points}:
        same = [str(point.dist.name if point.dist else point.value) for point in points if point.name == name]
        if len(same) > 1:
            raise PluginError(
                f"The plugin name {name!r} is taken by {' and by '.join(same)}; uninstall one of them."
            )
    missing = (wanted or set()) - {point.name for point in points}
    if missing:
        raise PluginError(
            f"{VARIABLE} names {', '.join(sorted(missing))}, which is not installed"
            f"{near_miss(min(missing), [point.name for point in entry_points(group=PROJECT)])}"
        )
    return points


def _module_from(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"perceptio_plugin_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file; name one that has the hooks of perceptio.hookspecs.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _components(plugin: object, name: str, provider: str) -> Iterable[Entry]:
    """What a plugin registers, validated."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    who = f"The plugin {name} ({provider})" if name else provider
    try:
        manager.register(plugin)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{who} has a hook that does not exist or does not fit: {error}.") from error
    entries: list[Entry] = []
    for kind, (hook, base) in HOOKS.items():
        for returned in getattr(manager.hook, hook)():
            for config in returned:
                _check_component(config, kind, base, f"{who}, {hook}")
                full = f"{name}/{config.name}" if name else config.name
                if any(entry.name == full and entry.config.kind is kind for entry in entries):
                    raise PluginError(f"{who} registers the {kind} component {full} twice.")
                entries.append(Entry(name=full, config=config, provider=provider))
    return entries


def _check_component(config: object, kind: Kind, base: type, where: str) -> None:
    if not (isinstance(config, type) and issubclass(config, base)):
        raise PluginError(f"{where} returned {config!r}: return classes derived from {base.__name__}.")
    for fact in ("name", "kind", "interface"):
        if not hasattr(config, fact):
            raise PluginError(f"{where}: {config.__name__} states no {fact}; set it as a class variable.")
    if config.kind is not kind or "/" in config.name:  # type: ignore[attr-defined]
        raise PluginError(
            f"{where}: {config.__name__} says that it is {config.kind}:{config.name}; its kind "  # type: ignore[attr-defined]
            f"must be {kind}, and its name bare."
        )
    major, minor = config.interface  # type: ignore[attr-defined]
    if major != INTERFACE_VERSION[0] or minor > INTERFACE_VERSION[1]:
        raise PluginError(
            f"{where}: {config.__name__} was written for version {major}.{minor} of the interfaces; this library has "
            f"{INTERFACE_VERSION[0]}.{INTERFACE_VERSION[1]}."
        )
