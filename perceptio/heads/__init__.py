"""Built-in heads."""

from perceptio.heads.linear import LinearHeadConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.heads.query import QueryHeadConfig
from perceptio.hookspecs import hookimpl


@hookimpl
def register_heads() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [LinearHeadConfig, MLPHeadConfig, PromptMLPConfig, QueryHeadConfig]
