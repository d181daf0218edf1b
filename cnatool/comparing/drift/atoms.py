"""What the first rows tell of the values of units: where they lie, and which occur often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.comparing.drift.numbers import sample_deviation
from cnatool.metrics.unit_moments import UnitMoments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Deviations between 0 and the mean from which on bins around 0 are too wide.
_FAR = 2.0
# Values of a unit and a set that are looked at, most atoms of a unit, and their least share.
_LOOKED_AT = 4096
_MOST = 4
_SHARE = 0.005
_LEAST = 3


def find_centre(heads: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the mean of units whose values all lie on one side of 0 and far from it, else 0.

    ``heads`` are values of each set, (rows, units, positions); (units,).
    """
    moments = UnitMoments.empty(heads[0].shape[1])
    for head in heads:
        moments.update(head)
    one_side = (moments.minimum > 0) | (moments.maximum < 0)
    with np.errstate(invalid="ignore"):
        far = np.abs(moments.mean) > _FAR * sample_deviation(moments)
    return np.where(one_side & far & np.isfinite(moments.mean), moments.mean, 0.0)


def find_atoms(heads: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Return the values that occur most often in either set, (units, a).

    ``a`` is at most 4; NaN where a unit has fewer.
    """
    units = heads[0].shape[1]
    atoms = np.full((units, _MOST), np.nan)
    looked_at = [_look_at(head) for head in heads]
    for unit in range(units):
        counted: dict[float, float] = {}
        for values in looked_at:
            found, counts = np.unique(values[unit], return_counts=True)
            often = (counts >= max(_LEAST, _SHARE * values.shape[1])) & np.isfinite(found)
            for value, count in zip(found[often], counts[often], strict=True):
                counted[float(value)] = counted.get(float(value), 0) + count / values.shape[1]
        most = sorted(counted, key=lambda value: -counted[value])[:_MOST]
        atoms[unit, : len(most)] = most
    return atoms[:, ~np.isnan(atoms).all(axis=0)]


def _look_at(head: NDArray[Any]) -> NDArray[Any]:
    """Return some values of each unit, (units, n)."""
    values = np.moveaxis(head, 1, 0).reshape(head.shape[1], -1)
    step = max(1, values.shape[1] // _LOOKED_AT)
    # An odd step, so that not the same position of each row is taken.
    return values[:, :: step | 1]
