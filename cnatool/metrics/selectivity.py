"""Which class a unit responds to: means of classes, and class selectivity (docs/metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# Values that are summed at a time.
_VALUES = 1 << 17


@dataclass(slots=True)
class ClassMeans:
    """Sums of each unit's values over the samples of each class.

    Attributes
    ----------
    sums : ndarray of float64, (classes, units)
        Sums of finite values.
    counts : ndarray of int64, (classes, units)
        Their number.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int, units: int) -> Self:
        """Return the sums of no values."""
        return cls(np.zeros((classes, units)), np.zeros((classes, units), np.int64))

    def update(
        self,
        sums: ArrayLike,
        counts: ArrayLike | int,
        classes: ArrayLike,
        start: int = 0,
    ) -> None:
        """Add samples.

        Parameters
        ----------
        sums : array_like, (n, units)
            Sum of the values of each sample, of the units from ``start`` on.
        counts : int or array_like of int, (n, units)
            Number of these values.
        classes : array_like of int, (n,)
            Class of each sample, from 0; samples of a negative one are left out.
        """
        array = np.asarray(sums)
        members = _Members.of(np.asarray(classes))
        units = slice(start, start + array.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            self.sums[members.present, units] += members.add_up(array)
        if np.ndim(counts):
            counted = members.add_up(np.asarray(counts)).astype(np.int64)
        else:
            counted = members.samples[:, None] * int(np.asarray(counts))
        self.counts[members.present, units] += counted

    def add_tile(
        self,
        tile: NDArray[np.floating[Any]],
        row_sums: NDArray[np.float64] | None,
        classes: NDArray[np.integer[Any]],
        start: int,
    ) -> None:
        """Add values, (n, units, positions), of the units from ``start`` on.

        Those that are not finite are left out. ``row_sums``, (n, units), are their sums if they
        are known, and all finite.
        """
        n, units, positions = tile.shape
        if row_sums is not None:
            self.update(row_sums, positions, classes, start)
            return
        flat = tile.reshape(n, units * positions)
        members = _Members.of(classes)
        sums = members.add_up(flat)
        here = slice(start, start + units)
        counts: NDArray[np.int64] = members.samples[:, None] * positions
        if not np.isfinite(sums).all():
            finite = np.isfinite(flat)
            with np.errstate(over="ignore", invalid="ignore"):
                sums = members.add_up(np.where(finite, flat, 0))
            counts = members.add_up(finite).astype(np.int64)
            counts = counts.reshape(-1, units, positions).sum(axis=2)
        with np.errstate(over="ignore", invalid="ignore"):
            self.sums[members.present, here] += sums.reshape(-1, units, positions).sum(axis=2)
        self.counts[members.present, here] += counts

    def merge(self, other: ClassMeans) -> None:
        """Add the sums of further samples of the same classes and units."""
        if other.sums.shape != self.sums.shape:
            raise ValueError(f"sums have shapes {self.sums.shape} and {other.sums.shape}")
        self.sums += other.sums
        self.counts += other.counts

    @classmethod
    def join(cls, parts: Sequence[ClassMeans]) -> Self:
        """Put the units of several behind one another."""
        return cls(
            np.concatenate([part.sums for part in parts], axis=1),
            np.concatenate([part.counts for part in parts], axis=1),
        )

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean value of each class, (classes, units); NaN for a class without values."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means: NDArray[np.float64] = self.sums / self.counts
        return means

    @property
    def best(self) -> NDArray[np.intp]:
        """The class with the highest mean, (units,), as `find_best_class`."""
        return find_best_class(self.means)

    @property
    def ccmas(self) -> NDArray[np.float64]:
        """Class selectivity, (units,), as `compute_ccmas`."""
        return compute_ccmas(self.means)


@dataclass(slots=True)
class _Members:
    """Which rows are of which class.

    Attributes
    ----------
    present : ndarray of int, (c,)
        The classes that have rows, ascending.
    samples : ndarray of int, (c,)
        How many.
    """

    present: NDArray[np.integer[Any]]
    samples: NDArray[np.intp]
    _rows: NDArray[np.intp]

    @classmethod
    def of(cls, classes: NDArray[np.integer[Any]]) -> Self:
        """Sort rows by class; those of a negative one are left out."""
        order = np.argsort(classes, kind="stable")
        order = order[classes[order] >= 0]
        present, samples = np.unique(classes[order], return_counts=True)
        return cls(present, samples, order)

    def add_up(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum the rows, (n, columns), of each class in float64, (c, columns)."""
        from scipy.sparse import csr_array

        n, columns = values.shape
        ends = np.append(0, np.cumsum(self.samples))
        indicator = csr_array(
            (np.ones(len(self._rows)), self._rows, ends), shape=(len(self.present), n)
        )
        sums = np.empty((len(self.present), columns))
        # A few columns at a time, whose copy fits a cache.
        width = max(1, min(columns, _VALUES // max(1, n)))
        wide = np.empty((n, width))
        for start in range(0, columns, width):
            part = values[:, start : start + width]
            copy = wide[:, : part.shape[1]]
            np.copyto(copy, part)
            sums[:, start : start + width] = indicator @ copy
        return sums


def find_best_class(means: NDArray[np.float64]) -> NDArray[np.intp]:
    """Find the class with the highest mean.

    Parameters
    ----------
    means : ndarray, (classes, units)
        Mean of each class; NaN for a class without values.

    Returns
    -------
    ndarray of int, (units,)
        −1 for a unit without values, and where several classes share the highest mean.
    """
    if not len(means):
        return np.full(means.shape[1], -1)
    known = ~np.isnan(means)
    highest = np.where(known, means, -np.inf).max(axis=0)
    reached = known & (means == highest)
    return np.where(reached.sum(axis=0) == 1, reached.argmax(axis=0), -1)


def compute_ccmas(means: NDArray[Any]) -> NDArray[np.float64]:
    """Compute class selectivity by the means of classes (CCMAS).

    (μ_max − μ_rest) / (μ_max + μ_rest), where μ_max is the highest mean of a class, and μ_rest the
    mean of the means of all other classes: from 0 for a unit that responds to all classes alike to
    1 for one that responds to a single class (Morcos et al., ICLR 2018, "On the importance of
    single directions for generalization").

    Parameters
    ----------
    means : ndarray, (classes, units)
        Mean of each class; NaN for a class without values.

    Returns
    -------
    ndarray of float64, (units,)
        NaN where it is not defined: where a mean is negative, all are 0, or fewer than two classes
        have values.
    """
    known = ~np.isnan(means)
    classes = known.sum(axis=0)
    filled = np.where(known, means, 0.0)
    defined = (classes > 1) & (filled >= 0).all(axis=0)
    highest = filled.max(axis=0, initial=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        rest = (filled.sum(axis=0) - highest) / (classes - 1)
        selectivity: NDArray[np.float64] = (highest - rest) / (highest + rest)
    return np.where(defined & (highest > 0), np.clip(selectivity, 0, 1), np.nan)
