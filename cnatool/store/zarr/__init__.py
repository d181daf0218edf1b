"""The store in Zarr v3."""
