"""Principal components of rows that fit into memory, exact in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cnatool._util.products import multiply
from cnatool._util.text import count_text
from cnatool.errors import DataError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

# Bytes of the float64 copy of some columns.
_BLOCK_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class FittedComponents:
    """The mean and the principal components of n rows of D numbers.

    Attributes
    ----------
    mean : ndarray, (D,) float64
    components : ndarray, (K, D) float64
        Unit vectors in the order of their variance; the element of each that is largest in absolute
        value is positive, as in scikit-learn.
    explained : ndarray, (K,) float64
        Variance along each, over n − 1.
    variance : float
        Sum of the variances of all D numbers.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    explained: NDArray[np.float64]
    variance: float


def fit_components(rows: NDArray[Any], size: int) -> FittedComponents:
    """Compute the first principal components of rows.

    The eigenvectors are those of the covariance, (D, D), or, with fewer rows than columns, of the
    products of rows, (n, n), from which the components follow.

    Parameters
    ----------
    rows : ndarray, (n, D)
    size : int
        How many components, at most n − 1 and D.

    Raises
    ------
    DataError
        If rows are not finite, or vary along fewer directions.
    """
    count, elements = rows.shape
    step = max(1, _BLOCK_BYTES // (8 * count))
    mean = np.empty(elements)
    for start in range(0, elements, step):
        mean[start : start + step] = rows[:, start : start + step].mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise DataError(
            "values are NaN or infinite, and have no principal components. Leave out such samples."
        )
    if elements <= count:
        centred = rows.astype(np.float64) - mean
        products = multiply(centred.T, centred)
        values, vectors = np.linalg.eigh(products)
        chosen = vectors[:, ::-1][:, :size].T
    else:
        products = np.zeros((count, count))
        for start in range(0, elements, step):
            part = rows[:, start : start + step].astype(np.float64) - mean[start : start + step]
            products += multiply(part, part.T)
        values, vectors = np.linalg.eigh(products)
        chosen, turned = np.empty((size, elements)), vectors[:, ::-1][:, :size].T
        for start in range(0, elements, step):
            part = rows[:, start : start + step].astype(np.float64) - mean[start : start + step]
            chosen[:, start : start + step] = multiply(turned, part)
    values = values[::-1]
    if values[0] <= 0 or values[size - 1] <= values[0] * max(rows.shape) * np.finfo(float).eps:
        directions = int((values > max(0.0, values[0]) * max(rows.shape) * 2e-16).sum())
        raise DataError(
            f"{count:,} samples vary along {count_text(directions, 'direction')} only, fewer than "
            f"{size}. Take fewer components."
        )
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    largest = np.abs(chosen).argmax(axis=1)
    chosen *= np.sign(chosen[np.arange(size), largest])[:, None]
    explained = values[:size] / (count - 1)
    return FittedComponents(mean, chosen, explained, float(np.trace(products)) / (count - 1))
