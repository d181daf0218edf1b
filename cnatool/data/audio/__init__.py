"""Decoding of sound, and how it becomes a model's input."""
