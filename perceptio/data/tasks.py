"""The tasks of a recipe, by the names that data give them."""

from typing import cast

import attrs

from perceptio.errors import PluginError, RecipeError
from perceptio.interfaces import Kind, Task, TaskConfig
from perceptio.model.parts import build_part
from perceptio.recipe import Recipe
from perceptio.registry import Registry

MAP_TASK, PLAIN_TASK = "depth_map", "plain"
"""The registered tasks that stand for names which nobody registered: of a stream's own question, and of any other."""


class TaskTable:
    """Finds and builds tasks, each once.

    The name decides: `recipe.tasks[name]`; else the registered task of that name with its defaults, also a plugin's
    as `plugin/name`; else, where it is that of a stream with `_map` after it, the question for that stream; else a
    question that is answered in words.

    Args:
        recipe: Whose tasks they are.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._specs = recipe, recipe.specs
        self._registry = Registry.discover()
        self._built: dict[str, Task] = {}

    def __getitem__(self, name: str) -> Task:
        """The task of a name.

        Raises:
            PluginError: It is of a plugin that was set aside, or cannot be built.
            RecipeError: It makes no sense in the recipe's model, or has settings without a default.
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
        if name in self._registry.names(Kind.TASK):
            return self._registered(name)
        broken = self._registry.why_missing(name)
        if broken is not None:
            raise PluginError(f"There is no task {name!r}. {broken}")
        stream = name.removesuffix("_map")
        written = {one.name: one.spec.per for one in self._recipe.streams}
        if stream != name and written.get(stream) == "image":
            return self._registered(MAP_TASK, stream=stream)
        return self._registered(PLAIN_TASK)

    def _registered(self, name: str, **settings: str) -> TaskConfig:
        config = cast(type[TaskConfig], self._registry.get(Kind.TASK, name))
        if any(
            field.default is attrs.NOTHING and field.name not in settings for field in attrs.fields(config)
        ):
            raise RecipeError(
                f"The task {name!r} has settings without a default: say in recipe.tasks what they are."
            )
        return config(**settings)


def task_rules() -> dict[str, TaskConfig]:
    """The registered tasks that have rules for the turns of data, with their defaults, by name."""
    registry = Registry.discover()
    found = {
        entry.name: cast(type[TaskConfig], entry.config)
        for entry in registry.entries
        if entry.config.kind is Kind.TASK
    }
    return {
        name: config()
        for name, config in found.items()
        if config.problems is not TaskConfig.problems
        and not any(field.default is attrs.NOTHING for field in attrs.fields(config))
    }
