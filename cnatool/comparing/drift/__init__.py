"""Drift: how far apart the activations of two sets of samples are in one network."""
