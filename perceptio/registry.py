"""The registry of components: built-ins, installed plugins, and plugin files named on the command line.

The registry has no global state and is not used in forward passes. A plugin that violates the contract is set aside
as a whole.
"""

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import attrs

from perceptio.errors import PluginError, UnknownNameError, near_miss, quoted
from perceptio.hookspecs import HOOKS, PROJECT
from perceptio.interfaces import ComponentConfig, Kind, LossConfig
from perceptio.plugins import (
    FILES_VARIABLE,
    VARIABLE,
    Broken,
    Entry,
    Plugin,
    chosen_entry_points,
    components_of,
    listed_files,
    offered,
    python_file,
)
from perceptio.setting_types import FrozenMapping

logger = logging.getLogger(__name__)

BUILT_INS = (
    "perceptio.tokenizers.depth",
    "perceptio.tokenizers.segmentation",
    "perceptio.tokenizers.perception",
    "perceptio.backbones.vision",
    "perceptio.backbones.language",
    "perceptio.heads",
    "perceptio.losses",
    "perceptio.tasks",
    "perceptio.experiments.launchers",
    "perceptio.data.sources",
    "perceptio.data.teachers",
)
HOW_TO_LOAD = f"install it, or name its file with perceptio --plugin FILE, or from Python in {FILES_VARIABLE}"
"""The advice in messages about a missing plugin."""


@attrs.frozen(kw_only=True, eq=False)
class Registry:
    """All components by kind and name; immutable.

    Attributes:
        entries: All components, built-ins first.
        broken: The plugins that were set aside, by name.
        excluded: The names of installed plugins that `PERCEPTIO_PLUGINS` excludes.
    """

    entries: tuple[Entry, ...]
    broken: Mapping[str, Broken] = FrozenMapping({})
    excluded: frozenset[str] = frozenset()

    @classmethod
    def discover(cls, plugin_files: Sequence[Path | str] = ()) -> Self:
        """Collect built-ins, installed plugins and plugin files.

        Two environment variables select plugins:

        - `PERCEPTIO_PLUGINS=acme,other` loads only these installed plugins. If it is set but empty, none is loaded.
        - `PERCEPTIO_PLUGIN_FILES` lists further plugin files, as paths joined by the system's separator, or as a JSON
          list, which is what `perceptio --plugin FILE` writes.

        A plugin is imported only once per process. A file that failed is executed again after it has changed.

        A plugin is set aside with one warning if it cannot be imported, violates the contract of a hook, was written
        for another version of the interfaces, or has the same name as another plugin. Asking for one of its
        components raises an error that says why.

        Args:
            plugin_files: Python files, each a plugin whose name is the stem of the file.

        Raises:
            PluginError: A file is not a Python file, or a plugin that `PERCEPTIO_PLUGINS` names is not installed.
        """
        entries: list[Entry] = []
        for module in BUILT_INS:
            entries += components_of(importlib.import_module(module), "", PROJECT)
        points, excluded = chosen_entry_points()
        files = dict.fromkeys(python_file(file) for file in [*listed_files(), *plugin_files])
        plugins = [*map(Plugin.installed, points), *map(Plugin.of_file, files)]
        broken: dict[str, Broken] = {}
        for plugin in plugins:
            same = [other.provider for other in plugins if other.name == plugin.name]
            if len(same) > 1:
                taken = f"Its name is taken by {' and by '.join(same)}: rename or remove one."
                broken[plugin.name] = Broken(provider=plugin.provider, reason=taken)
                continue
            found = offered(plugin)
            if isinstance(found, Broken):
                broken[plugin.name] = found
            else:
                entries += found
        for name, found in broken.items():
            _warn_once(name, found.provider, found.reason)
        return cls(entries=tuple(entries), broken=FrozenMapping(broken), excluded=excluded)

    def names(self, kind: Kind) -> tuple[str, ...]:
        """Return the names of all components of a kind."""
        return tuple(entry.name for entry in self.entries if entry.config.kind is kind)

    def get(self, kind: Kind, name: str) -> type[ComponentConfig]:
        """Return the config class of a component.

        Raises:
            UnknownNameError: There is no such component. The message suggests a similar name and lists all names.
            PluginError: The component belongs to a plugin that was set aside or is excluded. The message says why.
        """
        return self._entry(kind, name).config

    def provider(self, kind: Kind, name: str) -> str:
        """Return the distribution or file that provides a component; raises the errors of `get`."""
        return self._entry(kind, name).provider

    def name_of(self, config: ComponentConfig) -> str:
        """Return the full name under which a config's class is registered.

        Raises:
            UnknownNameError: Its class is not registered.
        """
        own = type(config)
        for entry in self.entries:
            if entry.config is own:
                return entry.name
        qualified = f"{own.__module__}.{own.__qualname__}"
        if any(
            f"{entry.config.__module__}.{entry.config.__qualname__}" == qualified for entry in self.entries
        ):
            raise UnknownNameError(
                f"{qualified} has been executed anew since this config was made, and its class is another now: make "
                "the config again."
            )
        aside = "".join(
            f" The plugin {name} was set aside: {found.reason}" for name, found in self.broken.items()
        )
        raise UnknownNameError(
            f"{qualified} is not registered, so that nothing could find it again by name: return it from "
            f"{HOOKS[config.kind][0]} of a plugin.{aside}"
        )

    def known_as(self, config: ComponentConfig) -> str:
        """Return the full name of a config, or its name without prefix if its class is not registered."""
        registered = (entry.name for entry in self.entries if entry.config is type(config))
        return next(registered, config.name)

    def term_of(self, loss: LossConfig) -> str:
        """Return the name of the term of a loss: `LossConfig.term`, prefixed by its plugin if it has one."""
        plugin, slash, _ = self.known_as(loss).rpartition("/")
        return f"{plugin}{slash}{loss.term}"

    def has_plugin(self, name: str) -> bool:
        """Return whether the plugin in a component's full name provides any component."""
        return any(entry.name.startswith(f"{name.partition('/')[0]}/") for entry in self.entries)

    def why_missing(self, name: str) -> str | None:
        """Say why the plugin in a component's full name was set aside or excluded; None if it is neither."""
        plugin = name.partition("/")[0]
        if plugin in self.broken:
            found = self.broken[plugin]
            return f"The plugin {plugin} ({found.provider}) was set aside: {found.reason}\n{found.details}".rstrip()
        if plugin in self.excluded:
            chosen = os.environ.get(VARIABLE, "")
            return f"The plugin {plugin} is installed, and {VARIABLE}={chosen} leaves it out; add it there."
        return None

    def _entry(self, kind: Kind, name: str) -> Entry:
        for entry in self.entries:
            if entry.config.kind is kind and entry.name == name:
                return entry
        reason = self.why_missing(name)
        if reason is not None:
            raise PluginError(f"There is no {kind} component {quoted(name)}. {reason}")
        others = [entry.config.kind for entry in self.entries if entry.name == name]
        also = f" A {others[0]} component is called so." if others else ""
        if not others and "/" in name and not self.has_plugin(name):
            also = f" No plugin {quoted(name.partition('/')[0])} is loaded: {HOW_TO_LOAD}."
        raise UnknownNameError(
            f"There is no {kind} component {quoted(name)}{near_miss(name, self.names(kind))}{also}"
        )


@cache
def _warn_once(name: str, provider: str, reason: str) -> None:
    logger.warning("The plugin %s (%s) was set aside: %s", name, provider, reason)
