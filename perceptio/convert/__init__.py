"""Conversion of other projects' weights into checkpoints of this library."""
