"""Weights of other projects, read once into checkpoints of this library."""
