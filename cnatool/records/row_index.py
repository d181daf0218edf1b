"""The record of what says which sample each row of a tensor is of."""

from __future__ import annotations

import msgspec


class RowIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What says which sample each row of a tensor is of, in a run of several samples.

    Attributes
    ----------
    tensor : str
        Name of a tensor with as many rows, one number of which is the place of a sample in the
        batch: the tensor itself, or another one of the graph.
    column : int or None
        The column that holds this number; null if the tensor has one axis.
    places : tuple of int
        Columns of the rows themselves that hold the place in the batch. They are 0 in the store, as
        in a run of one sample.
    """

    tensor: str
    column: int | None
    places: tuple[int, ...] = ()
