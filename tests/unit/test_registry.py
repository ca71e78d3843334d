"""What there is, who offers it, and what is wrong with a plugin."""

import json
import os
import pickle
import sys
import types
from importlib.metadata import EntryPoint

import attrs
import pytest

from perceptio import plugins as plugins_module
from perceptio import registry as registry_module
from perceptio.errors import PluginError, UnknownNameError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.hookspecs import HOOKS, hookimpl
from perceptio.interfaces import HeadConfig, Kind
from perceptio.registry import Registry


def plugin_of(*configs, hook="register_heads"):
    module = types.ModuleType("acme")
    setattr(module, hook, hookimpl(lambda: list(configs)))
    return module


def head(name="twice", **facts):
    return attrs.frozen(kw_only=True)(type("Twice", (LinearHeadConfig,), {"name": name, **facts}))


@pytest.fixture
def install(monkeypatch):
    """Pretend that entry points are installed."""

    def installed(**plugins):
        points = []
        for name, plugin in plugins.items():
            module = f"installed_{name}"
            if plugin is not None:
                monkeypatch.setitem(sys.modules, module, plugin)
            points.append(EntryPoint(name=name, value=module, group="perceptio"))
        monkeypatch.setattr(plugins_module, "entry_points", lambda group: points)
        plugins_module.offered.cache_clear()

    return installed


def test_built_ins_have_bare_names_and_every_kind_has_some():
    registry = Registry.discover()
    for kind in HOOKS:
        assert registry.names(kind)
        assert all("/" not in name for name in registry.names(kind))
    assert registry.provider(Kind.DEPTH, "vqvae") == "perceptio"
    assert registry.get(Kind.HEAD, "linear") is LinearHeadConfig


def test_a_plugin_is_prefixed_and_cannot_shadow(install):
    mine = head("linear")
    install(acme=plugin_of(mine))
    registry = Registry.discover()
    assert registry.get(Kind.HEAD, "acme/linear") is mine
    assert registry.get(Kind.HEAD, "linear") is LinearHeadConfig
    assert registry.name_of(mine()) == "acme/linear"


def test_plugins_are_chosen_by_the_environment(install, monkeypatch):
    install(acme=plugin_of(head()), other=plugin_of(head()))
    monkeypatch.setenv("PERCEPTIO_PLUGINS", "acme")
    assert "acme/twice" in Registry.discover().names(Kind.HEAD)
    assert "other/twice" not in Registry.discover().names(Kind.HEAD)
    monkeypatch.setenv("PERCEPTIO_PLUGINS", "")
    with pytest.raises(
        PluginError, match="plugin acme is installed, and PERCEPTIO_PLUGINS= leaves it out; add it"
    ):
        Registry.discover().get(Kind.HEAD, "acme/twice")
    monkeypatch.setenv("PERCEPTIO_PLUGINS", "acne")
    with pytest.raises(PluginError, match="names acne, which is not installed; did you mean 'acme'"):
        Registry.discover()


def test_a_plugin_that_cannot_be_imported_shows_its_traceback_when_asked_for(install):
    install(acme=None)
    with pytest.raises(PluginError, match="Importing it raised ModuleNotFoundError(.|\n)*Traceback"):
        Registry.discover().get(Kind.HEAD, "acme/twice")


def raising(error):
    def hook():
        raise error

    return hook


def hooked(function, hook="register_heads", mark=hookimpl):
    module = types.ModuleType("acme")
    setattr(module, hook, mark(function))
    return module


class Undecorated(LinearHeadConfig):
    """Settings that attrs has not seen."""

    name = "undecorated"
    width: int = 3


@attrs.frozen(kw_only=True)
class Callback(LinearHeadConfig):
    """A setting that JSON cannot say."""

    name = "callback"
    when: object = None


@attrs.frozen(kw_only=True)
class Renamed(LinearHeadConfig):
    """A setting that is given by another name than it is written by."""

    name = "renamed"
    _width: int = 3


@attrs.frozen(kw_only=True)
class Untyped(LinearHeadConfig):
    """A setting of which nobody says what it is."""

    name = "untyped"
    width = attrs.field(default=3)


@attrs.frozen(kw_only=True)
class Misnamed(LinearHeadConfig):
    """A setting whose name JSON needs for the component's."""

    name = "misnamed"
    component: str = ""


class Shy(BaseException):
    """No Exception, and it cannot be shown."""

    def __repr__(self):
        raise ValueError


class Unfinished(HeadConfig):
    """No way to build it."""

    name, kind, interface = "unfinished", Kind.HEAD, (2, 0)


