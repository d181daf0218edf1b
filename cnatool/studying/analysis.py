"""A frame of networks → how measures go with test accuracy and with the gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.text import natural_order
from cnatool.metrics.correlation import is_constant
from cnatool.metrics.estimate import Estimate
from cnatool.studying.columns import TARGETS, is_share, measure_kind, tag_column
from cnatool.studying.hyperparameters import tag_levels
from cnatool.studying.results import (
    Bin,
    Difference,
    HyperparameterResult,
    MeasureCorrelation,
    StudyEstimate,
)
from cnatool.studying.statistics.curves import bins_by, networks_a_bin, quadratic_fit
from cnatool.studying.statistics.granulated import coupled_pairs, granulated_kendall
from cnatool.studying.statistics.information import ConditionalInformation, least_information
from cnatool.studying.statistics.sign_error import SignError, sign_errors
from cnatool.studying.statistics.ties import without_rounding
from cnatool.studying.statistics.weighted import (
    COEFFICIENTS,
    cluster_weights,
    percentile_interval,
    weighted_coefficients,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.studying.results import MeasureKind

    Statistics = Callable[[NDArray[np.float64]], Sequence[NDArray[np.float64]]]

    import polars
    from numpy.typing import NDArray

    from cnatool.studying.results import StudySettings

_LEAST_NETWORKS = 3


class Resampled(NamedTuple):
    """K statistics of some networks, and of each of B resamples.

    The resamples of the same number of clusters are the same, so that statistics can be compared.
    """

    values: NDArray[np.float64]
    resamples: NDArray[np.float64] | None
    clusters: int


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a study as arrays; n of them.

    Attributes
    ----------
    values : mapping of str to (n,) float64 array
        Each column of numbers; NaN where a network has none.
    kinds : mapping of str to str
        The columns that are measures, and of which kind.
    clusters : (n,) array of int
        The cluster of each network.
    levels : (n, H + held) array of int
        The value of each hyperparameter and of each tag that is held fixed, as a number.
    hyperparameters : tuple of str
        The H hyperparameters.
    resamples, seed, level
        Of the bootstrap.
    kept : dict
        Coefficients that are needed again.
    """

    values: Mapping[str, NDArray[np.float64]]
    kinds: Mapping[str, MeasureKind]
    clusters: NDArray[np.intp]
    levels: NDArray[np.intp]
    hyperparameters: tuple[str, ...]
    resamples: int
    seed: int
    level: float
    kept: dict[tuple[bytes, str, str], Resampled] = field(default_factory=dict)

    def common(self, *columns: str) -> NDArray[np.intp]:
        """Give the networks that have all of these numbers."""
        there = [~np.isnan(self.values[column]) for column in columns]
        return np.flatnonzero(np.all(there, axis=0))

    def reason(self, rows: NDArray[np.intp], *columns: str) -> str | None:
        """Say why nothing can be told of these columns over these networks, if so."""
        if len(rows) < _LEAST_NETWORKS:
            return f"at least {_LEAST_NETWORKS} networks are needed, and there are {len(rows)}"
        for column in columns:
            if is_constant(self.values[column][rows]):
                return f"{column} is the same for all {len(rows)} networks"
        return None

    def clusters_of(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Give the cluster of each of some networks, numbered from 0 on."""
        return np.unique(self.clusters[rows], return_inverse=True)[1].ravel()

    def resampled(self, rows: NDArray[np.intp], statistics: Statistics) -> Resampled:
        """Give statistics of some networks, and of each resample of their clusters.

        Parameters
        ----------
        rows : (m,) array of int
            The networks.
        statistics : callable
            Takes (B, m) weights and gives K arrays of (B,) values.
        """
        clusters = self.clusters_of(rows)
        values = np.stack(statistics(np.ones((1, len(rows)))))[:, 0]
        if not self.resamples:
            return Resampled(values, None, int(clusters.max()) + 1)
        blocks = [
            np.stack(statistics(weights))
            for weights in cluster_weights(clusters, resamples=self.resamples, seed=self.seed)
        ]
        return Resampled(values, np.concatenate(blocks, axis=1), int(clusters.max()) + 1)

    def coefficients(
        self, rows: NDArray[np.intp], target: str, measure: str, *, keep: bool = False
    ) -> Resampled:
        """Give the correlation coefficients over some networks; `keep` them for the next time."""
        key = (rows.tobytes(), target, measure)
        if key in self.kept:
            return self.kept[key]
        a, b = self.values[measure][rows], self.values[target][rows]
        found = self.resampled(rows, lambda w: weighted_coefficients(a, b, w))
        if keep:
            self.kept[key] = found
        return found

    def estimates(self, found: Resampled) -> list[StudyEstimate]:
        """Give each statistic with its interval."""
        if found.resamples is None:
            return [
                StudyEstimate(float(v), None, None, "no resamples are drawn") for v in found.values
            ]
        estimates = []
        for value, resamples in zip(found.values, found.resamples, strict=True):
            interval, reason = percentile_interval(
                resamples, clusters=found.clusters, level=self.level
            )
            estimates.append(StudyEstimate(float(value), interval, None, reason))
        return estimates


def correlated(
    networks: Networks, target: str, measure: str, group: str | None, among: NDArray[np.intp]
) -> MeasureCorrelation:
    """Correlate a measure with a target over some networks, those of `group`."""
    rows = np.intersect1d(networks.common(target, measure), among)
    reason = networks.reason(rows, measure, target)
    a, b = networks.values[measure][rows], networks.values[target][rows]
    if reason is None:
        found = networks.estimates(networks.coefficients(rows, target, measure, keep=group is None))
    else:
        found = [StudyEstimate(None, None, reason)] * len(COEFFICIENTS)
    pearson, spearman, kendall_a, kendall_b = found
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
        quadratic_fit(a, b),
    )


def difference(networks: Networks, target: str, first: str, second: str) -> Iterator[Difference]:
    """Compare how two measures correlate with a target, by each coefficient.

    Both are taken of the same networks, and in the same resamples.
    """
    rows = networks.common(target, first, second)
    reason = networks.reason(rows, first, second, target)
    if reason is None:
        one, other = (networks.coefficients(rows, target, name) for name in (first, second))
        of_values = networks.estimates(_minus(one, other))
        of_magnitudes = networks.estimates(_minus(_magnitude(one), _magnitude(other)))
    else:
        of_values = of_magnitudes = [StudyEstimate(None, None, reason)] * len(COEFFICIENTS)
    clusters = len(np.unique(networks.clusters[rows]))
    for name, signed, unsigned in zip(COEFFICIENTS, of_values, of_magnitudes, strict=True):
        yield Difference(target, first, second, name, len(rows), clusters, signed, unsigned)


def _minus(one: Resampled, other: Resampled) -> Resampled:
    resamples = None
    if one.resamples is not None and other.resamples is not None:
        resamples = one.resamples - other.resamples
    return Resampled(one.values - other.values, resamples, one.clusters)


def _magnitude(found: Resampled) -> Resampled:
    resamples = None if found.resamples is None else np.abs(found.resamples)
    return Resampled(np.abs(found.values), resamples, found.clusters)


def told_beyond(
    networks: Networks,
    target: str,
    measure: str,
    *,
    samples: int | None,
    least_pairs: float,
) -> HyperparameterResult:
    """Say what a measure tells of a target beyond the hyperparameters: Ψ, K and the sign error."""
    rows = networks.common(target, measure)
    names = networks.hyperparameters
    reason = networks.reason(rows, measure, target)
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
    axes = [coupled_pairs(levels, axis) for axis in range(len(names))]
    held = levels.shape[1] - len(names)
    parts = granulated_kendall(a, b, levels, np.ones((1, len(rows))), held=held)[1][0]
    nothing = "no two networks differ in this hyperparameter alone"
    if np.isnan(parts).all():
        psi = StudyEstimate(None, None, "no two networks differ in one hyperparameter alone")
    else:
        (psi,) = networks.estimates(
            networks.resampled(rows, lambda w: [granulated_kendall(a, b, levels, w, held=held)[0]])
        )
    errors = sign_errors(
        a,
        b,
        levels,
        dict(zip(names, axes, strict=True)),
        samples=samples,
        least_pairs=least_pairs,
    )
    return HyperparameterResult(
        target,
        measure,
        networks.kinds[measure],
        len(rows),
        psi,
        {
            name: Estimate.undefined(nothing) if np.isnan(part) else Estimate(float(part))
            for name, part in zip(names, parts, strict=True)
        },
        least_information(a, b, levels[:, : len(names)], names),
        errors[None],
        {name: errors[name] for name in names},
    )


def binned(networks: Networks) -> list[Bin]:
    """Average the measures in bins of networks by rising test accuracy (paper Fig. 7)."""
    accuracy = networks.values.get(TARGETS[0])
    if accuracy is None:
        return []
    rows = networks.common(TARGETS[0])
    return [
        Bin(
            len(places),
            float(accuracy[rows[places]].mean()),
            {
                name: _mean(networks.values[name][rows[places]])
                for name in (*networks.kinds, *(t for t in TARGETS[1:] if t in networks.values))
            },
        )
        for places in bins_by(accuracy[rows], networks_a_bin(len(rows)))
    ]


def _mean(values: NDArray[np.float64]) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def networks_arrays(networks: polars.DataFrame, settings: StudySettings) -> Networks:
    """Give a frame of networks as arrays."""
    import polars as pl

    values = {
        name: without_rounding(
            networks[name].fill_null(float("nan")).to_numpy().astype(np.float64),
            is_share=is_share(name),
        )
        for name, kind in networks.schema.items()
        if kind == pl.Float64
    }
    kinds: dict[str, MeasureKind] = {}
    for name in values:
        kind = measure_kind(name)
        if kind is not None and not _repeats(name, values):
            kinds[name] = kind
    order = ("measure", "norm", "trivial")
    kinds = dict(sorted(kinds.items(), key=lambda item: order.index(item[1])))
    clusters = np.arange(len(networks))
    if settings.cluster is not None:
        clusters = tag_levels(networks[tag_column(settings.cluster)].to_list())
    levels = [
        tag_levels(networks[tag_column(tag)].to_list())
        for tag in (*settings.hyperparameters, *settings.held)
    ]
    return Networks(
        values=values,
        kinds=kinds,
        clusters=clusters,
        levels=np.stack(levels, axis=1) if levels else np.empty((len(networks), 0), np.intp),
        hyperparameters=settings.hyperparameters,
        resamples=settings.resamples,
        seed=settings.seed,
        level=settings.level,
    )


def _repeats(name: str, values: Mapping[str, NDArray[np.float64]]) -> bool:
    """Say whether this is the form of CNA that the convention calls CNA."""
    whole, cna, form = name.rpartition(".cna.")
    return bool(cna and form) and np.array_equal(
        values[name], values.get(f"{whole}.cna", np.empty(0)), equal_nan=True
    )


def network_groups(
    networks: polars.DataFrame, by: str | None
) -> dict[str | None, NDArray[np.intp]]:
    """Give the networks of each group: all of them, and those of each value of the tag."""
    groups: dict[str | None, NDArray[np.intp]] = {None: np.arange(len(networks))}
    if by is not None:
        texts = networks[tag_column(by)].to_list()
        for value in sorted({text for text in texts if text is not None}, key=natural_order):
            groups[value] = np.array([i for i, text in enumerate(texts) if text == value], np.intp)
    return groups
