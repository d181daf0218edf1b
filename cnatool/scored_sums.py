"""z_d of each sample and layer of a split: from stored sums, or from whole activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool.errors import MetricError
from cnatool.metrics.beta import activation_sums, aggregated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention
    from cnatool.scored_layers import ScoredLayer
    from cnatool.store.reader import Split
    from cnatool.store.stored_array import StoredArray

__all__ = ["magnitude_blocks", "z_blocks"]

# Rows of whole activations that tell how large their elements are.
_ROWS = 64
# Sums of all layers that are held at a time. Each layer is read in chunks of its own.
_SUM_BYTES = 64 << 20


def z_blocks(
    split: Split, layers: Sequence[ScoredLayer], fields: Convention
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Give ``(first row, z)`` in order, z of shape (rows, L).

    Parameters
    ----------
    split : Split
    layers : sequence of ScoredLayer
        One a column.
    fields : Convention
        Its field ``aggregate``.

    Raises
    ------
    MetricError
        If ``aggregate`` is not defined for a layer.
    """
    varying = [layer for layer in layers if layer.tensor.varies and fields.aggregate != "sum"]
    if varying and (fields.aggregate != "mean" or not split.has_statistic("count")):
        raise MetricError(
            f"the shape of layer {varying[0].tensor.name!r} depends on the data, so "
            f"aggregate={fields.aggregate} is not defined for it: --set aggregate=sum."
        )
    for start, z in _sums(split, layers):
        _aggregate(split, layers, fields, start, z)
        yield start, z


def magnitude_blocks(
    split: Split, layers: Sequence[ScoredLayer], fields: Convention
) -> Iterator[NDArray[np.float64]]:
    """Give what z would be of the elements' absolute values, (rows, L); nothing where unknown.

    Of all rows where the store has their ``abs_sum``, else of the first rows of whole activations,
    else one row, of the samples that the model was probed with. Parameters are those of `z_blocks`,
    which comes first.
    """
    probed = dict(enumerate(split.store.record.magnitudes))
    magnitudes = [probed.get(layer.tensor.number) for layer in layers]
    if split.has_statistic("abs_sum"):
        columns = [layer.tensor.number for layer in layers]
        for start, block in split.statistics("abs_sum").blocks():
            sums = block[:, columns]
            _aggregate(split, layers, fields, start, sums)
            yield sums
    elif all(layer.tensor.stored or layer.tensor.output is not None for layer in layers):
        heads = [split.activations(layer.tensor.name)[:_ROWS] for layer in layers]
        # In float64, as float16 would overflow, and the least int8 has no absolute value.
        sums = np.stack([activation_sums(np.abs(x.astype(np.float64))) for x in heads], axis=1)
        _aggregate(split, layers, fields, 0, sums)
        yield sums
    elif None not in magnitudes:
        sums = np.array([magnitudes], np.float64)
        _aggregate(split, layers, fields, 0, sums)
        yield sums


def _aggregate(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: Convention,
    start: int,
    sums: NDArray[np.float64],
) -> None:
    """Turn sums over elements, in place, into what the convention's ``aggregate`` is."""
    for column, layer in enumerate(layers):
        if layer.tensor.varies and fields.aggregate == "mean":
            counts = split.statistics("count")[start : start + len(sums)]
            sums[:, column] /= np.maximum(counts[:, layer.tensor.number], 1)
        elif not layer.tensor.varies:
            sums[:, column] = aggregated(sums[:, column], layer.tensor.shape, fields.aggregate)


def _sums(split: Split, layers: Sequence[ScoredLayer]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Give the sums over each layer's elements, as `z_blocks` does."""
    if split.has_statistic("sum"):
        columns = [layer.tensor.number for layer in layers]
        for start, block in split.statistics("sum").blocks():
            yield start, block[:, columns]
        return
    arrays = [split.activations(layer.tensor.name) for layer in layers]
    rows = len(split)
    step = _rows_of_sums(arrays)
    for start in range(0, rows, step):
        z = np.empty((min(step, rows - start), len(layers)))
        for column, array in enumerate(arrays):
            for first, block in array.blocks(start, start + len(z)):
                z[first - start : first - start + len(block), column] = activation_sums(block)
        yield start, z


def _rows_of_sums(arrays: Sequence[StoredArray]) -> int:
    """Give the rows of which sums are held: those of some megabytes, in chunks that all end."""
    rows = max(1, _SUM_BYTES // (8 * max(1, len(arrays))))
    chunk = max((array.chunk_rows for array in arrays), default=1)
    return rows // chunk * chunk or rows
