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

__all__ = ["z_blocks"]


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
        for column, layer in enumerate(layers):
            if layer in varying:
                counts = split.statistics("count")[start : start + len(z)]
                z[:, column] /= np.maximum(counts[:, layer.tensor.number], 1)
            else:
                z[:, column] = aggregated(z[:, column], layer.tensor.shape, fields.aggregate)
        yield start, z


def _sums(split: Split, layers: Sequence[ScoredLayer]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Give the sums over each layer's elements, as `z_blocks` does."""
    if split.has_statistic("sum"):
        columns = [layer.tensor.number for layer in layers]
        for start, block in split.statistics("sum").blocks():
            yield start, block[:, columns]
        return
    # Each layer is read in chunks of its own, so that sums of all rows are what is left of them.
    z = np.empty((len(split), len(layers)))
    for column, layer in enumerate(layers):
        for start, block in split.activations(layer.tensor.name).blocks():
            z[start : start + len(block), column] = activation_sums(block)
    if len(z):
        yield 0, z
