"""The mean and the components of tensors that were reduced to principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cnatool.errors import MetricError, StoreDamagedError
from cnatool.records.layout import reduction_key
from cnatool.store.integrity import digest_components

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.records.store import TensorRecord
    from cnatool.store.format import ReadableArray


class ReadableStore(Protocol):
    """What is read here of an open store."""

    path: Path

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """The stored tensors."""

    def tensor(self, name: str) -> TensorRecord:
        """Return the record of a tensor."""

    def common_array(self, key: str) -> ReadableArray:
        """Open an array that belongs to all splits."""


# Largest difference of components that are the same but for rounding, relative to the largest.
_CLOSE = 1e-5


def read_components(
    store: ReadableStore, tensor: TensorRecord
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean, (D,), and the components, (K, D), of a tensor of a store."""
    record = tensor.reduction and tensor.reduction.components
    if not record:
        raise MetricError(
            f"{store.path}: tensor {tensor.name!r} was not reduced to principal components. "
            "`dump(reduce={'GLOB': 'pca:K'})` does so."
        )
    assert tensor.reduction
    elements = tensor.reduction.elements
    mean = _read(store, reduction_key(tensor.number, "mean"), (elements,), tensor.dtype)
    shape = (*tensor.shape, elements)
    components = _read(store, reduction_key(tensor.number, "components"), shape, tensor.dtype)
    if digest_components(mean, components) != record.sha256.lower():
        key = reduction_key(tensor.number, "")
        raise StoreDamagedError(_damage(store, key.rstrip("/"), "is not what was stored"))
    return mean, components


def _read(store: ReadableStore, key: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    array = store.common_array(key)
    if (array.shape, array.dtype.name) != (shape, dtype):
        problem = f"is {array.shape} of {array.dtype} instead of {shape} of {dtype}"
        raise StoreDamagedError(_damage(store, key, problem))
    return np.asarray(array.read(0, shape[0]))


def _damage(store: ReadableStore, key: str, problem: str) -> str:
    return (
        f"{store.path}: array {key} {problem}. "
        "Dump again with `overwrite=True`, or restore the store from a copy."
    )


def read_all_components(store: ReadableStore) -> dict[str, NDArray[Any]]:
    """Return the means and components of all tensors, by their keys in the store."""
    arrays = {}
    for tensor in _projected(store):
        mean, components = read_components(store, tensor)
        arrays[reduction_key(tensor.number, "mean")] = mean
        arrays[reduction_key(tensor.number, "components")] = components
    return arrays


def component_keys(store: ReadableStore) -> list[str]:
    """List the keys of the arrays of means and components in a store."""
    return [
        reduction_key(tensor.number, name)
        for tensor in _projected(store)
        for name in ("mean", "components")
    ]


def find_other_components(store: ReadableStore, other: ReadableStore) -> str | None:
    """Return the first tensor whose components differ by more than rounding between stores."""
    for tensor in _projected(store):
        pairs = zip(
            read_components(store, tensor),
            read_components(other, other.tensor(tensor.name)),
            strict=True,
        )
        if not all(np.allclose(a, b, _CLOSE, _CLOSE * np.abs(a).max()) for a, b in pairs):
            return tensor.name
    return None


def find_component_faults(store: ReadableStore) -> Iterator[tuple[str, str]]:
    """Find components that cannot be read or are others: the group that has them, and why."""
    for tensor in _projected(store):
        try:
            read_components(store, tensor)
        except StoreDamagedError as error:
            yield reduction_key(tensor.number, "").rstrip("/"), str(error)


def _projected(store: ReadableStore) -> Iterator[TensorRecord]:
    return (t for t in store.tensors if t.reduction and t.reduction.components)
