"""What a run returned of a tensor, as rows of samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.names import exclusion
from cnatool._util.text import count_text
from cnatool.backend.probe.row_index import clear_columns, read_places
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.errors import BackendError
from cnatool.records.layout import ragged_axis
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cnatool.records.ragged import Rows
    from cnatool.records.row_index import RowIndex
    from cnatool.records.store import TensorRecord


def read_rows(tensor: TensorRecord, fetched: Mapping[str, NDArray[Any]], samples: int) -> Rows:
    """Return the values of each sample, (n, …), from what a run returned by name.

    They are ragged where the samples of a tensor differ in length. BackendError if the values are
    not those of so many samples, or not of the shape that the first ones had.
    """
    if tensor.index:
        return _divide(tensor, tensor.index, fetched, samples)
    return _samples_first(tensor, fetched[tensor.name], samples)


def _divide(
    tensor: TensorRecord, index: RowIndex, fetched: Mapping[str, NDArray[Any]], samples: int
) -> Ragged:
    """Divide rows such as detections among the samples that they are of."""
    rows = fetched[tensor.name]
    places = read_places(fetched[index.tensor], index.column, samples)
    if places is None or len(places) != len(rows):
        raise BackendError(
            f"{index.tensor!r} does not say to which of {count_text(samples, 'sample')} each row "
            f"of tensor {tensor.name!r} belongs, though it did in the first batch. Leave it out "
            f"with {exclusion(tensor.name)}, or use `batch_size=1`."
        )
    if rows.shape[1:] != tensor.shape[1:]:
        raise BackendError(
            f"tensor {tensor.name!r} has rows of shape {rows.shape[1:]}, and had "
            f"{tensor.shape[1:]} in the first batch. Leave it out with "
            f"{exclusion(tensor.name)}."
        )
    rows = clear_columns(rows, index.places)[np.argsort(places, kind="stable")]
    return Ragged.from_lengths(rows, np.bincount(places, minlength=samples))


def _samples_first(tensor: TensorRecord, value: NDArray[Any], samples: int) -> Rows:
    """Return the values of each sample, (n, …)."""
    along = ragged_axis(tensor)
    rest = [size for place, size in enumerate(tensor.shape) if place != along]
    if along is not None and not value.size and 0 not in rest:
        # A branch that is not taken, or a loop without iterations, leaves no other axis its length.
        empty = np.empty((0, *rest), value.dtype)
        return Ragged.from_lengths(empty, np.zeros(samples, np.int64), along)
    axis = SampleAxis.of(tensor.shape, tensor.batch_axis, tensor.merged)
    if tensor.varies and axis.merged is not None and axis.axis is not None:
        # The samples of a run are of one length, but not all runs are.
        axis = replace(axis, factor=value.shape[axis.axis] // samples)
    if not axis.holds(value.shape, samples):
        raise BackendError(
            f"tensor {tensor.name!r} has shape {value.shape} for "
            f"{count_text(samples, 'sample')}, and had "
            f"{tensor.shape} a sample in the first batch. Leave it out with "
            f"{exclusion(tensor.name)}, or choose another `batch_size`."
        )
    value = axis.samples_first(value, samples)
    if along is not None and value.ndim == 1:
        value = value[:, None]
    if along is not None and value.ndim == len(tensor.shape) + 1:
        value = np.moveaxis(value, along + 1, 1)
        if list(value.shape[2:]) == rest:
            lengths = np.full(samples, value.shape[1])
            return Ragged.from_lengths(value.reshape(lengths.sum(), *rest), lengths, along)
        value = np.moveaxis(value, 1, along + 1)
    if tensor.varies and along is None:
        return value  # it is summed, not stored
    if value.shape[1:] != tensor.shape:
        raise BackendError(
            f"tensor {tensor.name!r} has shape {value.shape[1:]} for a sample, and had "
            f"{tensor.shape} in the first batch: its shape depends on the data. "
            f"Leave it out with {exclusion(tensor.name)}."
        )
    return value
