"""Which class a unit responds to: means of classes, and class selectivity (docs/metrics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


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
        numbers = np.asarray(classes)
        if not len(numbers):
            return
        units = slice(start, start + array.shape[1])
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] >= 0]
        if not len(order):
            return
        numbers = numbers[order]
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        present = numbers[starts]
        with np.errstate(over="ignore", invalid="ignore"):
            added = np.add.reduceat(array[order], starts, axis=0, dtype=np.float64)
            self.sums[present, units] += added
        if np.ndim(counts):
            counted = np.add.reduceat(np.asarray(counts)[order], starts, axis=0, dtype=np.int64)
        else:
            samples = np.diff(np.append(starts, len(order)))
            counted = (samples * int(np.asarray(counts)))[:, None]
        self.counts[present, units] += counted

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
    alone = (known & (means == highest)).sum(axis=0) == 1
    return np.where(alone, (known & (means == highest)).argmax(axis=0), -1)


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
