"""One minibatch at several checkpoints: the same samples, the same layers, whole activations."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.observer import Silent
from cnatool._util.threads import prefetch
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.beta import activation_sums, aggregated, slope_coefficients
from cnatool.scoring.alpha import split_alpha
from cnatool.scoring.split import named_split
from cnatool.scoring.split_selection import range_advice, scored_parts
from cnatool.scoring.train_test import TRAIN
from cnatool.store.integrity import combine_digests
from cnatool.studying.statistics.plane import centred_products

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.split_selection import ScoredParts
    from cnatool.store.store import Split, Store
    from cnatool.store.stored_array import StoredArray
    from cnatool.studying.omissions import Omissions

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
    numbers : list of int
        Which of the given stores the checkpoints are.
    splits : list of Split
        The split at each checkpoint.
    layers : list of ScoredLayer
        The layers that β is over.
    alpha : (n,) float64 array
        α of each sample.
    """

    split: str
    fingerprint: str
    numbers: list[int]
    splits: list[Split]
    layers: list[ScoredLayer]
    alpha: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """Activations of all layers and samples together."""
        return len(self.alpha) * sum(math.prod(layer.tensor.shape) for layer in self.layers)


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A store that could be of the same network over the same data as others."""

    number: int
    split: Split
    parts: ScoredParts

    def described(self) -> dict[str, object]:
        """Give what is the same at all checkpoints of one network over the same data."""
        record = self.split.store.record
        layers = self.parts.layers
        return {
            "layers": [(one.tensor.name, one.tensor.shape, one.depth) for one in layers],
            "inputs": record.inputs,
            "preprocessing": record.preprocessing,
        }


def same_minibatch(
    stores: Mapping[int, Store],
    name: str | None,
    samples: int,
    fields: ConventionFields,
    omissions: Omissions,
) -> Minibatch:
    """Find the first samples of a split in all stores, and make sure that they are the same."""
    found = []
    for number, store in stores.items():
        with omissions.catching(store.path):
            found.append(_checkpoint(number, store, name, samples, fields))
    if not found:
        raise omissions.too_few("no store holds activations for a landscape")
    found = _alike(found, [one.described() for one in found], _other_network, omissions)
    while True:
        rows = min(samples, *(len(one.split) for one in found))
        digests = []
        readable = []
        for one in found:
            with omissions.catching(one.split.path):
                digests.append(_fingerprint(one.split, rows))
                readable.append(one)
        if not readable:
            raise omissions.too_few("the inputs of no store can be read")
        found = _alike(readable, digests, partial(_other_samples, rows), omissions)
        # A store that was left out may have been the shortest.
        if rows == min(samples, *(len(one.split) for one in found)):
            break
    first = found[0]
    with named_split(first.split):
        slope_coefficients([layer.depth for layer in first.parts.layers])
    with range_advice(first.parts), named_split(first.split):
        alpha = split_alpha(first.split, fields, Silent(), rows)
    return Minibatch(
        first.split.name,
        digests[readable.index(first)],
        [one.number for one in found],
        [one.split for one in found],
        first.parts.layers,
        alpha,
    )


def _checkpoint(
    number: int, store: Store, name: str | None, samples: int, fields: ConventionFields
) -> _Checkpoint:
    split = _split(store, name)
    if not split.record.complete and len(split) < min(samples, split.record.rows):
        raise MetricError(
            f"{store.path} is not finished: split {split.name} has {len(split)} of "
            f"{split.record.rows} rows. The same dump with --resume goes on."
        )
    parts = scored_parts(store, None, fields)
    for layer in parts.layers:
        if layer.tensor.varies:
            raise MetricError(
                f"{store.path}: the shape of layer {layer.tensor.name!r} depends on the data, and "
                "a landscape needs as many activations at each checkpoint."
            )
        # Refuses where only statistics are stored, and says what would help.
        split.activations(layer.tensor.name)
    return _Checkpoint(number, split, parts)


def _split(store: Store, name: str | None) -> Split:
    if name is None:
        name = next(iter(store.splits)) if len(store.splits) == 1 else TRAIN
    if name not in store.splits:
        raise UsageError(
            f"--split {name}: {store.path} has no such split; it has "
            f"{', '.join(store.splits) or 'none'}."
        )
    return store.splits[name]


def _alike(
    checkpoints: Sequence[_Checkpoint],
    kinds: Sequence[object],
    difference: Callable[[_Checkpoint, _Checkpoint], MetricError],
    omissions: Omissions,
) -> list[_Checkpoint]:
    """Keep the checkpoints of the kind that most are of; without a majority none is right."""
    groups: list[tuple[object, list[_Checkpoint]]] = []
    for one, kind in zip(checkpoints, kinds, strict=True):
        group = next((some for other, some in groups if other == kind), None)
        if group is None:
            groups.append((kind, [one]))
        else:
            group.append(one)
    most, *others = sorted((some for _, some in groups), key=len, reverse=True)
    if others and len(others[0]) == len(most):
        raise difference(most[0], others[0][0])
    kept = {one.number for one in most}
    for one in checkpoints:
        if one.number not in kept:
            omissions.add(one.split.path, difference(most[0], one))
    return most


def _other_network(one: _Checkpoint, other: _Checkpoint) -> MetricError:
    there = other.described()
    what = next(name for name, value in one.described().items() if value != there[name])
    return MetricError(
        f"{one.split.path} and {other.split.path} are no checkpoints of one network over the same "
        f"data: their {what} are not the same."
    )


def _other_samples(rows: int, one: _Checkpoint, other: _Checkpoint) -> MetricError:
    return MetricError(
        f"{one.split.path} and {other.split.path} do not hold the same first {rows} samples in "
        f"split {other.split.name}, and a landscape is of one minibatch. Dump both over the same "
        "data."
    )


def usable(minibatch: Minibatch, omissions: Omissions) -> Minibatch:
    """Keep the checkpoints whose activations can be read and are finite."""
    kept = []
    for place, split in enumerate(minibatch.splits):
        with omissions.catching(split.path):
            for layer in minibatch.layers:
                _check_finite(split, layer, len(minibatch.alpha))
            kept.append(place)
    return replace(
        minibatch,
        numbers=[minibatch.numbers[place] for place in kept],
        splits=[minibatch.splits[place] for place in kept],
    )


def _fingerprint(split: Split, rows: int) -> str:
    digests = []
    for number in range(len(split.store.record.inputs)):
        digest = hashlib.sha256()
        for start, block in split.inputs(number).blocks():
            digest.update(np.ascontiguousarray(block[: rows - start]).data)
            if start + len(block) >= rows:
                break
        digests.append(digest)
    return combine_digests(digests)


def gathered(
    minibatch: Minibatch, fields: ConventionFields, observer: Observer
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the activations of all checkpoints once: products of the checkpoints, and their β."""
    splits, rows = minibatch.splits, len(minibatch.alpha)
    gram = np.zeros((len(splits), len(splits)))
    beta = np.zeros((len(splits), rows))
    done = 0
    coefficients = slope_coefficients([layer.depth for layer in minibatch.layers])
    for layer, coefficient in zip(minibatch.layers, coefficients, strict=True):
        sums = np.zeros_like(beta)
        arrays = [split.activations(layer.tensor.name) for split in splits]
        for start, block in prefetch(_blocks(arrays, rows)):
            checkpoints, some, columns = block.shape
            flat = block.reshape(checkpoints * some, columns)
            sums[:, start : start + some] += activation_sums(flat).reshape(checkpoints, some)
            products = centred_products(block.reshape(checkpoints, some * columns))
            if not np.isfinite(products).all():
                for split in splits:
                    _check_finite(split, layer, rows)
                raise MetricError(
                    f"the activations of layer {layer.tensor.name!r} are too large to square."
                )
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


def _check_finite(split: Split, layer: ScoredLayer, rows: int) -> None:
    for start, block in split.activations(layer.tensor.name).blocks():
        if start >= rows:
            break
        broken = ~np.isfinite(block[: rows - start].reshape(min(len(block), rows - start), -1))
        if broken.any():
            raise MetricError(
                f"{split.path}, split {split.name!r}: the activations of layer "
                f"{layer.tensor.name!r} are not finite for sample row "
                f"{start + int(broken.any(axis=1).argmax())}, so this checkpoint has no place in a "
                "plane."
            )
