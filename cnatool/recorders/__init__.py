"""Recorders for PyTorch and Keras, over the writing API."""
