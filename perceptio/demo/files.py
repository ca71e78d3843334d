"""The files in which the demo's jobs leave what the report shows, beside their checkpoints."""

FIGURES = "figures.json"
"""Figures of a job: of the shortcuts, of a depth tokenizer, of an arm."""
HISTORY = "history.jsonl"
"""Records of the training of a depth tokenizer."""
