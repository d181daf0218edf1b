"""Small runs of a model that find data types, shapes and the sample axis of its tensors."""
