"""Scores of many stores, computed on a Dask cluster."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cnatool._util.cluster import Cluster, Task, describe_workers, make_portable
from cnatool._util.cluster_workers import absolute_path, name_as_given
from cnatool.errors import CnatoolError
from cnatool.scoring.results import ScoreResult
from cnatool.scoring.score import score_store
from cnatool.store.object_access import make_access_check
from cnatool.store.reader import open_store
from cnatool.studying.omissions import UNUSABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import Convention

_NETWORKS = "networks"


class StorePair(NamedTuple):
    """A store, and the one of its test split if that is another."""

    path: Path
    test: Path | None

    def absolute(self) -> StorePair:
        """Return the pair with absolute paths."""
        return StorePair(
            absolute_path(self.path), None if self.test is None else absolute_path(self.test)
        )


def score_on_cluster(
    client: Any,
    pairs: Sequence[StorePair],
    convention: Convention,
    output: str | None,
    inputs: Sequence[Path],
    observer: Observer,
) -> Iterator[tuple[StorePair, ScoreResult | Exception]]:
    """Score stores on the workers of a client; yield each score, or what went wrong, as it comes.

    Both name the stores as ``pairs`` does.
    """
    if not pairs:
        return
    places = [absolute_path(path) for path in inputs]
    needed = [*places, *(path for pair in pairs[:1] for path in pair.absolute() if path)]
    cluster = Cluster(client, observer.note, paths=needed, check=make_access_check(needed))
    observer.note(f"on a cluster of {describe_workers(cluster)}")
    tasks = {
        Task(str(pair.path), partial(tuple, (pair.absolute(), convention, output, places))): pair
        for pair in pairs
    }
    with closing(cluster.run(score_pair, [*tasks])) as results:
        for done, (task, scored) in enumerate(results, start=1):
            pair = tasks[task]
            yield pair, _rename(scored, pair)
            observer.progress(_NETWORKS, done, len(pairs))


def score_pair(
    pair: StorePair, convention: Convention, output: str | None, inputs: Sequence[Path]
) -> ScoreResult | Exception:
    """Score a store on a worker; return the score, or why there is none."""
    try:
        store = open_store(pair.path, inputs)
        test = None if pair.test is None else open_store(pair.test, inputs)
        return score_store(store, test, convention, output=output).result()
    except UNUSABLE as error:
        return make_portable(error)


def _rename(scored: ScoreResult | Exception, pair: StorePair) -> ScoreResult | Exception:
    """Replace the paths that a worker knows by those of a pair."""
    if isinstance(scored, ScoreResult):
        test = None if pair.test is None else str(pair.test)
        return msgspec.structs.replace(scored, store=str(pair.path), test_store=test)
    if not isinstance(scored, CnatoolError):
        return scored
    return name_as_given(scored, filter(None, pair))
