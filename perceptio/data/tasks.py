"""The tasks of a recipe, by the names that data give them."""

from collections.abc import Iterable
from typing import cast

import attrs

from perceptio.errors import RecipeError
from perceptio.interfaces import Kind, Task, TaskConfig
from perceptio.model.parts import build_part
from perceptio.recipe import Recipe
from perceptio.registry import Registry

OF_STREAM, IN_WORDS = "map", "plain"
"""The registered tasks that stand for names which nobody registered: of a stream's own question, and of any other."""


class TaskTable:
    """Finds and builds tasks, each once.

    The name decides: `recipe.tasks[name]`; else the registered task of that name with its defaults, a plugin's as
    `plugin/name`, which has to be loaded; else, where it is a stream's that is written once per image, with `_map`
    after it, the question for that stream, such as `depth_map`; else a question that is answered in words.

    Args:
        recipe: Whose tasks they are.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._specs = recipe, recipe.specs
        self._registry = Registry.discover()
        self._registered = named_by_data(self._registry)
        self._built: dict[str, Task] = {}

    def __getitem__(self, name: str) -> Task:
        """The task of a name.

        Raises:
            PluginError: It is of a plugin that was set aside, or cannot be built.
            UnknownNameError: It is named as a plugin's, and no plugin that is loaded has it.
            RecipeError: It makes no sense in the recipe's model, or is a plugin's that needs settings.
        """
        if name not in self._built:
            self._built[name] = build_part(self._config(name), self._specs)
        return self._built[name]

    def of_stream(self, stream: str) -> str:
        """The name of the task that asks for a stream and for nothing else, which needs no turn in the data."""
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
            # A plugin's task is never taken for a question in words: it would be trained and scored as another one.
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
    """The registered tasks that data can name, which are those with a default for every setting."""
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
    """The registered tasks that have rules for the turns of data, with their defaults, by name."""
    found = named_by_data(Registry.discover())
    return {name: config() for name, config in found.items() if config.problems is not TaskConfig.problems}


def not_loaded(names: Iterable[str]) -> list[str]:
    """Return those of the names that are a plugin's tasks, `plugin/name`, which no loaded plugin registers."""
    known = Registry.discover().names(Kind.TASK)
    return [name for name in names if "/" in name and name not in known]
