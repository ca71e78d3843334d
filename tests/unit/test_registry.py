"""What there is, who offers it, and what is wrong with a plugin."""

import sys
import types
from importlib.metadata import EntryPoint

import attrs
import pytest

from perceptio import registry as registry_module
from perceptio.errors import PluginError, UnknownNameError
from perceptio.heads.linear import LinearHeadConfig
from perceptio.hookspecs import HOOKS, hookimpl
from perceptio.interfaces import Kind
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
        monkeypatch.setattr(registry_module, "entry_points", lambda group: points)

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
    assert "acme/twice" not in Registry.discover().names(Kind.HEAD)
    monkeypatch.setenv("PERCEPTIO_PLUGINS", "acne")
    with pytest.raises(PluginError, match="names acne, which is not installed; did you mean 'acme'"):
        Registry.discover()


def test_a_broken_plugin_is_set_aside_and_shows_its_traceback_when_asked_for(install, caplog):
    install(acme=None, other=plugin_of(head()))
    registry = Registry.discover()
    assert "The plugin acme" in caplog.text
    assert registry.get(Kind.HEAD, "other/twice")
    with pytest.raises(PluginError, match="ModuleNotFoundError"):
        registry.get(Kind.HEAD, "acme/twice")


def test_a_file_is_a_plugin(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from perceptio.hookspecs import hookimpl\n"
        "from perceptio.heads.linear import LinearHeadConfig\n"
        "class Mine(LinearHeadConfig):\n    name = 'own'\n"
        "@hookimpl\ndef register_heads():\n    return [Mine]\n"
    )
    assert Registry.discover([file]).provider(Kind.HEAD, "mine/own") == str(file)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(file))
    assert "mine/own" in Registry.discover().names(Kind.HEAD)
    with pytest.raises(PluginError, match="is no Python file"):
        Registry.discover([tmp_path / "other.py"])


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (plugin_of(head(), hook="register_haeds"), "a hook that does not exist or does not fit"),
        (plugin_of(object), "return classes derived from HeadConfig"),
        (
            plugin_of(head(interface=(1, 0))),
            "written for version 1.0 of the interfaces; this library has 2.0",
        ),
        (plugin_of(head(interface=(2, 1))), "written for version 2.1"),
        (plugin_of(head(kind=Kind.LOSS)), "its kind must be head"),
        (plugin_of(head("a/b")), "and its name bare"),
        (plugin_of(head(), head()), "registers the head component acme/twice twice"),
    ],
)
def test_a_plugin_that_does_not_keep_the_contract_is_refused(install, plugin, message):
    install(acme=plugin)
    with pytest.raises(PluginError, match=message):
        Registry.discover()


def test_two_plugins_of_one_name_are_both_named(monkeypatch):
    points = [EntryPoint(name="acme", value=value, group="perceptio") for value in ("first", "second")]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points)
    with pytest.raises(PluginError, match="'acme' is taken by first and by second"):
        Registry.discover()


def test_an_unknown_name_says_what_was_meant_and_what_there_is():
    with pytest.raises(UnknownNameError, match="'vqave'; did you mean 'vqvae'. There is: fsq, vqvae"):
        Registry.discover().get(Kind.DEPTH, "vqave")


def test_a_class_that_is_not_registered_has_no_name():
    with pytest.raises(UnknownNameError, match="Twice is not registered.*register_heads"):
        Registry.discover().name_of(head()())
