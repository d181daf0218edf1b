"""Samples through a model into a store."""
