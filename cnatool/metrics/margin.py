"""γ: the margin by which the true class wins (docs/metrics.md)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import MetricError
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.performance import validate_labels
from cnatool.metrics.sums import find_row_extremes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from cnatool.metrics.convention import ConventionFields, MarginForm
    from cnatool.metrics.performance import OutputKind

_SUM_TOLERANCE = 1e-3  # a float16 softmax over many classes is this far from 1


def detect_output_kind(outputs: NDArray[Any]) -> OutputKind:
    """Find out whether (n, H) outputs are probabilities: in [0, 1], rows that sum to 1.

    A split holds probabilities if all its blocks do.
    """
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())  # NaN is not inside
    if inside and (abs(outputs.sum(axis=1, dtype=np.float64) - 1) <= _SUM_TOLERANCE).all():
        return "probabilities"
    return "logits"


def probabilities(outputs: NDArray[Any], kind: OutputKind) -> NDArray[np.float64]:
    """Return class probabilities, (n, H): the softmax of logits, or probabilities as they are."""
    scores = outputs.astype(np.float64)
    if kind == "probabilities":
        return scores
    with np.errstate(invalid="ignore", over="ignore"):
        scores -= find_row_extremes(np.maximum, scores)[:, None]
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
    return scores


def margin_rows(
    outputs: NDArray[Any],
    labels: ArrayLike,
    *,
    form: MarginForm,
    kind: OutputKind,
    first_row: int = 0,
) -> NDArray[np.float64]:
    """Return two numbers per row, (n, 2), from which every form of γ can be computed.

    They are γ_i = s[y] − max_{j≠y} s[j], and min_j s[j] − max_{j≠y} s[j], for the form ``paper``
    with s as probabilities, else with outputs as they are. `first_row` numbers the rows in errors.

    Raises
    ------
    DataError
        For a label that is no class of the outputs.
    MetricError
        For outputs that are not one score per class, and for fewer than two classes.
    """
    y = validate_labels(outputs, labels, first_row)
    if outputs.shape[1] < 2:
        raise MetricError("A margin needs at least two classes, but the model has one output.")
    scores = probabilities(outputs, kind) if form == "paper" else outputs
    true, rival = _true_and_rival(scores, y)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([true - rival, find_row_extremes(np.minimum, scores) - rival], axis=1)


def _true_and_rival(
    scores: NDArray[Any], y: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return s[y] and max_{j≠y} s[j] of each row."""
    others = scores.astype(np.float64)
    rows = np.arange(y.size)
    true = others[rows, y]
    others[rows, y] = -np.inf
    return true, find_row_extremes(np.maximum, others)


class MarginColumns:
    """The `margin_rows` of a split, gathered block by block, with the columns that a form needs.

    Only ``reference`` is computed from the second column. Other forms only need to know whether it
    is finite, so it is kept from the first block on in which it is not.
    """

    def __init__(self, rows: int, form: MarginForm) -> None:
        self._rows = np.empty((rows, 2 if form == "reference" else 1))

    def add(self, start: int, rows: NDArray[np.float64]) -> None:
        """Add (n, 2) numbers for the rows from `start` on."""
        if self._rows.shape[1] == 1 and not np.isfinite(rows[:, 1]).all():
            # In the rows above, zeros stand for the finite numbers that were not kept.
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)], axis=1)
        self._rows[start : start + len(rows)] = rows[:, : self._rows.shape[1]]

    def rows(self) -> NDArray[np.float64]:
        """Return all rows, (n, 1) or (n, 2), as `margin_estimate` takes them."""
        return self._rows


def margin_estimate(
    rows: NDArray[np.float64], kind: OutputKind, fields: ConventionFields
) -> Estimate:
    """Return γ of a split from the `margin_rows` of all its rows, made for the same form.

    ``paper``: the greatest margin, in probabilities, of a random fraction of the split. All others
    are in logits: a percentile, the least, the mean or the median, or what the released code
    returns. `rows` needs no second column for forms other than ``reference`` if that is finite.

    Undefined, with the reason, for no samples, for outputs that are not finite, and for a form in
    logits of a model that outputs probabilities.
    """
    if not len(rows):
        return Estimate.undefined("a margin needs at least one sample, and there is none")
    if kind == "probabilities" and fields.margin != "paper":
        return Estimate.undefined(
            f"the margin {fields.margin!r} needs logits, and the model outputs probabilities"
        )
    finite = np.isfinite(rows)
    if not finite.all():
        broken = len(rows) - int(np.count_nonzero(finite.all(axis=1)))
        return Estimate.undefined(
            f"the outputs are not finite for {broken:,} of {count_text(len(rows), 'sample')}"
        )
    return Estimate(float(_FORMS[fields.margin](rows, fields)))


