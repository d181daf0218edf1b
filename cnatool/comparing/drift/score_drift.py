"""α and β of two sets of samples, compared as activations are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.observer import Silent
from cnatool.comparing.drift.numbers import HeldNumbers, NumberDifferences, compare_numbers
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.scoring.alpha import compute_alpha
from cnatool.scoring.beta import compute_beta
from cnatool.scoring.layer_selection import select_layers

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.comparing.drift.sides import Sides
    from cnatool.metrics.convention import ConventionFields
    from cnatool.store.store import Split

ScoreDrift = NumberDifferences | str


def compare_scores(
    sides: Sides, fields: ConventionFields, observer: Observer | None = None
) -> tuple[ScoreDrift, ScoreDrift]:
    """Compare α and β of the samples; the reason in place of what a store does not allow."""
    progress = observer or Silent()

    def alpha(split: Split) -> NDArray[np.float64]:
        return compute_alpha(split, fields, progress)

    def beta(split: Split) -> NDArray[np.float64]:
        scored = compute_beta(split, select_layers(split.store, fields), fields)
        if scored.reason is not None:
            raise MetricError(scored.reason)
        return scored.values

    return _compare(sides, alpha), _compare(sides, beta)


def _compare(sides: Sides, compute: Callable[[Split], NDArray[np.float64]]) -> ScoreDrift:
    held = []
    try:
        for split in (sides.first, sides.second):
            values = compute(split)
            numbers = HeldNumbers(len(values), 1, len(values))
            numbers.add(0, values[:, None])
            held.append(numbers)
    except (DataError, MetricError, UsageError) as error:
        return str(error).rstrip(".")
    return compare_numbers(*held)
