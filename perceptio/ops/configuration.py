"""A model's own configuration, such as a `config.json`: each value is read with its type and its bounds."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import PerceptioError, quoted
from perceptio.ops.json_files import read_json

LARGEST_SIZE = 2**24
"""No extent of a layer, vocabulary, sequence or picture is larger."""

MOST_LAYERS = 1000

_REQUIRED: Any = object()


@attrs.frozen
class Configuration:
    """Values of a configuration by name, and what a wrong one raises.

    Attributes:
        where: What messages begin with: the file, or the part of a recipe.
        values: The values.
        error: What is raised.
    """

    where: str
    values: Mapping[str, Any]
    error: type[PerceptioError]

    @classmethod
    def read(cls, file: Path, error: type[PerceptioError], remedy: str) -> "Configuration":
        """The configuration in a JSON file.

        Raises:
            PerceptioError: Of the given class: the file is missing, no JSON, or no object.
        """
        values = read_json(file, error=error, remedy=remedy)
        if not isinstance(values, Mapping):
            raise error(f"{file} is no JSON object: {remedy}.")
        return cls(str(file), values, error)

    def whole(self, name: str, default: Any = _REQUIRED, *, low: int = 1, high: int = LARGEST_SIZE) -> int:
        """A whole number between two bounds; the default where the value is absent or null."""
        value = self._get(name, default)
        if value is default and default is not _REQUIRED:
            return value
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, value, f"a whole number from {low} to {high:,}")
        return value

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """True or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """A text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def side(self, name: str) -> int:
        """The side of a square: a whole number, or a pair of the same one."""
        value = self._get(name, _REQUIRED)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            return Configuration(self.where, {name: value[0]}, self.error).whole(name)
        return self.whole(name)

    def section(self, name: str, default: Any = _REQUIRED) -> "Configuration":
        """A configuration inside of this one."""
        value = self._get(name, default)
        if not isinstance(value, Mapping):
            raise self._wrong(name, value, "an object")
        return Configuration(f"{self.where}, {name}", value, self.error)

    def check_depth(self) -> None:
        """Refuse more layers than any model has, here or in a section: each is made, one after the other."""
        for name, value in self.values.items():
            if isinstance(value, Mapping):
                self.section(name).check_depth()
            elif re.search("layers|blocks|depths?$", name):
                counts = value if isinstance(value, list) else [value]
                if sum(abs(one) for one in counts if type(one) in (int, float)) > MOST_LAYERS:
                    raise self._wrong(name, value, f"{MOST_LAYERS} layers at most")

    def _get(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None:
            if default is _REQUIRED:
                raise self.error(f"{self.where} has no {name}, which must be there.")
            return default
        return value

    def _wrong(self, name: str, value: Any, wanted: str) -> PerceptioError:
        return self.error(f"{self.where} has {name} {quoted(value)}; it must be {wanted}.")
