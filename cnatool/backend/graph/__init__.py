"""The graph of a model: tensors, constants, linear operators, layers."""
