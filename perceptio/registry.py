"""Which components there are: built-ins, installed plugins, and plugin files named on the command line.

Nothing here is in a forward pass, and there is no global state. A plugin that does not keep the contract is set aside
as a whole; a built-in that does not is our bug.
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
"""What to do about a plugin that is not there."""


@attrs.frozen(kw_only=True, eq=False)
class Registry:
    """Every component by kind and name; frozen once made.

    Attributes:
        entries: All components, built-ins first.
        broken: The plugins that were set aside, by name.
        excluded: The names of installed plugins that `PERCEPTIO_PLUGINS` leaves out.
    """

    entries: tuple[Entry, ...]
    broken: Mapping[str, Broken] = FrozenMapping({})
    excluded: frozenset[str] = frozenset()

    @classmethod
    def discover(cls, plugin_files: Sequence[Path | str] = ()) -> Self:
        """Built-ins, installed plugins and plugin files.

        `PERCEPTIO_PLUGINS=acme,other` loads only these installed plugins; set and empty, none. The files that
        `PERCEPTIO_PLUGIN_FILES` lists are plugins, too: paths with the system's separator between them, or a JSON
        list, which `perceptio --plugin FILE` writes. A plugin is imported once in a process, however often this is
        called; a file that failed is executed again when it has changed.

        A plugin that cannot be imported, breaks a hook's contract, was written for other interfaces, or has the name
        of another is set aside with one warning; asking for its components says why.

        Args:
            plugin_files: Python files, each a plugin named by its stem.

        Raises:
            PluginError: A named file is no Python file, or a plugin that `PERCEPTIO_PLUGINS` names is not installed.
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
        """The names of all components of a kind."""
        return tuple(entry.name for entry in self.entries if entry.config.kind is kind)

    def get(self, kind: Kind, name: str) -> type[ComponentConfig]:
        """The config class of a component.

        Raises:
            UnknownNameError: There is none of this name; a near miss and the known names are in the message.
            PluginError: It belongs to a plugin that was set aside or left out; the message says why.
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
        """The full name of a config, or its bare one where its class is not registered."""
        registered = (entry.name for entry in self.entries if entry.config is type(config))
        return next(registered, config.name)

    def term_of(self, loss: LossConfig) -> str:
        """What the term of a loss is called: after its plugin, where it is of one, its stream and the loss."""
        plugin, slash, _ = self.known_as(loss).rpartition("/")
        return f"{plugin}{slash}{loss.term}"

    def has_plugin(self, name: str) -> bool:
        """Whether the plugin of a component's full name offers anything here."""
        return any(entry.name.startswith(f"{name.partition('/')[0]}/") for entry in self.entries)

    def why_missing(self, name: str) -> str | None:
        """Why the plugin of a component's full name offers nothing; None where it does, or is not installed."""
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