class Unhashable(type(HeadConfig)):
    """Of classes that cannot be asked what they are derived from."""

    def __eq__(cls, other):
        return cls is other

    __hash__ = None


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (
            plugin_of(Unhashable("Odd", (LinearHeadConfig,), {})),
            "Looking for its parts raised TypeError",
        ),
        (plugin_of(head(), hook="register_haeds"), "A hook does not exist or does not fit.*register_heads"),
        (plugin_of(object), "it must return classes derived from HeadConfig"),
        (plugin_of(LinearHeadConfig()), r"returned LinearHeadConfig\(\); it must return classes"),
        (
            hooked(lambda: LinearHeadConfig),
            "returned <class .*LinearHeadConfig'>; it must return a list of classes",
        ),
        (hooked(lambda: None), "register_heads returned None; it must return a list"),
        (
            hooked(raising(ZeroDivisionError("nought"))),
            r"register_heads raised ZeroDivisionError\('nought'\)",
        ),
        (hooked(raising(SystemExit(3))), r"register_heads raised SystemExit\(3\)"),
        (hooked(raising(GeneratorExit())), r"register_heads raised GeneratorExit\(\)"),
        (hooked(raising(Shy())), r"register_heads raised a Shy that cannot be shown"),
        (hooked(raising(ValueError("x" * 9000))), r"register_heads raised ValueError\('x{300,400}\.\.\."),
        (
            hooked(lambda: [], mark=lambda function: function),
            "register_heads is not marked as a hook: write @hookimpl",
        ),
        (types.ModuleType("acme"), "It has no hook of perceptio.hookspecs"),
        (
            plugin_of(head(interface=(1, 0))),
            "version 1.0 of the interfaces, and this library has 2.0: docs/interfaces.md",
        ),
        (plugin_of(head(interface=(0, 9))), "version 0.9 of the interfaces"),
        (
            plugin_of(head(interface=(2, 1))),
            "version 2.1 of the interfaces, and this library has 2.0: upgrade perceptio",
        ),
        (plugin_of(head(interface=(3, 0))), "version 3.0 of the interfaces.*upgrade perceptio"),
        (plugin_of(head(interface="2.0")), "states the interface '2.0'; give two whole numbers"),
        (
            plugin_of(head(kind=Kind.LOSS)),
            "says that it is a loss; what register_heads returns must be a head",
        ),
        (plugin_of(head(kind="head")), "has the kind 'head'; give Kind.HEAD"),
        (
            plugin_of(head(retired=["width"])),
            r"has retired \['width'\]; it must be a mapping of names to reasons",
        ),
        (plugin_of(head("a/b")), "has the name 'a/b'; use letters, digits"),
        (plugin_of(head(), head()), "registers the head component acme/twice twice"),
        (plugin_of(Undecorated), "has width without being an attrs class of its own: write @attrs.frozen"),
        (plugin_of(Renamed), "Renamed._width cannot be given by its name"),
        (plugin_of(Untyped), "Untyped.width has no annotation"),
        (plugin_of(Misnamed), "Misnamed has a setting 'component', which names the part in JSON: rename it"),
        (plugin_of(Callback), "Callback.when: object is none of bool, int, float"),
        (plugin_of(Unfinished), "Unfinished lacks build: see HeadConfig"),
    ],
)
def test_a_plugin_that_does_not_keep_the_contract_is_set_aside_alone(install, plugin, message, caplog):
    install(acme=plugin, other=plugin_of(head()))
    registry_module._warn_once.cache_clear()
    registry = Registry.discover()
    Registry.discover()
    assert [record.args[0] for record in caplog.records] == ["acme"]
    assert registry.get(Kind.HEAD, "other/twice") and registry.get(Kind.HEAD, "linear")
    with pytest.raises(PluginError, match=message):
        registry.get(Kind.HEAD, "acme/twice")


def test_two_plugins_of_one_name_are_both_named_and_neither_is_taken(monkeypatch, tmp_path):
    points = [EntryPoint(name="acme", value=value, group="perceptio") for value in ("first", "second")]
    monkeypatch.setattr(plugins_module, "entry_points", lambda group: points)
    with pytest.raises(PluginError, match="Its name is taken by first and by second: rename or remove one"):
        Registry.discover().get(Kind.HEAD, "acme/twice")
    files = [written(tmp_path / folder / "mine.py") for folder in ("one", "two")]
    with pytest.raises(PluginError, match="taken by .*one/mine.py and by .*two/mine.py"):
        Registry.discover(files).get(Kind.HEAD, "mine/own")