def resample_margins(
    rows: NDArray[np.float64], kind: OutputKind, fields: ConventionFields, resamples: int
) -> NDArray[np.float64]:
    """Return `margin_estimate` of resamples of the rows, (resamples,); it is defined for the rows.

    For ``paper``, only the greatest of the random fraction of a resample is drawn.
    """
    n = len(rows)
    if fields.margin == "paper":
        return _draw_maxima(rows[:, 0], _subset_size(n, fields), fields.resample_seed, resamples)
    values = np.empty(resamples)
    for number in range(resamples):
        generator = np.random.default_rng([fields.resample_seed, n, number, 1])
        drawn = rows[generator.integers(0, n, n)]
        values[number] = margin_estimate(drawn, kind, fields).value
    return values


def _draw_maxima(
    values: NDArray[np.float64], size: int, seed: int, count: int
) -> NDArray[np.float64]:
    """Draw the maximum of `size` draws with replacement, `count` times.

    It is no greater than the k-th least of n values with the probability (k / n)^size.
    """
    n = values.size
    shares = 1 - np.random.default_rng([seed, n, count, 1]).random(count)  # above 0
    places = np.ceil(n * shares ** (1 / size)).astype(np.intp) - 1
    maxima: NDArray[np.float64] = np.partition(values, np.unique(places))[places]
    return maxima


def _paper(rows: NDArray[np.float64], fields: ConventionFields) -> float:
    """γ = max γ_i over a random subset of the split."""
    n = len(rows)
    return float(rows[_draw_rows(n, _subset_size(n, fields), fields.margin_seed), 0].max())


def _subset_size(n: int, fields: ConventionFields) -> int:
    return max(1, round(fields.margin_fraction * n))


@lru_cache(maxsize=1)
def _draw_rows(n: int, size: int, seed: int) -> NDArray[np.int64]:
    drawn: NDArray[np.int64] = np.random.default_rng(seed).choice(n, size, replace=False)
    return drawn


def _reference(rows: NDArray[np.float64], fields: ConventionFields) -> float:
    """γ of the released code, which overwrites a batch row by row and looks at all of it each time.

    Row i of a batch of B is seen i times as it was, s[y] − max_j s[j], and B − i times with its
    true class at its least logit, min_j s[j] − max_{j≠y} s[j]. Two numbers a row, with weights.
    """
    gamma, overwritten = rows.T
    row = np.arange(len(rows))
    place = row % fields.margin_batch
    batch = np.minimum(fields.margin_batch, len(rows) - (row - place))  # the last may be shorter
    values = np.concatenate([np.minimum(gamma, 0), overwritten])
    return _weighted_percentile(
        values, np.concatenate([place, batch - place]), fields.margin_percentile
    )


def _weighted_percentile(
    values: NDArray[np.float64], weights: NDArray[np.int64], percentile: float
) -> float:
    """Return `numpy.percentile` of each value repeated as often as its weight says."""
    order = np.argsort(values)
    ends = weights[order].cumsum()
    position = float(ends[-1] - 1) * (percentile / 100)
    index = int(position)
    after = min(index + 1, int(ends[-1]) - 1)
    low, high = values[order][np.searchsorted(ends, [index, after], side="right")]
    return float(low + (high - low) * (position - index))


_FORMS: Mapping[MarginForm, Callable[[NDArray[np.float64], ConventionFields], float]] = {
    "paper": _paper,
    # q = 5: Neyshabur; q = 10: Jiang et al. 2019.
    "percentile": lambda rows, fields: float(np.percentile(rows[:, 0], fields.margin_percentile)),
    "reference": _reference,
    "min": lambda rows, fields: float(rows[:, 0].min()),
    "mean": lambda rows, fields: float(rows[:, 0].mean()),
    "median": lambda rows, fields: float(np.median(rows[:, 0])),
}
