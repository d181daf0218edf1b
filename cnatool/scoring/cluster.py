"""The splits of a store, scored in ranges of rows by the workers of a Dask cluster."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from cnatool._util.cluster import Cluster, Task, describe_workers
from cnatool._util.cluster_workers import absolute_path, name_as_given
from cnatool._util.observer import Silent
from cnatool.errors import CnatoolError, StoreInUseError
from cnatool.scoring.alpha import measure_alpha
from cnatool.scoring.alpha_input import measure_lengths, select_alpha_input
from cnatool.scoring.beta import compute_beta, compute_slopes, finish_beta
from cnatool.scoring.performance import Performance, measure_performance
from cnatool.scoring.split import ScoredSplit, locate_errors
from cnatool.scoring.split_selection import select_splits, suggest_range
from cnatool.store.object_access import make_access_check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.scoring.beta import SplitBeta
    from cnatool.scoring.labels import ClassMapping
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.output import ScoredOutput
    from cnatool.scoring.split_selection import SelectedSplits
    from cnatool.store.ragged import RaggedArray
    from cnatool.store.store import Split, Store
    from cnatool.store.stored_array import StoredArray

_PROGRESS = "ranges of rows"
# Ranges of each worker: the last ones end at about the same time.
_PER_WORKER = 4
# Least bytes of a range, which are read in less time than opening the store takes, and most rows,
# whose numbers are sent to the client at once.
_LEAST_BYTES = 64 << 20
_MOST_ROWS = 1 << 20

_Kind: TypeAlias = Literal["alpha", "slopes", "beta", "performance", "lengths"]
_Found: TypeAlias = "NDArray[np.float64] | NDArray[np.int64] | SplitBeta | Performance | None"


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """A score as workers see it: with absolute paths."""

    stores: tuple[Path, ...]
    digests: tuple[bytes, ...]  # of what the client has read of the stores
    inputs: tuple[Path, ...]  # where raw inputs of other stores are looked for
    fields: ConventionFields
    output: ScoredOutput
    classes: ClassMapping


class _Step(NamedTuple):
    """One kind of number of some rows of a split."""

    split: str
    kind: _Kind
    rows: range

    def __str__(self) -> str:
        return f"rows {self.rows.start:,} to {self.rows.stop - 1:,} of {self.split}"


def score_splits_on_cluster(
    client: Any,
    selected: SelectedSplits,
    fields: ConventionFields,
    output: ScoredOutput,
    classes: ClassMapping,
    inputs: Sequence[Path],
    observer: Observer,
) -> dict[str, ScoredSplit]:
    """Score the splits of one or two stores on the workers of a client."""
    stores = [store.path for store in _list_stores(selected)]
    absolute = [absolute_path(path) for path in stores]
    places = tuple(map(absolute_path, inputs))
    needed = [*absolute, *places]
    cluster = Cluster(client, observer.note, paths=needed, check=make_access_check(needed))
    observer.note(f"on a cluster of {describe_workers(cluster)}")
    job = ScoreJob(tuple(absolute), _digest(selected), places, fields, output, classes)
    steps = list(_plan_steps(selected, fields, len(cluster.workers)))
    try:
        with suggest_range(selected, fields):
            found = _run_steps(cluster, job, steps, observer)
    except CnatoolError as error:
        raise name_as_given(error, stores) from None
    return {
        name: _combine(split, layers, fields, {s: found[s] for s in steps if s.split == name})
        for name, (split, layers) in selected.splits.items()
    }


def _list_stores(selected: SelectedSplits) -> list[Store]:
    return [store for store in (selected.store, selected.test_store) if store is not None]


def _digest(selected: SelectedSplits) -> tuple[bytes, ...]:
    """Compute what tells whether stores are still those that were opened."""
    records = (msgspec.json.encode(store.record) for store in _list_stores(selected))
    return tuple(hashlib.sha256(record).digest() for record in records)


def _plan_steps(
    selected: SelectedSplits, fields: ConventionFields, workers: int
) -> Iterator[_Step]:
    """Plan what workers compute, in the order of one process.

    Raw inputs and whole activations are divided. Stored sums, outputs and labels take far fewer
    bytes: each is read by one worker.
    """
    for name, (split, layers) in selected.splits.items():
        whole = range(len(split))
        with locate_errors(split):
            inputs = [split.inputs(select_alpha_input(split.store.record, fields).number)]
            summed = split.has_statistic("sum")
            arrays = [] if summed else [split.activations(each.tensor.name) for each in layers]
        for rows in _divide(whole, inputs, workers):
            yield _Step(name, "alpha", rows)
        if summed:
            yield _Step(name, "beta", whole)
        else:
            for rows in _divide(whole, arrays, workers):
                yield _Step(name, "slopes", rows)
        yield _Step(name, "performance", whole)
        yield _Step(name, "lengths", whole)


def _divide(
    rows: range, arrays: Sequence[StoredArray | RaggedArray], workers: int
) -> Iterator[range]:
    """Divide the rows of arrays into ranges of whole chunks."""
    row_bytes = max(1, sum(array.row_bytes for array in arrays))
    chunk = max((array.chunk_rows for array in arrays), default=1)
    least = max(1, _LEAST_BYTES // row_bytes, len(rows) // (_PER_WORKER * workers))
    step = -(-min(least, _MOST_ROWS) // chunk) * chunk
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _run_steps(
    cluster: Cluster, job: ScoreJob, steps: Sequence[_Step], observer: Observer
) -> dict[_Step, _Found]:
    """Run all steps on workers; raise the error that one process would come to first."""
    tasks = {Task(str(step), partial(tuple, (job, step))): step for step in steps}
    found: dict[_Step, _Found] = {}
    failed: dict[_Step, CnatoolError] = {}
    with closing(cluster.run(run_step, [*tasks])) as results:
        for done, (task, value) in enumerate(results, start=1):
            step = tasks[task]
            if isinstance(value, CnatoolError):
                failed[step] = value
            else:
                found[step] = value
            missing = next((each for each in steps if each not in found), None)
            if missing in failed:
                raise failed[missing]
            observer.progress(_PROGRESS, done, len(tasks))
    return found


def run_step(job: ScoreJob, step: _Step) -> _Found | CnatoolError:
    """Run a step on a worker; return what it found, or why it cannot be found."""
    try:
        test = job.stores[1] if len(job.stores) > 1 else None
        selected = select_splits(job.stores[0], test, job.fields, job.inputs)
        for path, here, there in zip(job.stores, _digest(selected), job.digests, strict=True):
            if here != there:
                raise StoreInUseError(
                    f"{path} was replaced or continued while it was scored. Score it again once "
                    "nothing writes it."
                )
        split, layers = selected.splits[step.split]
        with locate_errors(split):
            match step.kind:
                case "alpha":
                    return measure_alpha(split, job.fields, Silent(), step.rows)
                case "slopes":
                    return compute_slopes(split, layers, job.fields, step.rows)
                case "beta":
                    return compute_beta(split, layers, job.fields)
                case "performance":
                    return measure_performance(split, job.fields, job.output, job.classes)
                case "lengths":
                    return measure_lengths(split, job.fields)
    except CnatoolError as error:
        return error


def _combine(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    found: Mapping[_Step, Any],
) -> ScoredSplit:
    """Put together what all steps of a split found, in their order."""
    alpha, slopes = (
        np.concatenate([np.empty(0), *(v for step, v in found.items() if step.kind == kind)])
        for kind in ("alpha", "slopes")
    )
    whole = {step.kind: value for step, value in found.items()}
    with locate_errors(split):
        beta = whole.get("beta") or finish_beta(split, layers, fields, slopes)
    return ScoredSplit(split, alpha, beta, whole["performance"], whole["lengths"])
