"""The bootstrap, and a permutation test."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.observer import ignore_progress
from cnatool._util.products import multiply
from cnatool.metrics.correlation import standardise
from cnatool.metrics.sums import inner_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool._util.observer import Progress

MANY = 1 << 17  # samples, beyond which resamples are drawn from fewer units
_THREADS = min(8, os.cpu_count() or 1)
_FEW = 1 << 13  # samples, below which threads take longer than one: they wait for each other
_LEAST = 20  # resamples behind a deviation
_TIE = 1e-10  # correlations that differ by less are equal but for rounding
_ROUNDING = 1e-6  # of 2 / (1 − level)
_CELL = 1 << 15  # samples
_PART = 8  # resamples
_RAW = 1 << 16  # samples of a cell, where there are many cells
_LARGE_CELLS = 1 << 18  # samples, from which cells are of `_RAW`
_ELEMENTS = 1 << 20  # of permuted samples at a time


def resample_counts(n: int, seed: int, stream: int, number: int) -> NDArray[np.int64]:
    """Return how often each of n samples is in a resample: n draws with replacement, (n,).

    `stream` numbers the split: resamples of two splits are independent. Each resample `number` has
    a generator of its own, so that it depends neither on how many there are nor on the thread.
    """
    generator = np.random.default_rng([seed, stream, number])
    if n <= _CELL:
        return np.bincount(generator.integers(0, n, n), minlength=n)
    # A cell at a time, whose counts fit the processor's cache; how many draws a cell has is drawn
    # first.
    cell = _CELL if n < _LARGE_CELLS else _RAW
    sizes = [min(cell, n - start) for start in range(0, n, cell)]
    draws = generator.multinomial(n, np.array(sizes) / n) if len(sizes) > 1 else [n]
    counts = np.empty(n, np.int64)
    for start, size, drawn in zip(range(0, n, cell), sizes, draws, strict=True):
        part = counts[start : start + size]
        part[:] = np.bincount(_places(generator, size, drawn), minlength=size)
    return counts


def _places(generator: np.random.Generator, size: int, count: int) -> NDArray[Any]:
    """Draw places of a cell; two random bytes are one of a cell of 65,536."""
    if size != _RAW:
        return generator.integers(0, size, count)
    words = generator.integers(0, (1 << 64) - 1, -(-count // 4), np.uint64, endpoint=True)
    return words.view(np.uint16)[:count]


def resample(
    statistic: Callable[[Sequence[int]], Sequence[tuple[float, ...]]],
    resamples: int,
    *,
    samples: int,
    part: int = _PART,
    progress: Progress = ignore_progress,
) -> NDArray[np.float64]:
    """Compute a statistic of each resample, on several threads unless it has few `samples`.

    `statistic` maps the numbers of `part` resamples to one or more values of each, NaN where
    undefined. An interrupt waits for the parts that have begun. Returns (resamples, …).
    """
    numbers = range(resamples)
    parts = [numbers[start : start + part] for start in range(0, resamples, part)]
    if samples < _FEW:
        return _collect(map(statistic, parts), resamples, progress)
    with ThreadPoolExecutor(_THREADS) as pool:
        return _collect(pool.map(statistic, parts), resamples, progress)


def _collect(
    parts: Iterable[Sequence[tuple[float, ...]]], resamples: int, progress: Progress
) -> NDArray[np.float64]:
    results: list[tuple[float, ...]] = []
    for values in parts:
        results.extend(values)
        progress(len(results), resamples)
    return np.array(results)


def percentile_interval(
    values: NDArray[np.float64], level: float
) -> tuple[tuple[float, float] | None, str | None]:
    """Return the interval between two percentiles of the resamples, or why there is none.

    It needs 2 / (1 − level) resamples, one for each end beyond it.
    """
    reason = _unusable(values, level, math.ceil(2 / (1 - level) - _ROUNDING))
    if reason is not None:
        return None, reason
    return quantile_interval(values, (1 - level) / 2), None


def quantile_interval(values: NDArray[np.float64], tail: float) -> tuple[float, float]:
    """Return the interval between the quantiles `tail` and 1 − `tail`."""
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def recentred_interval(
    value: float, values: NDArray[np.float64], level: float
) -> tuple[tuple[float, float] | None, float | None, str | None]:
    """Return value ± z times the resamples' deviation, and their bias; or why there is none.

    The deviation is taken around the resamples' own mean: what resampling itself adds to the
    number, its bias, does not move the interval. It needs 20 resamples.
    """
    reason = _unusable(values, level, _LEAST)
    if reason is not None:
        return None, None, reason
    half = NormalDist().inv_cdf((1 + level) / 2) * float(values.std(ddof=1))
    return (value - half, value + half), float(values.mean()) - value, None


def _unusable(values: NDArray[np.float64], level: float, least: int) -> str | None:
    if values.size < least:
        return (
            f"an interval of {100 * level:.12g} % needs at least {least} resamples, and there are "
            f"{values.size}"
        )
    broken = int(np.count_nonzero(np.isnan(values)))
    if broken:
        return f"the measure is undefined for {broken} of {values.size} resamples"
    return None


def independence_test(
    a: NDArray[np.float64], b: NDArray[np.float64], *, permutations: int, seed: int
) -> tuple[float, int]:
    """Return the p-value of a two-sided permutation test that `a` and `b` are independent.

    The statistic is |Σ a b| of the standardised values, which is Pearson's correlation, or
    Spearman's for ranks. Exact: the share of permutations, the identity among them, with a
    statistic that is as large. Also returned is how many there are, without the identity.

    For n > `permutations` samples the permutations are the n cyclic shifts of `b` against `a` in a
    random order of the samples: they are a group, so that the test is exact, and one Fourier
    transform gives all their correlations (Hemerik & Goeman 2018 on such tests). For fewer samples,
    permutations are drawn. Neither `a` nor `b` is constant.
    """
    n = a.size
    generator = np.random.default_rng([seed, n])
    first, second = standardise(a), standardise(b)
    least = abs(inner_product(first, second)) - _TIE
    if n > permutations:
        order = generator.permutation(n)
        first, second = first[order], second[order]
        del order
        spectrum = np.fft.rfft(first)
        del first
        conjugate = np.fft.rfft(second)
        del second
        spectrum *= np.conjugate(conjugate, out=conjugate)
        del conjugate
        shifted = np.fft.irfft(spectrum, n)[1:]
        del spectrum
        return (1 + int(np.count_nonzero(np.abs(shifted, out=shifted) >= least))) / n, n - 1
    extreme, step = 0, max(1, _ELEMENTS // n)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        shuffled = generator.permuted(np.broadcast_to(second, (rows, n)), axis=1)
        extreme += int(np.count_nonzero(np.abs(multiply(shuffled, first)) >= least))
    return (1 + extreme) / (1 + permutations), permutations
