"""Norms of a model's weights, and noise on them."""
