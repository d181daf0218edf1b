"""How α, β and CNA depend on the length of samples (docs/metrics.md, "Texts and sound").

A sum over more positions is larger, and a longer text has more of most things: where samples differ
in length, α and β may agree for that reason alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool.metrics.correlation import kendall, pearson, spearman, standardise
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.ranks import midranks
from cnatool.metrics.sums import inner_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from cnatool.metrics.convention import CnaForm
    from cnatool.metrics.estimate import Correlation

_NAMES = ("α", "β", "length")
_FEWEST = 6  # samples: a line through fewer points, bent by length, says nothing
# Share of its deviation by which a number that length determines may seem to depend on more.
_EXACT = 1e-9


class LengthCorrelations(NamedTuple):
    """Correlations of α and of β with length, and that of α and β with length held fixed."""

    alpha: Estimate
    beta: Estimate
    fixed: Estimate


def correlate_with_length(
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    lengths: NDArray[np.int64],
    form: CnaForm,
) -> LengthCorrelations:
    """Correlate α, β and the lengths of samples, (n,) each, by a form's coefficient.

    `form` is that of CNA; for ``smoothed`` Pearson's coefficient is taken. With length k held
    fixed, the correlation is that of the residuals of α and β after a least-squares fit by k and
    log2 k: sums grow like k, entropies like log2 k. For ``spearman`` and ``kendall`` the ranks of α
    and β are fitted by the ranks of k; their residuals are correlated by Pearson's coefficient, or
    by τ-b.

    Each is undefined, with the reason, where one of its two is the same for all samples or not
    finite; the last one also for fewer than 6 samples, and where length alone determines α or β.
    """
    found = _FORMS[form]
    columns = (alpha, beta, lengths.astype(np.float64))
    pairs = {
        (i, j): found.correlate(columns[i], columns[j], (_NAMES[i], _NAMES[j]))
        for i, j in ((0, 1), (0, 2), (1, 2))
    }
    fixed = next(
        (
            Estimate.undefined(pair.reason)
            for pair in (pairs[0, 1], pairs[0, 2], pairs[1, 2])
            if pair.reason is not None
        ),
        None,
    )
    if fixed is None and len(lengths) < _FEWEST:
        fixed = Estimate.undefined(
            f"a correlation with length held fixed needs at least {_FEWEST} samples, and there are "
            f"{len(lengths)}"
        )
    if fixed is None:
        fixed = _hold_length(found.of_residuals, *found.prepare(*columns))
    return LengthCorrelations(_as_estimate(pairs[0, 2]), _as_estimate(pairs[1, 2]), fixed)


def _as_estimate(correlation: Correlation) -> Estimate:
    return Estimate(correlation.value, correlation.reason)


def _hold_length(
    correlate: Callable[..., Correlation],
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    *by: NDArray[np.float64],
) -> Estimate:
    """Correlate the residuals of α and β after a least-squares fit by some columns."""
    basis: list[NDArray[np.float64]] = []
    for column in map(standardise, by):
        rest = _subtract(column, basis)
        size = math.sqrt(inner_product(rest, rest))
        if size > _EXACT:
            basis.append(rest / size)
    residuals = [_subtract(standardise(values), basis) for values in (alpha, beta)]
    for name, residual in zip(_NAMES, residuals, strict=False):
        if inner_product(residual, residual) <= _EXACT**2:
            return Estimate.undefined(f"{name} depends on the length of samples alone")
    return _as_estimate(correlate(*residuals))


def _subtract(
    values: NDArray[np.float64], basis: Iterable[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Subtract the projections on orthonormal columns; twice, for what the first time rounds."""
    columns = list(basis)
    for column in columns * 2:
        values = values - inner_product(values, column) * column
    return values


def _rank_all(*columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Rank α, β and length."""
    return tuple(map(midranks, columns))


def _add_logarithm(*columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Add the logarithm of length to α, β and length."""
    return *columns, np.log2(np.maximum(columns[-1], 1))


class _Form(NamedTuple):
    correlate: Callable[..., Correlation]
    prepare: Callable[..., tuple[NDArray[np.float64], ...]]  # α, β, and what they are fitted by
    of_residuals: Callable[..., Correlation]


_PEARSON = _Form(pearson, _add_logarithm, pearson)
_FORMS: Mapping[CnaForm, _Form] = {
    "pearson": _PEARSON,
    "smoothed": _PEARSON,
    "spearman": _Form(spearman, _rank_all, pearson),
    "kendall": _Form(kendall, _rank_all, kendall),
}
