"""What a reader of a score should know beside its numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import classes_text
from cnatool.errors import MetricError
from cnatool.metrics.groups import in_blocks
from cnatool.metrics.padding import LOOKED_AT, padding_text
from cnatool.scoring.train_test import UNNAMED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.metrics.convention import ConventionFields
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.output import ScoredOutput
    from cnatool.scoring.split import ScoredSplit
    from cnatool.scoring.train_test import PairScores
    from cnatool.store.store import Split, Store

_NAMED = 3
# A larger share of samples left out changes what a score is of.
_FEW = 0.1


def notes(
    store: Store,
    convention: ConventionFields,
    missing: Sequence[str],
    output: ScoredOutput,
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, ScoredSplit],
    pair: PairScores,
) -> Iterator[str]:
    """Give a line for each thing that is not as one would take for granted.

    Parameters
    ----------
    store : Store
    convention : ConventionFields
    missing : sequence of str
        Of `missing_layers`.
    output : ScoredOutput
    layers : sequence of ScoredLayer
    splits : mapping of str to ScoredSplit
    pair : PairScores
    """
    yield from _data_notes({name: one.split for name, one in splits.items()})
    yield from _padding_notes(store, [one.split for one in splits.values()])
    if output.others:
        yield (
            f"{', '.join(output.others)} could be the output as well as {output.name}: "
            "--scores-output NAME chooses"
        )
    yield from _rule_notes(store, convention, missing, layers)
    yield from _order_notes(convention, splits)
    if list(splits) == [UNNAMED]:
        yield (
            f"the one split is called {UNNAMED}: gap, CNA-A and margin take train and test, of a "
            "dump with --split train=PATH --split test=PATH, or of two stores by --test STORE2"
        )
    chance = pair.chance
    if chance.mean is not None:
        yield (
            f"CNA-A is above 0 by chance alone: {chance.mean:.4f} ± {chance.std:.4f} with train "
            "and test relabelled at random; its interval is no test of a difference, its p is one"
        )
    elif pair.area.value is not None and not convention.area_resamples:
        yield "CNA-A is above 0 by chance alone: --set area_resamples=100 says how far"


def layer_notes(
    store: Store,
    convention: ConventionFields,
    missing: Sequence[str],
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, Split],
) -> Iterator[str]:
    """Give those lines of `notes` that hold without an output, and without a pair of splits."""
    yield from _data_notes(splits)
    yield from _padding_notes(store, list(splits.values()))
    yield from _rule_notes(store, convention, missing, layers)


def unfinished(name: str, scored: int, rows: int) -> str:
    """Say that the dump of a split is not finished."""
    return f"split {name}: the dump is not finished; {scored} of {rows} rows are scored"


def _data_notes(splits: Mapping[str, Split]) -> Iterator[str]:
    taken = [
        f"{len(split):,} of {split.record.available:,} samples of {name}"
        for name, split in splits.items()
        if split.record.complete
        and split.record.available is not None
        and len(split) + len(split.record.skipped) < split.record.available
    ]
    named: dict[tuple[str, ...], list[str]] = {}
    for name, split in splits.items():
        if split.record.classes:
            named.setdefault(split.record.classes, []).append(name)
    for classes, names in named.items():
        yield f"classes of {' and '.join(names)}: {classes_text(classes)}"
    if taken:
        yield f"scored: the first {', '.join(taken)}"
    skipped = [
        _skipped_text(name, len(split.record.skipped), len(split) + len(split.record.skipped))
        for name, split in splits.items()
        if split.record.skipped
    ]
    if skipped:
        yield f"could not be read and are left out: {', '.join(skipped)} (inspect lists them)"


def _skipped_text(name: str, skipped: int, samples: int) -> str:
    share = f" ({skipped / samples:.0%})" if skipped > _FEW * samples else ""
    return f"{skipped:,} of {samples:,} samples of {name}{share}"


def _padding_notes(store: Store, splits: Sequence[Split]) -> Iterator[str]:
    record = store.record
    texts = [
        (number, step.input)
        for number, (step, given) in enumerate(
            zip(record.preprocessing, record.inputs, strict=False)
        )
        if len(given.shape) == 1 and given.levels is None
    ]
    if not any(np.dtype(step.dtype).kind in "iu" for step in record.preprocessing):
        return
    for split in splits:
        try:
            found = padding_text({name: split.inputs(i)[:LOOKED_AT] for i, name in texts})
        except MetricError:
            return  # another store has the inputs, and is not here
        if found is not None:
            yield found
            return


def _order_notes(convention: ConventionFields, splits: Mapping[str, ScoredSplit]) -> Iterator[str]:
    by_class = [
        name
        for name, one in splits.items()
        if one.labels is not None
        and len(one.labels) >= convention.cna_batch
        and in_blocks(one.labels)
    ]
    if by_class and convention.cna_order == "rows":
        yield (
            f"rows of {' and '.join(by_class)} come class by class, and so CNA over minibatches in "
            "row order is that within few classes: --set cna_order=random mixes them"
        )


def _rule_notes(
    store: Store,
    convention: ConventionFields,
    missing: Sequence[str],
    layers: Sequence[ScoredLayer],
) -> Iterator[str]:
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        yield (
            f"layers={convention.layers} would count {len(missing)} more, which the store lacks "
            f"({', '.join(missing[:_NAMED])}{more}): dump with --tensors all"
        )
    ruled = convention.layers in ("preactivation", "linear")
    if ruled and not convention.include_output and not any(layer.output for layer in store.layers):
        yield "no layer leads to an output, so all count as hidden ones (inspect --layers)"
    beside = [
        f"{one.tensor.name} and {other.tensor.name}"
        for one, other in pairwise(layers)
        if one.path is not None and other.path is not None and other.path <= one.path
    ]
    if beside and convention.depth == "index":
        yield (
            f"layers lie on parallel branches ({beside[0]}{', …' if beside[1:] else ''}): CNA with "
            "depth=index depends on the order of nodes in the file, with --set depth=path it does "
            "not"
        )
