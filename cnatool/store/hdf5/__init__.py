"""The store in HDF5, with atomic commits."""
