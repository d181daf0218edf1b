"""Sources of samples, and how a raw sample becomes a model's input."""
