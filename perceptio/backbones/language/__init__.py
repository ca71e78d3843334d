"""Built-in language backbones."""

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.hookspecs import hookimpl


@hookimpl
def register_language_backbones() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [DecoderConfig, HFLanguageConfig]
