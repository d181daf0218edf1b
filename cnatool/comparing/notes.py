"""Notes on a comparison: what is left out of it, and where differences may come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.store.missing_rows import describe_missing_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.comparing.match_tensors import Match
    from cnatool.comparing.results import SplitCompared
    from cnatool.metrics.convention import ConventionFields
    from cnatool.store.store import Store


def note_missing_rows(first: Store, second: Store, empty: Sequence[str]) -> Iterator[str]:
    """Yield which store is not finished, and which splits have no rows to compare."""
    yield from filter(None, map(describe_missing_rows, (first, second)))
    for name in empty:
        stores = [store for store in (first, second) if not len(store.splits[name])]
        have = "have" if len(stores) > 1 else "has"
        # A complete split is empty in a part of a dump that has rows of other splits alone.
        yet = "" if all(store.splits[name].record.complete for store in stores) else " yet"
        paths = " and ".join(str(store.path) for store in stores)
        yield f"split {name} is not compared: {paths} {have} no rows of it{yet}"


def note_other_splits(first: Store, second: Store) -> Iterator[str]:
    """Yield the splits that one of the stores has alone."""
    for store, other in ((first, second), (second, first)):
        alone = [name for name in store.splits if name not in other.splits]
        if alone:
            yield f"only {store.path} has {', '.join(alone)}, which is not compared"


def note_other_samples(splits: Mapping[str, SplitCompared]) -> Iterator[str]:
    """Yield notes on splits whose differences may come from the data, not the network."""
    for name, split in splits.items():
        if split.rows == split.rows2 and split.same_data is False:
            ids = f"{split.ids or 0:.2%} of ids are the same"
            yield (
                f"inputs or labels of {name} differ between the stores, row by row ({ids}): "
                "compare stores of the same samples in the same order; for other samples, `drift` "
                "compares distributions"
            )


def note_matches(
    match: Match, first: Store, second: Store, fields: ConventionFields
) -> Iterator[str]:
    """Yield what the layers of the stores, and the definitions, do not allow to compare."""
    if fields.area == "reference":
        yield "CNA-A of the form reference is not compared: rounding alone changes it by per cents"
    if match.codes:
        yield (
            f"{_first_names(match.codes)}: one store holds quantised codes and the other values, "
            "so these layers are not compared. An export with QuantizeLinear and DequantizeLinear "
            "(QuantFormat.QDQ) has values for both"
        )
    if match.reduced:
        name, reason = next(iter(match.reduced.items()))
        more = f", nor are {len(match.reduced) - 1} more" if len(match.reduced) > 1 else ""
        yield f"reduced tensor {name!r} is not compared{more}: {reason}"
    if match.ambiguous:
        yield (
            f"{_first_names(match.ambiguous)}: several layers of {second.path} have the same size "
            "and place in the network, and neither names nor values tell them apart, so none is "
            "compared. Export both models with the same names of weights"
        )
    if match.reordered:
        yield (
            f"layers that run in a different order in {second.path}: "
            f"{_first_names(match.reordered)}. With depths by index this is a different network; "
            "with `depth='path'` it is not"
        )
    for names, where in ((match.folded2, second), (match.folded, first)):
        if names:
            yield (
                f"{where.path} lacks the results of the linear operators of {', '.join(names)}: a "
                "normalisation is folded into them, or their results were not recorded. Layers "
                "are compared where they enter the nonlinearity; for conventions whose layers are "
                "linear, this is a different network"
            )


def _first_names(names: Sequence[str]) -> str:
    """List the first eight names, and count the rest."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
