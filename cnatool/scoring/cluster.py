"""The splits of a store, each scored by a worker of a Dask cluster."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from cnatool._util.cluster import Cluster, Task, describe_workers
from cnatool._util.cluster_workers import absolute_path
from cnatool._util.observer import Silent
from cnatool.errors import CnatoolError
from cnatool.scoring.labels import map_classes
from cnatool.scoring.output import select_output
from cnatool.scoring.split import ScoredSplit, score_split
from cnatool.scoring.split_selection import select_splits, suggest_range

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import Convention
    from cnatool.scoring.split_selection import SelectedSplits

_SPLITS = "splits"


def score_splits_on_cluster(
    client: Any,
    selected: SelectedSplits,
    convention: Convention,
    output: str | None,
    inputs: Sequence[Path],
    observer: Observer,
) -> dict[str, ScoredSplit]:
    """Score each split of one or two stores on a worker of a client."""
    stores = [each.path for each in (selected.store, selected.test_store) if each is not None]
    absolute = [absolute_path(path) for path in stores]
    places = [absolute_path(path) for path in inputs]
    cluster = Cluster(client, observer.note, paths=[*absolute, *places])
    observer.note(f"on a cluster of {describe_workers(cluster)}")

    def begin(name: str) -> tuple[Any, ...]:
        return absolute, convention, output, places, name

    tasks = {Task(f"split {name}", partial(begin, name)): name for name in selected.splits}
    scored: dict[str, ScoredSplit] = {}
    try:
        with closing(cluster.run(score_one_split, [*tasks])) as results:
            for done, (task, values) in enumerate(results, start=1):
                name = tasks[task]
                scored[name] = ScoredSplit(split=selected.splits[name][0], **values)
                observer.progress(_SPLITS, done, len(tasks))
    except CnatoolError as error:
        text = str(error.args[0])
        for there, here in zip(absolute, stores, strict=True):
            text = text.replace(str(there), str(here))
        raise type(error)(text) from None
    return {name: scored[name] for name in selected.splits}


def score_one_split(
    stores: Sequence[Path],
    convention: Convention,
    output: str | None,
    inputs: Sequence[Path],
    name: str,
) -> dict[str, Any]:
    """Score a split on a worker; return the fields of `ScoredSplit` but the split itself."""
    test = stores[1] if len(stores) > 1 else None
    selected = select_splits(stores[0], test, convention.fields, inputs)
    splits = [split for split, _ in selected.splits.values()]
    scores = select_output(selected.store, splits, output)
    classes = map_classes(selected.store, splits, scores, named=output is not None)
    split, layers = selected.splits[name]
    with suggest_range(selected):
        scored = score_split(split, layers, convention.fields, scores, Silent(), classes)
    return {
        field.name: getattr(scored, field.name) for field in fields(scored) if field.name != "split"
    }
