"""What the harnesses publish of themselves, for tests where they are not installed: signatures and nothing else.

lmms-eval 0.7.3 (`lmms_eval/api/model.py`, `api/instance.py`, `models/registry_v2.py`) and VLMEvalKit 0.2rc1
(`vlmeval/vlm/base.py`, `vlmeval/config.py`).
"""

import abc
import importlib.util
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any


class Lmms(abc.ABC):
    is_simple = True

    def __init__(self) -> None:
        self._rank, self._world_size, self.task_dict = 0, 1, {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...

    @classmethod
    def create_from_arg_string(cls, arg_string, additional_config=None):
        given = dict(one.split("=", 1) for one in arg_string.split(",") if one)
        extra = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**given, **extra)

    @property
    def rank(self):
        return self._rank

    @property
    def world_size(self):
        return self._world_size


@dataclass
class GenerationResult:
    text: Any
    token_counts: Any = None


@dataclass
class Instance:
    request_type: str
    arguments: tuple
    idx: int
    metadata: dict = field(default_factory=dict)

    def __post_init__(self):
        self.task_name = self.metadata["task"]

    @property
    def args(self):
        return self.arguments


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


class BaseModel:
    INTERLEAVE = False
    allowed_types: Any = ("text", "image", "video")

    def __init__(self):
        self.dump_image_func = None

    def use_custom_prompt(self, dataset):
        return False

    @abc.abstractmethod
    def generate_inner(self, message, dataset=None):
        raise NotImplementedError

    def generate(self, message, dataset=None):
        assert all(part["type"] in self.allowed_types for part in message)
        return self.generate_inner(message, dataset)


def there(package: str) -> bool:
    """Whether the package itself is installed."""
    return package not in STANDING_IN and importlib.util.find_spec(package) is not None


STANDING_IN: set[str] = set()


def stand_in() -> None:
    """Put the published interfaces where those packages would be that are not installed."""
    for package, modules in MODULES.items():
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            STANDING_IN.add(package)
            for name, held in modules.items():
                module = ModuleType(name)
                module.__path__ = []
                vars(module).update(held)
                sys.modules[name] = module
                parent, _, child = name.rpartition(".")
                if parent:
                    setattr(sys.modules[parent], child, module)


MODULES: dict[str, dict[str, dict[str, Any]]] = {
    "lmms_eval": {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.api.instance": {"Instance": Instance, "GenerationResult": GenerationResult},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    },
    "vlmeval": {
        "vlmeval": {},
        "vlmeval.vlm": {},
        "vlmeval.vlm.base": {"BaseModel": BaseModel},
        "vlmeval.config": {"supported_VLM": {"LLaVA-v1.5-7B": object}},
    },
}
