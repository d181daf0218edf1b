"""A study of many networks: scores, joined with other data, and their correlations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.html import shown_by
from cnatool._util.observer import Silent
from cnatool._util.text import list_names, printable, suggest_name
from cnatool.errors import DataError, UsageError
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.studying.analysis import (
    bin_networks,
    compare_measures,
    control_for_hyperparameters,
    correlate,
    group_networks,
    to_arrays,
)
from cnatool.studying.columns import TAG, describe_tags, is_variant, tag_column
from cnatool.studying.hyperparameters import HyperparameterTags, select_hyperparameters
from cnatool.studying.results import StudyResult, StudySettings
from cnatool.studying.targets import select_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import polars
    from distributed import Client

    from cnatool._util.observer import Observer
    from cnatool.studying.analysis import Networks
    from cnatool.studying.collect import Collection
    from cnatool.studying.results import Difference, MeasureCorrelation

LEVEL = 0.95
_FEW_CLUSTERS = 10
_CORRELATIONS = "correlations"


@dataclass(frozen=True, slots=True)
class Study:
    """A study: its networks, and the statistics over them.

    Attributes
    ----------
    networks : polars.DataFrame
        One row per network: ``id``, ``path``, ``test_path``, ``model``, ``convention``, its tags
        (``tag.NAME``) and its measures; null where it has none.
    result : StudyResult
        Correlations and all other statistics.
    reused : int
        Networks whose scores were taken from the study's folder.
    """

    networks: polars.DataFrame
    result: StudyResult
    reused: int

    def __repr__(self) -> str:
        return repr(self.result)

    _repr_html_ = shown_by("cnatool.studying.html", "study_html")


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
    targets: Sequence[str] | None = None,
    compare: Sequence[tuple[str, str]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
    least_pairs: float = 12,
    inputs: str | Path | Iterable[str | Path] = (),
    strict: bool = False,
    client: Client | None = None,
    observer: Observer | None = None,
) -> Study:
    """Score many stores, and correlate each measure with test accuracy and with the gap.

    Parameters
    ----------
    stores : str, Path or iterable of these
        Stores, and folders of stores. A store that is missing, unfinished or damaged is skipped and
        listed in the result with the reason.
    frame : str, Path or polars.DataFrame, optional
        Networks, or columns of networks, from elsewhere, matched by ``id``: a frame, or a
        ``.parquet`` or ``.csv`` file. Its values replace those of the stores.
    folder : str or Path, optional
        Where scores are kept and all results are written; a kept score is reused unless the
        store, the version of cnatool or the convention has changed.
    test : str or Path, optional
        A folder that contains the stores of the test split, with the same names as `stores`.
    convention, overrides, output
        As in `cnatool.score`.
    by : str, optional
        A tag; correlations are also computed within each of its values.
    cluster : str, optional
        A tag whose values are the clusters that intervals resample. By default each network is
        its own cluster, which is right only if networks are independent.
    hyperparameters : sequence of str, optional
        Tags that are hyperparameters. By default those that vary, except the cluster tag,
        repetitions such as ``seed``, names of runs, steps of training, and tags that name each
        network or follow from others; ``result.settings`` gives the reasons.
    targets : sequence of str, optional
        Columns that measures are correlated with, such as ``gap_loss``; by default
        ``test.accuracy`` and ``gap``. A target is not a measure.
    compare : sequence of (str, str), optional
        Pairs of measures to compare; by default each measure with each trivial baseline, if both
        have a correlation.
    resamples : int
        Number of bootstrap resamples; 0 for no intervals.
    seed : int
        Seed for drawing them.
    least_pairs : float
        Minimum number of effective pairs of networks in an environment of the sign error.
    inputs : str, Path or iterable of these
        Stores that contain the raw inputs of other stores, if they have moved since those were
        dumped.
    strict : bool
        Raise the error of the first store that cannot be scored instead of skipping it.
    client : distributed.Client, optional
        Client of a Dask cluster, whose workers score the stores; they need access to all of them.
    observer : Observer, optional
        Receives notes and progress.

    Returns
    -------
    Study

    Raises
    ------
    UsageError
        If a tag, a column, a measure, the convention or a field does not exist.
    DataError
        If no network could be scored or read, or the frame cannot be used.
    StoreWriteError
        If the folder cannot be written.
    CnatoolError, OSError
        If a store cannot be scored and `strict` is set.
    """
    from cnatool.studying.frame import build_frame, join_networks, read_networks
    from cnatool.studying.write import check_folder, write_study

    observer = Silent() if observer is None else observer
    if resamples < 0 or seed < 0 or least_pairs <= 0:
        raise UsageError(
            "`resamples` and `seed` must be at least 0, and `least_pairs` greater than 0."
        )
    where = None if folder is None else Path(folder)
    if where is not None:
        check_folder(where)
    other = None if frame is None else read_networks(frame)
    places = [stores] if isinstance(stores, str | Path) else list(stores)
    if not places and other is None:
        raise UsageError("there is nothing to study: give `stores`, or networks by `frame`.")
    collection = None
    if places:
        from cnatool.studying.collect import collect

        collection = collect(
            places,
            folder=where,
            test=test,
            convention=Convention.named(convention, overrides),
            output=output,
            observer=observer,
            inputs=inputs,
            strict=strict,
            client=client,
            # Tags may come from the frame as well.
            exclude=None if cluster is None or other is not None else _require_tag(places, cluster),
        )
        networks = build_frame(collection.networks)
        if other is not None:
            networks = join_networks(networks, other)
    elif other is not None:
        networks = other
    if not len(networks):
        message = "no network could be scored"
        error = DataError(f"{message}.")
        raise error if collection is None else collection.omissions.too_few(message)
    tags = _select_tags(networks, by, cluster, hyperparameters)
    chosen = select_targets(
        networks, targets, None if collection is None else collection.convention
    )
    settings = StudySettings(
        targets=chosen.names,
        by=by,
        cluster=cluster,
        hyperparameters=tags.names,
        resamples=resamples,
        seed=seed,
        level=LEVEL,
        least_pairs=float(least_pairs),
        test_samples=chosen.test_samples,
        held=tags.held,
        not_hyperparameters=tags.others,
        weighted=chosen.weighted,
        compare=None if compare is None else tuple(dict.fromkeys(compare)),
    )
    result = _analyse(networks, collection, settings, observer)
    if where is not None:
        write_study(networks, result, where)
    return Study(networks, result, 0 if collection is None else collection.reused)


def _require_tag(
    places: Sequence[str | Path], tag: str
) -> Callable[[Mapping[str, str]], str | None] | None:
    """Return what explains why a store without `tag` is left out; None if no store has the tag."""
    from cnatool.studying.collect import read_tags

    if not any(tag in tags for tags in read_tags(places).values()):
        return None
    reason = f"it has no tag {printable(tag)}, which `cluster` names"
    return lambda tags: None if tag in tags else reason


def _list_tags(networks: polars.DataFrame) -> list[str]:
    return [name.removeprefix(TAG) for name in networks.columns if name.startswith(TAG)]


def _select_tags(
    networks: polars.DataFrame,
    by: str | None,
    cluster: str | None,
    hyperparameters: Sequence[str] | None,
) -> HyperparameterTags:
    """Check the tags that the caller named, and select the hyperparameters."""
    tags = _list_tags(networks)
    named = {"by": [by], "cluster": [cluster], "hyperparameters": hyperparameters or []}
    for parameter, names in named.items():
        for tag in names:
            if tag is not None and tag not in tags:
                raise UsageError(
                    f"`{parameter}` {tag}: no network has this tag; {describe_tags(tags)}."
                )
    if cluster is not None:
        without = networks.filter(networks[tag_column(cluster)].is_null())
        if len(without):
            raise UsageError(
                f"`cluster` {cluster}: {len(without)} networks do not have this tag "
                f"({list_names(without['id'])})."
            )
    if hyperparameters is not None:
        return HyperparameterTags(tuple(dict.fromkeys(hyperparameters)), (), {})
    return select_hyperparameters(
        {tag: networks[tag_column(tag)].to_list() for tag in tags}, cluster
    )


def _analyse(
    networks: polars.DataFrame,
    collection: Collection | None,
    settings: StudySettings,
    observer: Observer,
) -> StudyResult:
    arrays = to_arrays(networks, settings)
    pairs = _select_comparisons(arrays, settings)
    groups = group_networks(networks, settings.by)
    columns = [(target, measure) for measure in arrays.kinds for target in settings.targets]
    steps = len(columns) * (1 + len(groups)) + len(pairs) * len(settings.targets)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        observer.progress(_CORRELATIONS, done, steps)

    correlations = []
    for group, rows in groups.items():
        for target, measure in columns:
            correlations.append(correlate(arrays, target, measure, group, rows))
            step()
    beyond = []
    for target, measure in columns:
        if settings.hyperparameters:
            beyond.append(control_for_hyperparameters(arrays, target, measure))
        step()
    differences: list[Difference] = []
    for first, second in pairs:
        for target in settings.targets:
            differences.extend(compare_measures(arrays, target, first, second))
            step()
    return StudyResult(
        schema="cnatool.study/1",
        networks=len(networks),
        clusters=len(np.unique(arrays.clusters)),
        convention=None if collection is None else collection.convention,
        tags=tuple(_list_tags(networks)),
        settings=settings,
        not_scored=() if collection is None else tuple(collection.omissions.stores),
        undefined=() if collection is None else tuple(collection.count_undefined()),
        correlations=tuple(correlations),
        hyperparameters=tuple(beyond),
        differences=tuple(differences),
        bins=tuple(bin_networks(arrays)),
        notes=tuple(_write_notes(networks, collection, settings, correlations)),
    )


def _select_comparisons(networks: Networks, settings: StudySettings) -> list[tuple[str, str]]:
    """Return the pairs of measures to compare; by default each measure and trivial baseline.

    By default, what has no correlation with any target is left out.
    """
    kinds = networks.kinds
    if settings.compare is None:
        defined = [
            name
            for name in kinds
            if any(networks.correlates(name, target) for target in settings.targets)
        ]
        measures = [m for m in defined if kinds[m] == "measure" and not is_variant(m)]
        baselines = [name for name in defined if kinds[name] == "trivial"]
        return [(measure, baseline) for measure in measures for baseline in baselines]
    for pair in settings.compare:
        for name in pair:
            if name not in kinds:
                raise UsageError(
                    f"`compare` {','.join(pair)}: no measure has the name {name}. "
                    f"{suggest_name(name, kinds)}"
                )
    return list(settings.compare)


def _write_notes(
    networks: polars.DataFrame,
    collection: Collection | None,
    settings: StudySettings,
    correlations: Iterable[MeasureCorrelation],
) -> Iterator[str]:
    if collection is not None:
        yield from collection.notes
        yield from collection.note_copies()
    if settings.cluster is None and settings.resamples:
        yield (
            "networks are treated as independent; if some are not, such as checkpoints of one "
            "run, use `cluster` to name the tag whose value they share"
        )
    clusters = [row.clusters for row in correlations if row.pearson.interval is not None]
    if clusters and min(clusters) < _FEW_CLUSTERS:
        few = max(clusters) < _FEW_CLUSTERS
        yield (
            f"{'all' if few else 'some'} intervals are based on fewer than {_FEW_CLUSTERS} "
            f"clusters (as few as {min(clusters)}): they depend strongly on each cluster, are "
            "wide, and rarely show a difference"
        )
    if "convention" in networks.columns:
        conventions = networks["convention"].drop_nulls().unique(maintain_order=True)
        if len(conventions) > 1:
            yield f"the networks were scored with different conventions: {list_names(conventions)}"
    unweighted = [target for target in settings.targets if target not in settings.weighted]
    if settings.hyperparameters and unweighted:
        of = f" for {list_names(unweighted)}" if settings.weighted else ""
        yield (
            f"the sign error{of} gives all pairs equal weight: the certainty of their differences "
            "is known only for accuracies over a known number of test samples"
        )
