"""The files that the demo's jobs write for the report, beside their checkpoints."""

FIGURES = "figures.json"
"""Figures of a job: of the shortcuts, of a depth tokenizer, or of an arm."""
HISTORY = "history.jsonl"
"""Records of the training of a depth tokenizer."""
