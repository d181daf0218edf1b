"""Task performance from stored outputs (docs/metrics.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnatool.errors import DataError, MetricError
from cnatool.metrics.sums import find_row_extremes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

OutputKind = Literal["probabilities", "logits"]

# The smallest positive float32, which a probability counts as at least.
LEAST_PROBABILITY = float(np.finfo(np.float32).smallest_subnormal)


def predictions(outputs: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class with the greatest of (n, H) outputs, the first of equals, (n,).

    Raises `MetricError` for outputs that are not one score per class.
    """
    _check_scores(outputs)
    best: NDArray[np.int64] = outputs.argmax(axis=1).astype(np.int64)
    return best


def one_unit_scores(outputs: NDArray[Any], kind: OutputKind) -> NDArray[np.float64]:
    """Return scores of both classes, (n, 2), from one unit that tells class 1 from class 0.

    From the probability p of class 1, (1 − p, p); from its logit z, (0, z), of which that is the
    softmax.
    """
    unit = outputs.reshape(len(outputs)).astype(np.float64)
    return np.stack([1 - unit if kind == "probabilities" else np.zeros_like(unit), unit], axis=1)


def one_unit_predictions(outputs: NDArray[Any], kind: OutputKind) -> NDArray[np.int64]:
    """Return class 1 where p ≥ ½, which is z ≥ 0, else class 0; parameters as `one_unit_scores`."""
    unit = outputs.reshape(len(outputs))
    return (unit >= (0.5 if kind == "probabilities" else 0)).astype(np.int64)


def cross_entropy(
    outputs: NDArray[Any], labels: ArrayLike, kind: OutputKind, *, first_row: int = 0
) -> NDArray[np.float64]:
    """Return −ln p(y) of each sample, in nats, (n,); not finite where its outputs are not.

    p is the softmax of (n, H) logits, or the probabilities themselves. A probability below the
    smallest positive float32 (1.4e-45) counts as that: a float32 softmax that underflowed is 0, and
    the loss would be infinite. `first_row` numbers the rows in errors.

    Raises `DataError` for a label that is no class, `MetricError` for outputs that are not one
    score per class.
    """
    y = validate_labels(outputs, labels, first_row)
    scores = outputs.astype(np.float64)
    if kind == "probabilities":
        return -np.log(np.maximum(scores[np.arange(y.size), y], LEAST_PROBABILITY))
    with np.errstate(invalid="ignore", over="ignore"):
        scores -= find_row_extremes(np.maximum, scores)[:, None]
        result: NDArray[np.float64] = np.log(np.exp(scores).sum(axis=1))
        result -= scores[np.arange(y.size), y]
    return result


def validate_labels(
    outputs: NDArray[Any], labels: ArrayLike, first_row: int = 0
) -> NDArray[np.int64]:
    """Return the labels of (n, H) outputs as int64, one per row, each in 0 … H − 1.

    Raises `DataError` for other labels, `MetricError` for outputs that are not one score per class.
    """
    _check_scores(outputs)
    y = np.asarray(labels)
    n, classes = outputs.shape
    if y.shape != (n,):
        raise DataError(f"Labels of shape {y.shape} do not fit {n} outputs: one label a sample.")
    if y.dtype.kind not in "iub":
        raise DataError(f"Labels must be whole numbers from 0 on, but these are {y.dtype}.")
    outside = (y < 0) | (y >= classes)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"Sample row {first_row + row} has the label {y[row]}, and the output scores "
            f"{classes:,} class{'es' * (classes != 1)}: labels go from 0 to {classes - 1}."
        )
    return y.astype(np.int64)


def _check_scores(outputs: NDArray[Any]) -> None:
    if outputs.ndim != 2 or not outputs.shape[1]:
        raise MetricError(
            f"The outputs have shape {outputs.shape}, not one score a class, (n, H): "
            "there is no prediction to read from them."
        )
