"""Tasks of a recipe, found by the names that data use for them."""

from collections.abc import Iterable
from typing import cast

import attrs

from perceptio.errors import RecipeError
from perceptio.interfaces import Kind, Task, TaskConfig
from perceptio.model.parts import build_part
from perceptio.recipe import Recipe
from perceptio.registry import Registry

OF_STREAM, IN_WORDS = "map", "plain"
"""Registered tasks used for unregistered names: the question for a stream (`STREAM_map`), and any other question."""


class TaskTable:
    """Finds and builds tasks by name, each once.

    The first rule that applies to a name decides:

    1. `recipe.tasks[name]`, if it exists.
    2. The registered task of that name, with its defaults. A plugin's task is named `plugin/name`, and the plugin
       must be loaded.
    3. `STREAM_map`, such as `depth_map`, for a stream that is written once per image: the question for that stream.
    4. Any other name: a question that is answered in words.

    Args:
        recipe: The recipe that has the tasks.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._specs = recipe, recipe.specs
        self._registry = Registry.discover()
        self._registered = named_by_data(self._registry)
        self._built: dict[str, Task] = {}

    def __getitem__(self, name: str) -> Task:
        """Return the task with a name.

        Raises:
            PluginError: Its plugin was set aside, or the task cannot be built.
            UnknownNameError: It is named like a plugin's task, and no loaded plugin has it.
            RecipeError: It makes no sense in the recipe's model, or it is a plugin's task with required settings.
        """
        if name not in self._built:
            self._built[name] = build_part(self._config(name), self._specs)
        return self._built[name]

    def of_stream(self, stream: str) -> str:
        """Return the name of the task that asks only for a stream, and which needs no turn in the data."""
        for name in self._recipe.tasks:
            task = self[name]
            if task.writes_turns and task.perception_only and task.required == (stream,):
                return name
        return f"{stream}_map"

    def _config(self, name: str) -> TaskConfig:
        if name in self._recipe.tasks:
            return self._recipe.tasks[name]
        if name in self._registered:
            return self._registered[name]()
        if "/" in name:
            # Never treat a plugin's task as a question in words: it would be trained and scored as a different task.
            self._registry.get(Kind.TASK, name)
            raise RecipeError(
                f"The task {name!r} has settings without defaults: give them in the recipe's tasks, by this name."
            )
        stream = name.removesuffix("_map")
        written = {one.name: one.spec.per for one in self._recipe.streams}
        if stream != name and written.get(stream) == "image":
            return cast(TaskConfig, self._registry.get(Kind.TASK, OF_STREAM)(stream=stream))  # type: ignore[call-arg]
        return self._registered[IN_WORDS]()


def named_by_data(registry: Registry) -> dict[str, type[TaskConfig]]:
    """Return the registered tasks that data can name: those with a default for every setting."""
    found = {
        entry.name: cast(type[TaskConfig], entry.config)
        for entry in registry.entries
        if entry.config.kind is Kind.TASK
    }
    return {
        name: config
        for name, config in found.items()
        if not any(field.default is attrs.NOTHING for field in attrs.fields(config))
    }


def task_rules() -> dict[str, TaskConfig]:
    """Return the registered tasks that check the turns of data, with their defaults, by name."""
    found = named_by_data(Registry.discover())
    return {name: config() for name, config in found.items() if config.problems is not TaskConfig.problems}


def not_loaded(names: Iterable[str]) -> list[str]:
    """Return the names of plugin tasks, `plugin/name`, that no loaded plugin registers."""
    known = Registry.discover().names(Kind.TASK)
    return [name for name in names if "/" in name and name not in known]
