"""The arrays of a split that batches are read from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool._util.text import quote_for_shell
from cnatool.errors import MetricError, UsageError
from cnatool.store.batches import Batches, Sources
from cnatool.store.missing_rows import explain_missing_rows
from cnatool.store.tensor_selection import select_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cnatool.store.store import Split


def open_batches(
    split: Split, tensors: str | Iterable[str] | None, *, ids: bool, inputs: bool, **options: Any
) -> Batches:
    """Open the arrays of a complete split, and make batches of them; see `Split.batches`."""
    store = split.store
    if not split.record.complete:
        raise MetricError(explain_missing_rows(store))
    if tensors is None:
        kept = (t for t in store.tensors if t.stored is not None or t.output is not None)
        names = [tensor.name for tensor in kept]
    else:
        tensors = [tensors] if isinstance(tensors, str) else list(tensors)
        names = select_tensors(split.path, [tensor.name for tensor in store.tensors], tensors)
    if not names and not inputs:
        raise UsageError(_nothing_text(split, tensors))
    sources = Sources(
        {name: split.activations(name) for name in names},
        split.labels,
        split.ids if ids else None,
        {a.name: split.inputs(n) for n, a in enumerate(store.record.inputs)} if inputs else {},
    )
    return Batches(sources, len(split), **options)


def _nothing_text(split: Split, tensors: str | Iterable[str] | None) -> str:
    """Describe that batches would have no values."""
    inputs = "`inputs=True` reads the raw inputs."
    if tensors is None:
        return (
            f"{split.path}: only statistics are stored, so that there are no values for batches. "
            f"Dump with `keep='full'`; {inputs}"
        )
    return (
        f"`tensors={tensors!r}` leaves no tensor of {split.path}. "
        f"`cnatool inspect {quote_for_shell(split.path)}` lists them; by default all that are "
        f"stored whole are read. {inputs}"
    )
