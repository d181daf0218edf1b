"""How large a dump's tensors are, by which scoring later tells numbers from rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from cnatool.planning import Plan
    from cnatool.store.records import StoreRecord

__all__ = ["with_magnitudes"]


def with_magnitudes(plan: Plan) -> StoreRecord:
    """Give the description of a plan's store with the magnitudes of its tensors.

    They are those of the samples that the network was probed with, and cost nothing more.
    """
    reference = plan.probed.reference
    found = []
    for tensor in plan.record.tensors:
        sums = reference[tensor.name]["abs_sum"] if tensor.name in reference else np.array([])
        known = sums.size > 0 and bool(np.isfinite(sums).all())
        # Four digits, as the last ones are not the same on every processor.
        found.append(float(f"{sums.mean():.4g}") if known else None)
    return msgspec.structs.replace(plan.record, magnitudes=tuple(found))
