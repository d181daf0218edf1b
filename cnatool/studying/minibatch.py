"""The activations of one minibatch at several checkpoints of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.observer import Silent
from cnatool._util.threads import prefetch
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.beta import aggregate, slope_coefficients, sum_activations
from cnatool.scoring.alpha import compute_alpha
from cnatool.scoring.split import locate_errors
from cnatool.scoring.split_selection import select_splits, suggest_range
from cnatool.scoring.train_test import TRAIN
from cnatool.store.integrity import RowsDigest, combine_digests
from cnatool.store.missing_rows import check_has_rows, explain_missing_rows
from cnatool.store.ragged import RaggedArray, as_plain
from cnatool.studying.statistics.plane import centred_gram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.split_selection import SelectedSplits
    from cnatool.store.store import Split, Store
    from cnatool.store.stored_array import StoredArray
    from cnatool.studying.omissions import Omissions

_ACTIVATIONS = "activations"
# Values of all checkpoints in one block, 64 MiB; up to four blocks are in memory.
_BLOCK_VALUES = 8 << 20


@dataclass(frozen=True, slots=True)
class Minibatch:
    """The first n samples of a split, the same at all checkpoints."""

    split: str
    fingerprint: str  # SHA-256 over the SHA-256 digest of each raw input's bytes
    numbers: list[int]  # index of each checkpoint's store
    splits: list[Split]  # of each checkpoint
    layers: list[ScoredLayer]  # behind β
    alpha: NDArray[np.float64]  # (n,)

    @property
    def dimension(self) -> int:
        """Activations of all layers and samples together."""
        return len(self.alpha) * sum(math.prod(layer.tensor.shape) for layer in self.layers)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A store that may belong to the same network and data as others."""

    number: int
    split: Split
    parts: SelectedSplits

    def describe(self) -> dict[str, object]:
        """Return what all checkpoints of one network over the same data have in common."""
        record = self.split.store.record
        layers = self.parts.layers
        return {
            "layers": [(layer.tensor.name, layer.tensor.shape, layer.depth) for layer in layers],
            "inputs": record.inputs,
            "preprocessing": record.preprocessing,
        }


def select_minibatch(
    stores: Mapping[int, Store],
    name: str | None,
    samples: int,
    fields: ConventionFields,
    omissions: Omissions,
) -> Minibatch:
    """Select the first samples of a split; leave out stores of other networks or other samples."""
    candidates = []
    for number, store in stores.items():
        with omissions.catch(store.path):
            candidates.append(_open_candidate(number, store, name, samples, fields))
    if not candidates:
        raise omissions.too_few("no store holds activations for a landscape")
    descriptions = [candidate.describe() for candidate in candidates]
    candidates = _keep_majority(candidates, descriptions, _network_error, omissions)
    while True:
        rows = min(samples, *(len(candidate.split) for candidate in candidates))
        digests = []
        readable = []
        for candidate in candidates:
            with omissions.catch(candidate.split.path):
                digests.append(_hash_inputs(candidate.split, rows))
                readable.append(candidate)
        if not readable:
            raise omissions.too_few("the inputs of no store can be read")
        candidates = _keep_majority(readable, digests, partial(_samples_error, rows), omissions)
        # A store that was left out may have been the shortest.
        if rows == min(samples, *(len(candidate.split) for candidate in candidates)):
            break
    first = candidates[0]
    with locate_errors(first.split):
        slope_coefficients([layer.depth for layer in first.parts.layers])
    with suggest_range(first.parts, fields), locate_errors(first.split):
        alpha = compute_alpha(first.split, fields, Silent(), rows)
    return Minibatch(
        first.split.name,
        digests[readable.index(first)],
        [candidate.number for candidate in candidates],
        [candidate.split for candidate in candidates],
        first.parts.layers,
        alpha,
    )


def _open_candidate(
    number: int, store: Store, name: str | None, samples: int, fields: ConventionFields
) -> _Candidate:
    check_has_rows(store)
    split = _select_split(store, name)
    if not split.record.complete and len(split) < min(samples, split.record.rows):
        raise MetricError(explain_missing_rows(store))
    parts = select_splits(store, None, fields)
    for layer in parts.layers:
        if layer.tensor.varies:
            raise MetricError(
                f"{store.path}: the shape of layer {layer.tensor.name!r} depends on the data, but "
                "a landscape needs layers that have one shape for all samples."
            )
        # Raises an error with advice where only statistics are stored.
        split.activations(layer.tensor.name)
    return _Candidate(number, split, parts)


def _select_split(store: Store, name: str | None) -> Split:
    if name is None:
        name = next(iter(store.splits)) if len(store.splits) == 1 else TRAIN
    if name not in store.splits:
        raise UsageError(
            f"`split` {name}: {store.path} has no such split; it has "
            f"{', '.join(store.splits) or 'none'}."
        )
    return store.splits[name]


