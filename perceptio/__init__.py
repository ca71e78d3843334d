"""Perception-enhanced vision-language models from pluggable tokenizers: perceive, then answer."""
