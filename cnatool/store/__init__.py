"""Stores of activations: one data model over Zarr and HDF5."""