def _keep_majority(
    candidates: Sequence[_Candidate],
    kinds: Sequence[object],
    error: Callable[[_Candidate, _Candidate], MetricError],
    omissions: Omissions,
) -> list[_Candidate]:
    """Keep the candidates of the most frequent kind; raise the error if two are as frequent."""
    groups: list[tuple[object, list[_Candidate]]] = []
    for candidate, kind in zip(candidates, kinds, strict=True):
        group = next((members for other, members in groups if other == kind), None)
        if group is None:
            groups.append((kind, [candidate]))
        else:
            group.append(candidate)
    majority, *others = sorted((members for _, members in groups), key=len, reverse=True)
    if others and len(others[0]) == len(majority):
        raise error(majority[0], others[0][0])
    kept = {candidate.number for candidate in majority}
    for candidate in candidates:
        if candidate.number not in kept:
            omissions.add(candidate.split.path, error(majority[0], candidate))
    return majority


def _network_error(first: _Candidate, second: _Candidate) -> MetricError:
    a, b = first.describe(), second.describe()
    field = next(name for name, value in a.items() if value != b[name])
    return MetricError(
        f"{first.split.path} and {second.split.path} are not checkpoints of one network over the "
        f"same data: their {field} differ."
    )


def _samples_error(rows: int, first: _Candidate, second: _Candidate) -> MetricError:
    return MetricError(
        f"{first.split.path} and {second.split.path} do not hold the same first {rows} samples in "
        f"split {second.split.name}, but a landscape needs one minibatch. Dump both over the same "
        "data."
    )


def drop_unusable(minibatch: Minibatch, omissions: Omissions) -> Minibatch:
    """Leave out the checkpoints whose activations cannot be read or are not finite."""
    kept = []
    for place, split in enumerate(minibatch.splits):
        with omissions.catch(split.path):
            for layer in minibatch.layers:
                _check_finite(split, layer, len(minibatch.alpha))
            kept.append(place)
    return replace(
        minibatch,
        numbers=[minibatch.numbers[place] for place in kept],
        splits=[minibatch.splits[place] for place in kept],
    )


def _hash_inputs(split: Split, rows: int) -> str:
    """Compute the fingerprint of the first rows of a split's raw inputs."""
    digests = []
    for number in range(len(split.store.record.inputs)):
        array = split.inputs(number)
        digest = RowsDigest(ragged=isinstance(array, RaggedArray))
        for start, block in array.blocks():
            digest.update(block[: rows - start])
            if start + len(block) >= rows:
                break
        digests.append(digest)
    return combine_digests(digests)


def read_minibatch(
    minibatch: Minibatch, fields: ConventionFields, observer: Observer
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the activations of K checkpoints once.

    Returns
    -------
    (K, K) float64 array
        Gram matrix of the centred checkpoints.
    (K, n) float64 array
        β of each sample at each checkpoint.
    """
    splits, rows = minibatch.splits, len(minibatch.alpha)
    gram = np.zeros((len(splits), len(splits)))
    beta = np.zeros((len(splits), rows))
    done = 0
    coefficients = slope_coefficients([layer.depth for layer in minibatch.layers])
    for layer, coefficient in zip(minibatch.layers, coefficients, strict=True):
        sums = np.zeros_like(beta)
        arrays = [as_plain(split.activations(layer.tensor.name)) for split in splits]
        for start, block in prefetch(_read_blocks(arrays, rows)):
            checkpoints, count, columns = block.shape
            flat = block.reshape(checkpoints * count, columns)
            sums[:, start : start + count] += sum_activations(flat).reshape(checkpoints, count)
            products = centred_gram(block.reshape(checkpoints, count * columns))
            if not np.isfinite(products).all():
                for split in splits:
                    _check_finite(split, layer, rows)
                raise MetricError(
                    f"the activations of layer {layer.tensor.name!r} are too large to square."
                )
            gram += products
            done += count * columns
            observer.progress(_ACTIVATIONS, done, minibatch.dimension)
        beta += coefficient * aggregate(sums, layer.tensor.shape, fields.aggregate)
    return gram, beta


def _read_blocks(
    arrays: Sequence[StoredArray], rows: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (first row, values), (K, rows, columns), of K arrays; whole rows where they fit."""
    width = math.prod(arrays[0].shape[1:])
    most = max(1, _BLOCK_VALUES // len(arrays))
    step = max(1, most // max(1, width))
    chunk = max(array.chunk_rows for array in arrays)
    if step > chunk:
        # Chunks are decompressed whole.
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
    for start, block in as_plain(split.activations(layer.tensor.name)).blocks():
        if start >= rows:
            break
        nonfinite = ~np.isfinite(block[: rows - start].reshape(min(len(block), rows - start), -1))
        if nonfinite.any():
            raise MetricError(
                f"{split.path}, split {split.name!r}: the activations of layer "
                f"{layer.tensor.name!r} are not finite for sample row "
                f"{start + int(nonfinite.any(axis=1).argmax())}, so this checkpoint has no place "
                "in a plane."
            )
