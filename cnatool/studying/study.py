"""Many networks → one study: scored or read, joined, correlated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.observer import Silent
from cnatool._util.text import list_names, printable
from cnatool.errors import DataError, UsageError
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.studying.analysis import (
    binned,
    correlated,
    difference,
    network_groups,
    networks_arrays,
    told_beyond,
)
from cnatool.studying.columns import TAG, TARGETS, is_variant, tag_column
from cnatool.studying.hyperparameters import HyperparameterTags, hyperparameter_tags
from cnatool.studying.results import StudyResult, StudySettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars

    from cnatool._util.observer import Observer
    from cnatool.studying.collect import Collection
    from cnatool.studying.results import Difference, MeasureKind

LEVEL = 0.95
_CORRELATIONS = "correlations"


@dataclass(frozen=True, slots=True)
class Study:
    """A study: its networks, and what was found over them.

    Attributes
    ----------
    networks : polars.DataFrame
        One row a network: ``id``, ``path``, ``test_path``, ``model``, ``convention``, its tags
        (``tag.NAME``) and its measures; null where it has none.
    result : StudyResult
        Correlations and all the rest.
    reused : int
        Networks whose scores had been kept in the study's folder.
    """

    networks: polars.DataFrame
    result: StudyResult
    reused: int


def study(
    stores: str | Path | Iterable[str | Path] = (),
    *,
    frame: str | Path | polars.DataFrame | None = None,
    folder: str | Path | None = None,
    test: str | Path | None = None,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    by: str | None = None,
    cluster: str | None = None,
    hyperparameters: Sequence[str] | None = None,
    compare: Sequence[tuple[str, str]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    least_pairs: float = 12,
    inputs: str | Path | Iterable[str | Path] = (),
    strict: bool = False,
    observer: Observer | None = None,
) -> Study:
    """Score many stores, and correlate each measure with test accuracy and with the gap.

    Parameters
    ----------
    stores : str, Path or iterable of these
        Stores, and folders of stores. One that is missing, unfinished or broken is left out and
        listed in the result, with the reason.
    frame : str, Path or polars.DataFrame, optional
        Networks, or columns of networks, from elsewhere, by ``id``: a frame, or a file
        ``.parquet`` or ``.csv``. Its numbers replace those of the stores.
    folder : str or Path, optional
        Where scores are kept and all results are written; scores that are there are not computed
        again, unless the store, the version of cnatool or the convention changed.
    test : str or Path, optional
        A folder that holds the test split's stores, under the names of `stores`.
    convention, overrides, output
        As of `cnatool.score`.
    by : str, optional
        A tag; correlations are also given within each of its values.
    cluster : str, optional
        A tag whose values are the clusters that intervals resample. By default each network is
        one, which is right only where networks are independent.
    hyperparameters : sequence of str, optional
        Tags that are hyperparameters. By default those that vary, except the cluster tag,
        repetitions such as ``seed``, names of runs, steps of training, and tags that name each
        network or follow from others; ``result.settings`` has the reasons.
    compare : sequence of (str, str), optional
        Pairs of measures to compare; by default each measure with each trivial baseline.
    resamples : int
        Bootstrap resamples; 0 for no intervals.
    seed : int
        Seed of their draws.
    least_pairs : float
        Effective pairs of networks that an environment of the sign error needs.
    inputs : str, Path or iterable of these
        Stores that hold the raw inputs of those that refer to another store for them, where they
        are not where that says.
    strict : bool
        Raise the error of the first store that cannot be scored, rather than leave it out.
    observer : Observer, optional
        Told of notes and progress.

    Returns
    -------
    Study

    Raises
    ------
    UsageError
        If a tag, a measure, the convention or a field does not exist.
    DataError
        If no network could be scored or read, or the frame cannot be used.
    StoreWriteError
        If the folder cannot be written.
    CnatoolError, OSError
        If a store cannot be scored, and `strict`.
    """
    from cnatool.studying.frame import frame_from
    from cnatool.studying.write import check_folder, write_study

    observer = Silent() if observer is None else observer
    if resamples < 0 or seed < 0 or least_pairs <= 0:
        raise UsageError("resamples and seed are at least 0, and pairs above 0.")
    where = None if folder is None else Path(folder)
    if where is not None:
        check_folder(where)
    other = None if frame is None else frame_from(frame)
    places = [stores] if isinstance(stores, str | Path) else list(stores)
    # Tags may come from the frame as well.
    needed = cluster if other is None else None
    collection = _collected(
        places,
        where,
        test,
        Convention.named(convention, overrides),
        output,
        inputs,
        strict,
        needed,
        observer,
    )
    networks = _together(collection, other)
    settings = _settings(
        networks, by, cluster, hyperparameters, resamples, seed, least_pairs, collection
    )
    result = _result(networks, collection, settings, compare, observer)
    found = Study(networks, result, 0 if collection is None else collection.reused)
    if where is not None:
        write_study(found.networks, result, where)
    return found


def _collected(
    places: Sequence[str | Path],
    folder: Path | None,
    test: str | Path | None,
    convention: Convention,
    output: str | None,
    inputs: str | Path | Iterable[str | Path],
    strict: bool,
    cluster: str | None,
    observer: Observer,
) -> Collection | None:
    if not places:
        return None
    from cnatool.studying.collect import collect, known_tags

    needed = cluster is not None and any(cluster in tags for tags in known_tags(places).values())

    def excluded(tags: Mapping[str, str]) -> str | None:
        if needed and cluster not in tags:
            return f"it has no tag {printable(cluster)}, which --cluster names"
        return None

    return collect(
        places,
        folder=folder,
        test=test,
        convention=convention,
        output=output,
        observer=observer,
        inputs=inputs,
        strict=strict,
        excluded=excluded,
    )


def _together(collection: Collection | None, other: polars.DataFrame | None) -> polars.DataFrame:
    from cnatool.studying.frame import joined, networks_frame

    if collection is None:
        if other is None:
            raise UsageError("there is nothing to study: give stores, or --from a frame.")
        together = other
    else:
        together = networks_frame(collection.networks)
        if other is not None:
            together = joined(together, other)
    if not len(together):
        message = "no network could be scored"
        raise (
            DataError(f"{message}.")
            if collection is None
            else collection.omissions.too_few(message)
        )
    return together


def _settings(
    networks: polars.DataFrame,
    by: str | None,
    cluster: str | None,
    hyperparameters: Sequence[str] | None,
    resamples: int,
    seed: int,
    least_pairs: float,
    collection: Collection | None,
) -> StudySettings:
    tags = _tags(networks)
    for option, named in (
        ("--by", [by]),
        ("--cluster", [cluster]),
        ("--hyperparameters", hyperparameters or []),
    ):
        for tag in named:
            if tag is not None and tag not in tags:
                raise UsageError(
                    f"{option} {tag}: no network has this tag; there are {list_names(tags)}."
                )
    if cluster is not None:
        without = networks.filter(networks[tag_column(cluster)].is_null())
        if len(without):
            raise UsageError(
                f"--cluster {cluster}: {len(without)} networks do not have this tag "
                f"({list_names(without['id'])})."
            )
    if hyperparameters is None:
        decided = hyperparameter_tags(
            {tag: networks[tag_column(tag)].to_list() for tag in tags}, cluster
        )
    else:
        decided = HyperparameterTags(tuple(dict.fromkeys(hyperparameters)), (), {})
    return StudySettings(
        targets=tuple(target for target in TARGETS if target in networks.columns),
        by=by,
        cluster=cluster,
        hyperparameters=decided.names,
        resamples=resamples,
        seed=seed,
        level=LEVEL,
        least_pairs=float(least_pairs),
        test_samples=_test_samples(networks, collection),
        held=decided.held,
        not_hyperparameters=decided.others,
    )


def _tags(networks: polars.DataFrame) -> list[str]:
    return [name.removeprefix(TAG) for name in networks.columns if name.startswith(TAG)]


def _test_samples(networks: polars.DataFrame, collection: Collection | None) -> int | None:
    """Give the test samples that all accuracies are means over; None where not all are known."""
    name = "test.samples"
    if name not in networks.columns or networks[name].null_count():
        return None
    if collection is None or collection.convention.fields.gap == "accuracy":
        # The fewest of all make no pair look surer than it is.
        return int(min(networks[name].to_list()))
    return None


def _result(
    networks: polars.DataFrame,
    collection: Collection | None,
    settings: StudySettings,
    compare: Sequence[tuple[str, str]] | None,
    observer: Observer,
) -> StudyResult:
    if not settings.targets:
        raise DataError(f"the networks have none of the columns {' and '.join(TARGETS)}.")
    arrays = networks_arrays(networks, settings)
    groups = network_groups(networks, settings.by)
    pairs = _compared(arrays.kinds, compare)
    wanted = [(target, measure) for measure in arrays.kinds for target in settings.targets]
    steps = len(wanted) * (1 + len(groups)) + len(pairs) * len(settings.targets)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        observer.progress(_CORRELATIONS, done, steps)

    correlations = []
    for group, rows in groups.items():
        for target, measure in wanted:
            correlations.append(correlated(arrays, target, measure, group, rows))
            step()
    beyond = []
    for target, measure in wanted:
        if settings.hyperparameters:
            beyond.append(
                told_beyond(
                    arrays,
                    target,
                    measure,
                    samples=settings.test_samples,
                    least_pairs=settings.least_pairs,
                )
            )
        step()
    differences: list[Difference] = []
    for first, second in pairs:
        for target in settings.targets:
            differences.extend(difference(arrays, target, first, second))
            step()
    return StudyResult(
        schema="cnatool.study/1",
        networks=len(networks),
        clusters=len(np.unique(arrays.clusters)),
        convention=None if collection is None else collection.convention,
        tags=tuple(_tags(networks)),
        settings=settings,
        not_scored=() if collection is None else collection.not_scored,
        undefined=() if collection is None else tuple(collection.undefined()),
        correlations=tuple(correlations),
        hyperparameters=tuple(beyond),
        differences=tuple(differences),
        bins=tuple(binned(arrays)),
        notes=tuple(_notes(networks, settings)),
    )


def _compared(
    kinds: Mapping[str, MeasureKind], compare: Sequence[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    if compare is None:
        return [
            (measure, baseline)
            for measure, kind in kinds.items()
            for baseline, other in kinds.items()
            if kind == "measure" and other == "trivial" and not is_variant(measure)
        ]
    for pair in compare:
        for name in pair:
            if name not in kinds:
                raise UsageError(
                    f"--compare {','.join(pair)}: no measure is called {name}; there are "
                    f"{', '.join(kinds)}."
                )
    return list(dict.fromkeys(compare))


def _notes(networks: polars.DataFrame, settings: StudySettings) -> list[str]:
    notes = []
    if settings.cluster is None and settings.resamples:
        notes.append(
            "each network counts as independent; where some are not, as checkpoints of one run, "
            "name the tag that they share with --cluster"
        )
    if "convention" in networks.columns:
        conventions = networks["convention"].drop_nulls().unique(maintain_order=True)
        if len(conventions) > 1:
            notes.append(
                f"the networks were scored by different conventions: {list_names(conventions)}"
            )
    if settings.hyperparameters and settings.test_samples is None:
        notes.append(
            "the sign error takes all pairs alike: how sure their differences are is known only "
            "for accuracies over a known number of test samples"
        )
    return notes
