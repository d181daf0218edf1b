"""How the reduced tensors of a store were made, in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import count_text, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.records.reductions import ReductionRecord
    from cnatool.records.store import TensorRecord

# Reduced tensors that are described by default.
_LISTED = 12


def describe_reductions(tensors: Sequence[TensorRecord], *, every: bool) -> Iterator[str]:
    """Describe what projections and sampled positions say beyond their form."""
    said = [
        (tensor.name, list(_describe(tensor.reduction))) for tensor in tensors if tensor.reduction
    ]
    said = [(name, words) for name, words in said if words]
    for name, words in said if every else said[:_LISTED]:
        yield f"{printable(name)}: {', '.join(words)}"
    if not every and len(said) > _LISTED:
        yield f"{count_text(len(said) - _LISTED, 'reduced tensor')} more; --json lists all"


def _describe(record: ReductionRecord) -> Iterator[str]:
    if record.method:
        yield f"{record.method} projection"
    components, distortion = record.components, record.distortion
    if components:
        yield (
            f"{components.share:.1%} of the variance of {components.samples:,} samples of "
            f"{components.split}"
        )
    if distortion:
        yield (
            f"distances of {distortion.samples} samples change by {distortion.mean:.1%} on "
            f"average, {distortion.largest:.1%} at most"
        )
    if record.seed or record.seed == 0:
        yield f"seed {record.seed}"
