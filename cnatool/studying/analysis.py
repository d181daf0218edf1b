"""Correlations of measures with test accuracy and with the gap, over a frame of networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.text import natural_order
from cnatool.metrics.correlation import is_constant
from cnatool.metrics.estimate import Estimate
from cnatool.studying.columns import (
    TARGETS,
    is_of_inputs,
    is_share,
    measure_kind,
    tag_column,
)
from cnatool.studying.hyperparameters import encode_levels
from cnatool.studying.results import (
    Bin,
    Difference,
    HyperparameterResult,
    MeasureCorrelation,
    StudyEstimate,
)
from cnatool.studying.statistics.curves import bin_size, quadratic_fit, split_into_bins
from cnatool.studying.statistics.granulated import find_coupled_pairs, granulated_kendall
from cnatool.studying.statistics.information import ConditionalInformation, normalised_information
from cnatool.studying.statistics.sign_error import SignError, sign_errors
from cnatool.studying.statistics.ties import merge_rounding
from cnatool.studying.statistics.weighted import (
    COEFFICIENTS,
    LEAST_CLUSTERS,
    draw_cluster_weights,
    expanded_interval,
    explain_few_clusters,
    weighted_coefficients,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars
    from numpy.typing import NDArray

    from cnatool.studying.results import MeasureKind, StudySettings

    # Takes (B, m) weights of m networks and returns K arrays of (B,) values.
    Statistics = Callable[[NDArray[np.float64]], Sequence[NDArray[np.float64]]]

LEAST_NETWORKS = 3
_NO_PAIRS = "no two networks differ in one hyperparameter alone"


class Resamples(NamedTuple):
    """K statistics of some networks, and of B resamples of their clusters.

    The resamples of equally many clusters are the same, so that statistics can be compared.
    """

    values: NDArray[np.float64]  # (K,)
    resamples: NDArray[np.float64] | None  # (K, B)
    clusters: int

    def __sub__(self, other: Resamples) -> Resamples:
        resamples = None
        if self.resamples is not None and other.resamples is not None:
            resamples = self.resamples - other.resamples
        return Resamples(self.values - other.values, resamples, self.clusters)

    def __abs__(self) -> Resamples:
        resamples = None if self.resamples is None else np.abs(self.resamples)
        return Resamples(np.abs(self.values), resamples, self.clusters)


@dataclass(frozen=True, slots=True)
class Networks:
    """The n networks of a study as arrays."""

    # Each column of numbers; NaN where a network has none
    values: Mapping[str, NDArray[np.float64]]
    kinds: Mapping[str, MeasureKind]  # the kind of each column that is a measure
    clusters: NDArray[np.intp]  # the cluster of each network
    # Level of each of the H hyperparameters, then of each tag that is held fixed
    levels: NDArray[np.intp]
    settings: StudySettings
    _coefficients: dict[tuple[bytes, str, str], Resamples] = field(default_factory=dict)

    def select_rows(self, *columns: str) -> NDArray[np.intp]:
        """Select the networks that have a number in each of these columns."""
        defined = [~np.isnan(self.values[column]) for column in columns]
        return np.flatnonzero(np.all(defined, axis=0))

    def explain_undefined(self, rows: NDArray[np.intp], *columns: str) -> str | None:
        """Explain why statistics of these columns are undefined for some networks, if they are."""
        if len(rows) < LEAST_NETWORKS:
            return f"at least {LEAST_NETWORKS} networks are needed, and there are {len(rows)}"
        for column in columns:
            if is_constant(self.values[column][rows]):
                why = ", as for networks with the same inputs" if is_of_inputs(column) else ""
                return f"{column} is the same for all {len(rows)} networks{why}"
        return None

    def correlates(self, measure: str, target: str) -> bool:
        """Whether a measure has a correlation with a target over all networks."""
        rows = self.select_rows(target, measure)
        return self.explain_undefined(rows, measure, target) is None

    def resample(self, rows: NDArray[np.intp], statistics: Statistics) -> Resamples:
        """Compute statistics of some networks, and of each resample of their clusters."""
        clusters = np.unique(self.clusters[rows], return_inverse=True)[1].ravel()
        number = int(clusters.max()) + 1
        values = np.stack(statistics(np.ones((1, len(rows)))))[:, 0]
        resamples, seed = self.settings.resamples, self.settings.seed
        if not resamples or number < LEAST_CLUSTERS:
            return Resamples(values, None, number)
        blocks = [
            np.stack(statistics(weights))
            for weights in draw_cluster_weights(clusters, resamples=resamples, seed=seed)
        ]
        return Resamples(values, np.concatenate(blocks, axis=1), number)

    def resample_coefficients(
        self, rows: NDArray[np.intp], target: str, measure: str, *, keep: bool = True
    ) -> Resamples:
        """Compute the correlation coefficients over some networks, and `keep` them for reuse."""
        key = (rows.tobytes(), target, measure)
        if key in self._coefficients:
            return self._coefficients[key]
        a, b = self.values[measure][rows], self.values[target][rows]
        coefficients = self.resample(rows, lambda weights: weighted_coefficients(a, b, weights))
        if keep:
            self._coefficients[key] = coefficients
        return coefficients

    def estimate(self, statistics: Resamples) -> list[StudyEstimate]:
        """Estimate each statistic with its interval."""
        if statistics.resamples is None:
            reason = "no resamples are drawn"
            if self.settings.resamples:
                reason = explain_few_clusters(statistics.clusters) or reason
            return [StudyEstimate(float(v), None, None, reason) for v in statistics.values]
        estimates = []
        for value, resamples in zip(statistics.values, statistics.resamples, strict=True):
            interval, interval_reason = expanded_interval(
                resamples, clusters=statistics.clusters, level=self.settings.level
            )
            estimates.append(StudyEstimate(float(value), interval, None, interval_reason))
        return estimates


def correlate(
    networks: Networks, target: str, measure: str, group: str | None, among: NDArray[np.intp]
) -> MeasureCorrelation:
    """Correlate a measure with a target over some networks, those of `group`."""
    rows = np.intersect1d(networks.select_rows(target, measure), among)
    reason = networks.explain_undefined(rows, measure, target)
    if reason is None:
        estimates = networks.estimate(
            networks.resample_coefficients(rows, target, measure, keep=group is None)
        )
    else:
        estimates = [StudyEstimate(None, None, reason)] * len(COEFFICIENTS)
    pearson, spearman, kendall_a, kendall_b = estimates
    return MeasureCorrelation(
        group,
        target,
        measure,
        networks.kinds[measure],
        len(rows),
        len(np.unique(networks.clusters[rows])),
        pearson,
        spearman,
        kendall_a,
        kendall_b,
        quadratic_fit(networks.values[measure][rows], networks.values[target][rows]),
    )


def compare_measures(
    networks: Networks, target: str, first: str, second: str
) -> Iterator[Difference]:
    """Compare how two measures correlate with a target, by each coefficient.

    Both are computed over the same networks, and in the same resamples.
    """
    rows = networks.select_rows(target, first, second)
    reason = networks.explain_undefined(rows, first, second, target)
    if reason is None:
        a, b = (networks.resample_coefficients(rows, target, name) for name in (first, second))
        signed, absolute = networks.estimate(a - b), networks.estimate(abs(a) - abs(b))
    else:
        signed = absolute = [StudyEstimate(None, None, reason)] * len(COEFFICIENTS)
    clusters = len(np.unique(networks.clusters[rows]))
    for name, difference, magnitude in zip(COEFFICIENTS, signed, absolute, strict=True):
        yield Difference(target, first, second, name, len(rows), clusters, difference, magnitude)


def control_for_hyperparameters(
    networks: Networks, target: str, measure: str
) -> HyperparameterResult:
    """Compute what a measure explains of a target beyond the hyperparameters: Ψ, K, sign error."""
    settings = networks.settings
    rows = networks.select_rows(target, measure)
    names = settings.hyperparameters
    reason = networks.explain_undefined(rows, measure, target)
    if reason is not None:
        return HyperparameterResult(
            target,
            measure,
            networks.kinds[measure],
            len(rows),
            StudyEstimate(None, None, reason),
            {},
            ConditionalInformation(None, reason=reason),
            SignError(None, None, None, 0, 0, reason),
            {},
        )
    a, b = networks.values[measure][rows], networks.values[target][rows]
    levels = networks.levels[rows]
    held = levels.shape[1] - len(names)
    parts = granulated_kendall(a, b, levels, np.ones((1, len(rows))), held=held)[1][0]
    if np.isnan(parts).all():
        psi = StudyEstimate(None, None, _NO_PAIRS)
    else:
        (psi,) = networks.estimate(
            networks.resample(rows, lambda w: [granulated_kendall(a, b, levels, w, held=held)[0]])
        )
    errors = sign_errors(
        a,
        b,
        levels,
        {name: find_coupled_pairs(levels, axis) for axis, name in enumerate(names)},
        samples=settings.test_samples if target in settings.weighted else None,
        least_pairs=settings.least_pairs,
    )
    undefined = Estimate.undefined("no two networks differ in this hyperparameter alone")
    return HyperparameterResult(
        target,
        measure,
        networks.kinds[measure],
        len(rows),
        psi,
        {
            name: undefined if np.isnan(part) else Estimate(float(part))
            for name, part in zip(names, parts, strict=True)
        },
        normalised_information(a, b, levels[:, : len(names)], names),
        errors[None],
        {name: errors[name] for name in names},
    )


def bin_networks(networks: Networks) -> list[Bin]:
    """Average the measures in bins of networks by rising test accuracy (paper Fig. 7)."""
    accuracy = networks.values.get(TARGETS[0])
    if accuracy is None:
        return []
    rows = networks.select_rows(TARGETS[0])
    targets = (name for name in networks.settings.targets if name != TARGETS[0])
    names = (*networks.kinds, *targets)
    return [
        Bin(
            len(members),
            float(accuracy[rows[members]].mean()),
            {name: _mean(networks.values[name][rows[members]]) for name in names},
        )
        for members in split_into_bins(accuracy[rows], bin_size(len(rows)))
    ]


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def to_arrays(networks: polars.DataFrame, settings: StudySettings) -> Networks:
    """Convert a frame of networks to arrays."""
    import polars as pl

    values = {
        name: merge_rounding(
            networks[name].fill_null(float("nan")).to_numpy().astype(np.float64),
            is_share=is_share(name),
        )
        for name, kind in networks.schema.items()
        if kind == pl.Float64
    }
    kinds: dict[str, MeasureKind] = {}
    for name in values:
        kind = None if name in settings.targets else measure_kind(name)
        if kind is not None and not _repeats_cna(name, values):
            kinds[name] = kind
    order = ("measure", "norm", "trivial")
    kinds = dict(sorted(kinds.items(), key=lambda item: order.index(item[1])))
    clusters = np.arange(len(networks))
    if settings.cluster is not None:
        clusters = encode_levels(networks[tag_column(settings.cluster)].to_list())
    levels = [
        encode_levels(networks[tag_column(tag)].to_list())
        for tag in (*settings.hyperparameters, *settings.held)
    ]
    no_levels = np.empty((len(networks), 0), np.intp)
    return Networks(
        values, kinds, clusters, np.stack(levels, axis=1) if levels else no_levels, settings
    )


def _repeats_cna(name: str, values: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether a column is the form of CNA that the convention calls CNA."""
    whole, cna, form = name.rpartition(".cna.")
    return bool(cna and form) and np.array_equal(
        values[name], values.get(f"{whole}.cna", np.empty(0)), equal_nan=True
    )


def group_networks(
    networks: polars.DataFrame, by: str | None
) -> dict[str | None, NDArray[np.intp]]:
    """Return the rows of all networks, under None, and those of each value of the tag `by`."""
    groups: dict[str | None, NDArray[np.intp]] = {None: np.arange(len(networks))}
    if by is not None:
        texts = networks[tag_column(by)].to_list()
        for value in sorted({text for text in texts if text is not None}, key=natural_order):
            groups[value] = np.array([i for i, text in enumerate(texts) if text == value], np.intp)
    return groups