def test_a_built_in_that_breaks_is_our_bug(monkeypatch):
    monkeypatch.setitem(sys.modules, "perceptio.heads", plugin_of(head(interface=(1, 0))))
    with pytest.raises(PluginError, match="Twice was written for version 1.0"):
        Registry.discover()


PLUGIN = """
from __future__ import annotations

import dataclasses
from typing import ClassVar

import attrs

from perceptio.heads.linear import LinearHeadConfig
from perceptio.hookspecs import hookimpl


@dataclasses.dataclass
class Notes:
    text: ClassVar[str] = ""


@attrs.frozen(kw_only=True)
class Mine(LinearHeadConfig):
    name: ClassVar[str] = "own"
    width: int | None = None


@hookimpl
def register_heads():
    return [Mine]
"""


def written(file, text=PLUGIN):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_file_is_a_plugin_whose_classes_are_the_same_every_time(tmp_path, monkeypatch):
    file = written(tmp_path / "mine.py")
    first = Registry.discover([file])
    assert first.provider(Kind.HEAD, "mine/own") == str(file)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(file))
    made = first.get(Kind.HEAD, "mine/own")(width=3)
    second = Registry.discover([file])
    assert second.get(Kind.HEAD, "mine/own") is type(made) and second.name_of(made) == "mine/own"
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_plugin_that_fails_is_asked_once_and_again_when_its_file_has_changed(tmp_path):
    file = written(tmp_path / "mine.py", "import times\ntimes.COUNT += 1\nraise ValueError")
    times = sys.modules["times"] = types.ModuleType("times")
    times.COUNT = 0
    for _ in range(3):
        assert Registry.discover([file]).broken["mine"].reason == "Importing it raised ValueError()."
    assert times.COUNT == 1
    written(file)
    assert "mine/own" in Registry.discover([file]).names(Kind.HEAD)


def test_a_plugin_s_module_may_be_anything(tmp_path):
    file = written(tmp_path / "odd.py", "import sys\nclass Odd: pass\nsys.modules[__name__] = Odd()\n")
    for _ in range(2):
        assert "It has no hook" in Registry.discover([file]).broken["odd"].reason
    file = written(tmp_path / "shy.py", f"{PLUGIN}\ndef __dir__(): 1 / 0\n")
    reason = Registry.discover([file]).broken["shy"].reason
    assert reason == "Looking for its parts raised ZeroDivisionError('division by zero')."


def test_files_are_listed_in_the_environment_in_two_ways(tmp_path, monkeypatch):
    plain, odd = written(tmp_path / "mine.py"), written(tmp_path / "a:b" / "odd.py")
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", json.dumps([str(plain), str(odd)]))
    assert {"mine/own", "odd/own"} <= set(Registry.discover().names(Kind.HEAD))
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", f"{plain}{os.pathsep}{odd}")
    with pytest.raises(
        PluginError, match=r"/a is no Python file.*paths with ':' in them need the form of a JSON list"
    ):
        Registry.discover()
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", "[3]")
    with pytest.raises(PluginError, match="it must be a list of paths"):
        Registry.discover()
    monkeypatch.delenv("PERCEPTIO_PLUGIN_FILES")
    with pytest.raises(PluginError, match="There is no plugin file .*other.py: check the path"):
        Registry.discover([tmp_path / "other.py"])


def test_a_name_that_a_setting_s_path_could_not_say_is_refused(tmp_path):
    registry = Registry.discover([written(tmp_path / "my.plugin.py")])
    assert "may have letters, digits, _ and - only: rename it" in registry.broken["my.plugin"].reason


def test_an_unknown_name_says_what_was_meant_and_what_there_is():
    with pytest.raises(
        UnknownNameError, match="'vqave'; did you mean 'vqvae'. There is: fsq, next_scale, vqvae"
    ):
        Registry.discover().get(Kind.DEPTH, "vqave")
    with pytest.raises(UnknownNameError, match="'map_vqvae'.* A perception component is called so.$"):
        Registry.discover().get(Kind.DEPTH, "map_vqvae")
    with pytest.raises(
        UnknownNameError, match="No plugin 'acme' is loaded: install it, .*perceptio --plugin FILE, or"
    ):
        Registry.discover().get(Kind.DEPTH, "acme/bins")


def test_a_class_that_is_not_registered_has_no_name():
    with pytest.raises(UnknownNameError, match="Twice is not registered.*register_heads"):
        Registry.discover().name_of(head()())
