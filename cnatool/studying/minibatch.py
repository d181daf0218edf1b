"""One minibatch at several checkpoints: the same samples, the same layers, whole activations."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool.errors import MetricError, UsageError
from cnatool.metrics.beta import activation_sums, aggregated, slope_coefficients
from cnatool.observing import Silent
from cnatool.pipeline import prefetched
from cnatool.scored_inputs import split_alpha
from cnatool.scored_pairs import TRAIN
from cnatool.scored_parts import range_advice, scored_parts
from cnatool.scored_splits import named_split
from cnatool.store.fingerprint import fingerprint
from cnatool.studying.plane import centred_products

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention
    from cnatool.observing import Observer
    from cnatool.scored_layers import ScoredLayer
    from cnatool.store.reader import Split, Store, StoredArray

__all__ = ["Minibatch", "gathered", "same_minibatch"]

_ACTIVATIONS = "activations"
# Values of all checkpoints in one block, of which up to four are in memory: 64 MiB each.
_BLOCK_VALUES = 8 << 20


@dataclass(frozen=True, slots=True)
class Minibatch:
    """The first samples of a split, the same at all checkpoints.

    Attributes
    ----------
    split : str
        The split's name.
    fingerprint : str
        SHA-256 over the SHA-256 digests of each raw input's bytes, of these samples.
    splits : list of Split
        The split at each checkpoint.
    layers : list of ScoredLayer
        The layers that β is over.
    alpha : (n,) float64 array
        α of each sample.
    """

    split: str
    fingerprint: str
    splits: list[Split]
    layers: list[ScoredLayer]
    alpha: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """Activations of all layers and samples together."""
        return len(self.alpha) * sum(math.prod(layer.tensor.shape) for layer in self.layers)


def same_minibatch(
    stores: Sequence[Store], name: str | None, samples: int, fields: Convention
) -> Minibatch:
    """Find the first samples of a split in all stores, and make sure that they are the same.

    Parameters
    ----------
    stores : sequence of Store
        The checkpoints.
    name : str or None
        The split; by default ``train``, or the only one.
    samples : int
        How many; fewer where a store has fewer.
    fields : Convention

    Raises
    ------
    UsageError
        If there is no such split.
    MetricError
        If a store holds other samples, other layers, or no whole activations.
    DataError
        If inputs lie outside the histogram's range.
    """
    splits = [_split(store, name) for store in stores]
    parts = scored_parts(stores[0], None, fields)
    layers = parts.layers
    depths = [layer.depth for layer in layers]
    with named_split(splits[0]):
        slope_coefficients(depths)
    for split in splits:
        _check_layers(split, layers, scored_parts(split.store, None, fields).layers, splits[0])
    rows = min(samples, *map(len, splits))
    with range_advice(parts), named_split(splits[0]):
        alpha = split_alpha(splits[0], fields, Silent(), rows)
    return Minibatch(splits[0].name, _check_samples(splits, rows), splits, layers, alpha)


def _split(store: Store, name: str | None) -> Split:
    if name is None:
        name = next(iter(store.splits)) if len(store.splits) == 1 else TRAIN
    if name not in store.splits:
        raise UsageError(
            f"--split {name}: {store.path} has no such split; it has "
            f"{', '.join(store.splits) or 'none'}."
        )
    return store.splits[name]


def _check_layers(
    split: Split, layers: Sequence[ScoredLayer], here: Sequence[ScoredLayer], first: Split
) -> None:
    described = [
        [(layer.tensor.name, layer.tensor.shape, layer.depth) for layer in some]
        for some in (layers, here)
    ]
    for what, same in (
        ("layers", described[0] == described[1]),
        ("inputs", split.store.record.inputs == first.store.record.inputs),
        ("preprocessing", split.store.record.preprocessing == first.store.record.preprocessing),
    ):
        if not same:
            raise MetricError(
                f"{first.path} and {split.path} are no checkpoints of one network over the same "
                f"data: their {what} are not the same."
            )
    for layer in here:
        if layer.tensor.varies:
            raise MetricError(
                f"{split.path}: the shape of layer {layer.tensor.name!r} depends on the data, and "
                "a landscape needs as many activations at each checkpoint."
            )
        # Refuses where only statistics are stored, and says what would help.
        split.activations(layer.tensor.name)


def _check_samples(splits: Sequence[Split], rows: int) -> str:
    """Give the fingerprint that the first rows have in all stores."""
    first = _fingerprint(splits[0], rows)
    for split in splits[1:]:
        if _fingerprint(split, rows) != first:
            raise MetricError(
                f"{splits[0].path} and {split.path} do not hold the same first {rows} samples in "
                f"split {split.name}, and a landscape is of one minibatch. Dump both over the same "
                "data."
            )
    return first


def _fingerprint(split: Split, rows: int) -> str:
    digests = []
    for number in range(len(split.store.record.inputs)):
        digest = hashlib.sha256()
        for start, block in split.inputs(number).blocks():
            digest.update(np.ascontiguousarray(block[: rows - start]).data)
            if start + len(block) >= rows:
                break
        digests.append(digest)
    return fingerprint(digests)


def gathered(
    minibatch: Minibatch, fields: Convention, observer: Observer
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the activations of all checkpoints once: products of the checkpoints, and their β.

    Parameters
    ----------
    minibatch : Minibatch
    fields : Convention
        Its field ``aggregate``.
    observer : Observer
        Told of the progress.

    Returns
    -------
    gram : (K, K) float64 array
        Products of the K checkpoints' vectors, all activations of all layers, from their mean.
    beta : (K, n) float64 array
        β of each sample at each checkpoint. A sum or a mean of a layer's activations, and so β, is
        linear in them.

    Raises
    ------
    MetricError
        If an activation is not finite.
    """
    splits, rows = minibatch.splits, len(minibatch.alpha)
    gram = np.zeros((len(splits), len(splits)))
    beta = np.zeros((len(splits), rows))
    done = 0
    coefficients = slope_coefficients([layer.depth for layer in minibatch.layers])
    for layer, coefficient in zip(minibatch.layers, coefficients, strict=True):
        sums = np.zeros_like(beta)
        arrays = [split.activations(layer.tensor.name) for split in splits]
        for start, block in prefetched(_blocks(arrays, rows)):
            checkpoints, some, columns = block.shape
            flat = block.reshape(checkpoints * some, columns)
            sums[:, start : start + some] += activation_sums(flat).reshape(checkpoints, some)
            products = centred_products(block.reshape(checkpoints, some * columns))
            if not np.isfinite(products).all():
                raise _not_finite(splits, layer)
            gram += products
            done += some * columns
            observer.progress(_ACTIVATIONS, done, minibatch.dimension)
        beta += coefficient * aggregated(sums, layer.tensor.shape, fields.aggregate)
    return gram, beta


