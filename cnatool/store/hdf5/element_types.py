"""Element types of HDF5 arrays, bfloat16 among them.

A bfloat16 is a floating type of 16 bits whose fields HDF5 knows, so that it converts the values for
whoever reads them: h5py returns float32. HDF5 2 has such a type of its own, which is the same.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from cnatool._util.bfloat16 import BFLOAT16


def create_bfloat16() -> h5py.h5t.TypeFloatID:
    """Create the type: a sign, 8 bits of exponent, 7 of mantissa, little-endian."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def create_type(dtype: np.dtype[Any]) -> h5py.h5t.TypeID:
    """Create the type of numbers in a file."""
    if dtype == BFLOAT16:
        return create_bfloat16()
    return h5py.h5t.py_create(dtype.newbyteorder("<"), logical=True)


def is_bfloat16(dataset: h5py.Dataset) -> bool:
    """Whether a dataset has the type that `create_bfloat16` makes."""
    kind = dataset.id.get_type()
    return isinstance(kind, h5py.h5t.TypeFloatID) and kind == create_bfloat16()


def number_dtype(dataset: h5py.Dataset) -> np.dtype[Any]:
    """Return the element type of an array of numbers, in native byte order."""
    if is_bfloat16(dataset):
        return BFLOAT16
    dtype: np.dtype[Any] = dataset.dtype.newbyteorder("=")
    return dtype


def read_bits(dataset: h5py.Dataset, start: int, stop: int, out: np.ndarray[Any, Any]) -> None:
    """Read rows of bfloat16 as they are in the file, without a conversion."""
    rest = dataset.shape[1:]
    space = dataset.id.get_space()
    space.select_hyperslab((start, *(0 for _ in rest)), (stop - start, *rest))
    memory = h5py.h5s.create_simple((stop - start, *rest))
    dataset.id.read(memory, space, out.view(np.uint16), mtype=dataset.id.get_type())
