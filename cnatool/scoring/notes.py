"""Notes on a score: which data it covers, and what its numbers depend on."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import classes_text, count_text
from cnatool.errors import MetricError
from cnatool.metrics.area_stretches import WHOLE
from cnatool.metrics.cna import resampled_units
from cnatool.metrics.groups import lie_in_blocks
from cnatool.metrics.padding import LOOKED_AT, padding_text
from cnatool.records.layout import ragged_axis
from cnatool.records.parts import describe_rows
from cnatool.scoring.alpha_notes import alpha_notes
from cnatool.scoring.layer_selection import explain_left_out_layers
from cnatool.scoring.train_test import UNNAMED
from cnatool.store.ragged import as_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnatool.metrics.convention import ConventionFields
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.output import ScoredOutput
    from cnatool.scoring.results import SplitResult
    from cnatool.scoring.split import ScoredSplit
    from cnatool.scoring.train_test import TrainTestScores
    from cnatool.store.store import Split, Store

_NAMED = 3
# A larger share of samples left out changes what a score is of.
_FEW = 0.1


def score_notes(
    store: Store,
    convention: ConventionFields,
    missing: Sequence[str],
    output: ScoredOutput,
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, ScoredSplit],
    results: Mapping[str, SplitResult],
    pair: TrainTestScores,
) -> Iterator[str]:
    """Yield a line for each thing that a reader would not take for granted."""
    yield from _data_notes({name: scored.split for name, scored in splits.items()})
    yield from _padding_notes(store, [scored.split for scored in splits.values()], layers)
    yield from alpha_notes(store.record, convention, layers, splits, results)
    if output.others and output.kind is not None:
        yield (
            f"{', '.join(output.others)} could be the output instead of {output.name}: choose "
            "with `output=NAME`"
        )
    yield from _rule_notes(store, convention, missing, layers)
    yield from _order_notes(convention, splits)
    if list(splits) == [UNNAMED]:
        yield (
            f"the only split is called {UNNAMED}: gap, CNA-A and margin need train and test: dump "
            "both with `splits={'train': PATH, 'test': PATH}`, or name a second store with "
            "`test=STORE2`"
        )
    yield from _resample_notes(convention, splits, pair)
    chance = pair.chance
    if chance.mean is not None:
        yield (
            f"CNA-A is above 0 by chance alone: {chance.mean:.4f} ± {chance.std:.4f} if train and "
            "test are relabelled at random; its interval does not test for a difference, its "
            "p-value does"
        )
    elif pair.area.value is not None and not convention.area_resamples:
        yield "CNA-A is above 0 by chance alone: `area_resamples=100` estimates by how much"


def layer_notes(
    store: Store,
    convention: ConventionFields,
    missing: Sequence[str],
    layers: Sequence[ScoredLayer],
    splits: Mapping[str, Split],
) -> Iterator[str]:
    """Yield the lines of `score_notes` that concern neither an output nor a pair of splits."""
    yield from _data_notes(splits)
    yield from _padding_notes(store, list(splits.values()), layers)
    yield from _rule_notes(store, convention, missing, layers)


def _data_notes(splits: Mapping[str, Split]) -> Iterator[str]:
    yield from _part_notes(splits.values())
    taken = [
        f"{len(split):,} of {count_text(split.record.available, 'sample')} of {name}"
        for name, split in splits.items()
        if split.record.complete
        and not split.store.record.part
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


def _part_notes(splits: Iterable[Split]) -> Iterator[str]:
    """Yield which rows are scored of each store that is a part of a dump."""
    found: dict[Path, list[Split]] = {}
    for split in splits:
        found.setdefault(split.store.path, []).append(split)
    for path, scored in found.items():
        part = scored[0].store.record.part
        if part:
            rows = describe_rows(part, {split.name: len(split) for split in scored})
            yield f"{path.name} is {part} of a dump, so this is a score of {rows}"


def _skipped_text(name: str, skipped: int, samples: int) -> str:
    share = f" ({skipped / samples:.0%})" if skipped > _FEW * samples else ""
    return f"{skipped:,} of {count_text(samples, 'sample')} of {name}{share}"


def _padding_notes(
    store: Store, splits: Sequence[Split], layers: Sequence[ScoredLayer]
) -> Iterator[str]:
    record = store.record
    if record.mask:
        padded = [layer.tensor.name for layer in layers if layer.tensor.padding]
        if padded:
            yield (
                f"{count_text(len(padded), 'layer')}, first {padded[0]}, "
                f"depend{'s' * (len(padded) == 1)} on the padding of samples, although padding is "
                "excluded from sums where possible: CNA depends on the length to which samples "
                "are padded"
            )
        return
    texts = [
        (number, step.input)
        for number, (step, array) in enumerate(zip(record.steps, record.inputs, strict=True))
        if step is not None
        and len(array.shape) == 1
        and array.levels is None
        and ragged_axis(array) is None
    ]
    if not any(np.dtype(step.dtype).kind in "iu" for step in record.preprocessing):
        return
    for split in splits:
        try:
            rows = {name: as_plain(split.inputs(i))[:LOOKED_AT] for i, name in texts}
            note = padding_text(rows)
        except MetricError:
            return  # the inputs lie in another store, which is missing
        if note is not None:
            yield note
            return


def _resample_notes(
    convention: ConventionFields, splits: Mapping[str, ScoredSplit], pair: TrainTestScores
) -> Iterator[str]:
    """Yield what intervals of many samples are made from, where that is not every sample anew."""
    if convention.interval == "bootstrap" and convention.resamples:
        unit = "of its samples" if convention.cna == "smoothed" else "random groups of its samples"
        for name, split in splits.items():
            samples = len(split.pair[0])
            units = resampled_units(convention, samples)
            if units < samples:
                yield f"the interval of CNA of {name} comes from resamples of {units:,} {unit}"
    if pair.stretches:
        yield (
            "the interval of CNA-A and its value by chance are combined from stretches of "
            f"{WHOLE} resamples and {WHOLE} relabellings"
        )


def _order_notes(convention: ConventionFields, splits: Mapping[str, ScoredSplit]) -> Iterator[str]:
    by_class = [
        name
        for name, scored in splits.items()
        for labels in [scored.performance.labels]
        if labels is not None and len(labels) >= convention.cna_batch and lie_in_blocks(labels)
    ]
    if by_class and convention.cna_order == "rows":
        yield (
            f"rows of {' and '.join(by_class)} are sorted by class, so each minibatch in row "
            "order covers only a few classes, and so does its CNA: `cna_order='random'` mixes the "
            "classes"
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
            f"layers={convention.layers} would count {len(missing)} more, which the store does "
            f"not contain ({', '.join(missing[:_NAMED])}{more}): dump with `tensors='all'`"
        )
    ruled = convention.layers in ("preactivation", "linear")
    if ruled:
        yield from explain_left_out_layers(store.record)
    if ruled and not convention.include_output and not any(layer.output for layer in store.layers):
        yield "no layer leads to an output, so all count as hidden (inspect lists the layers)"
    beside = [
        f"{layer.tensor.name} and {after.tensor.name}"
        for layer, after in pairwise(layers)
        if layer.path is not None and after.path is not None and after.path <= layer.path
    ]
    if beside and convention.depth == "index":
        yield (
            f"layers lie on parallel branches ({beside[0]}{', …' if beside[1:] else ''}): CNA with "
            "depth=index depends on the order of nodes in the file; with `depth='path'` it does not"
        )
