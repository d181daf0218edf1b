"""How large a dump's tensors are, by which scoring later tells numbers from rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool.store.row_statistics import magnitude

if TYPE_CHECKING:
    from cnatool.planning import Plan
    from cnatool.store.records import StoreRecord

__all__ = ["with_magnitudes"]


def with_magnitudes(plan: Plan) -> StoreRecord:
    """Give the description of a plan's store with the magnitudes of its tensors.

    They are those of the samples that the network was probed with, and cost nothing more.
    """
    reference = plan.probed.reference
    return msgspec.structs.replace(
        plan.record,
        magnitudes=tuple(
            magnitude(reference[tensor.name]["abs_sum"]) if tensor.name in reference else None
            for tensor in plan.record.tensors
        ),
    )
