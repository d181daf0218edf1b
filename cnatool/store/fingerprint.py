"""The fingerprint of a split's data: a digest an array, so that it does not depend on batches."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from hashlib import _Hash as Digest

    from numpy.typing import NDArray

    from cnatool.store.records import StoreRecord

__all__ = ["data_digests", "digest", "fingerprint"]


def data_digests(record: StoreRecord, *, labels: bool) -> list[Digest]:
    """Begin the fingerprint of a split: a digest for each raw input, then one for the labels."""
    return [hashlib.sha256() for _ in range(len(record.inputs) + labels)]


def digest(
    digests: Sequence[Digest],
    inputs: Sequence[NDArray[Any]],
    labels: NDArray[np.int64] | None,
) -> None:
    """Take the data of further rows into a fingerprint; parameters as of ``SplitWriter.append``."""
    data = (*inputs, *(() if labels is None else (labels,)))
    for one, value in zip(digests, data, strict=True):
        one.update(np.ascontiguousarray(value).data)


def fingerprint(digests: Sequence[Digest]) -> str:
    """Give the fingerprint of all that the digests took, in hexadecimal."""
    return hashlib.sha256(b"".join(one.digest() for one in digests)).hexdigest()
