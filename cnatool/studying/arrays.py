"""A frame of networks → arrays, and the networks of each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool.studying.analysis import Networks
from cnatool.studying.columns import is_share, measure_kind, tag_column
from cnatool.studying.hyperparameters import tag_levels
from cnatool.studying.ties import without_rounding
from cnatool.text import natural_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars
    from numpy.typing import NDArray

    from cnatool.studying.results import MeasureKind, StudySettings

__all__ = ["network_groups", "networks_arrays"]


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
