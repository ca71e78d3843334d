"""A model's own configuration, such as a `config.json`, with checks of the type and bounds of each value."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import PerceptioError, quoted
from perceptio.ops.json_files import read_json

LARGEST_SIZE = 2**24
"""Upper bound on the size of any layer, vocabulary, sequence or image."""

MOST_LAYERS = 1000

_REQUIRED: Any = object()


@attrs.frozen
class Configuration:
    """The values of a configuration by name, and the error for invalid ones.

    Attributes:
        where: The beginning of messages: the file, or the part of a recipe.
        values: The values.
        error: The class of the error.
    """

    where: str
    values: Mapping[str, Any]
    error: type[PerceptioError]

    @classmethod
    def read(cls, file: Path, error: type[PerceptioError], remedy: str) -> "Configuration":
        """Read the configuration in a JSON file.

        Raises:
            PerceptioError: Of the given class: the file is missing, not JSON, or not an object.
        """
        values = read_json(file, error=error, remedy=remedy)
        if not isinstance(values, Mapping):
            raise error(f"{file} is no JSON object: {remedy}.")
        return cls(str(file), values, error)

    def whole(self, name: str, default: Any = _REQUIRED, *, low: int = 1, high: int = LARGEST_SIZE) -> int:
        """Return an integer between two bounds; the default if the value is absent or null."""
        value = self._get(name, default)
        if value is default and default is not _REQUIRED:
            return value
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(name, value, f"a whole number from {low} to {high:,}")
        return value

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """Return a boolean."""
        value = self._get(name, default)
        if type(value) is not bool:
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """Return a text."""
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        return value

    def side(self, name: str) -> int:
        """Return the side of a square, given as an integer or as a pair of equal ones."""
        value = self._get(name, _REQUIRED)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            return Configuration(self.where, {name: value[0]}, self.error).whole(name)
        return self.whole(name)

    def section(self, name: str, default: Any = _REQUIRED) -> "Configuration":
        """Return a nested configuration."""
        value = self._get(name, default)
        if not isinstance(value, Mapping):
            raise self._wrong(name, value, "an object")
        return Configuration(f"{self.where}, {name}", value, self.error)

    def check_depth(self) -> None:
        """Refuse more layers than any model has, here or in a section; layers are built one after the other."""
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
