"""Statistics of tensors, computed inside the model's graph where that pays."""