def _blocks(arrays: Sequence[StoredArray], rows: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Give ``(first row, values)`` of all arrays, (K, rows, columns); whole rows if they fit."""
    width = math.prod(arrays[0].shape[1:])
    most = max(1, _BLOCK_VALUES // len(arrays))
    step = max(1, most // max(1, width))
    chunk = max(array.chunk_rows for array in arrays)
    if step > chunk:
        # A chunk is decompressed as a whole.
        step = step // chunk * chunk
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        for left in range(0, width, most):
            right = min(left + most, width)
            block = np.empty((len(arrays), stop - start, right - left))
            for place, array in enumerate(arrays):
                block[place] = array[start:stop].reshape(stop - start, width)[:, left:right]
            yield start, block


def _not_finite(splits: Sequence[Split], layer: ScoredLayer) -> MetricError:
    for split in splits:
        for start, block in split.activations(layer.tensor.name).blocks():
            broken = ~np.isfinite(block.reshape(len(block), -1)).all(axis=1)
            if broken.any():
                return MetricError(
                    f"{split.path}, split {split.name!r}: the activations of layer "
                    f"{layer.tensor.name!r} are not finite for sample row "
                    f"{start + int(broken.argmax())}. Leave this checkpoint out."
                )
    return MetricError(f"the activations of layer {layer.tensor.name!r} are too large to square.")
