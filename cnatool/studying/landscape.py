"""The principal plane of checkpoints' activations, and CNA over it (paper Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._util.html import shown_by
from cnatool._util.observer import Silent
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.cna import cna
from cnatool.metrics.convention import NO_OVERRIDES, NO_RESAMPLES, Convention
from cnatool.metrics.estimate import Estimate
from cnatool.scoring.split import finite_or_none
from cnatool.scoring.split_selection import layer_results
from cnatool.store.reader import as_paths, open_store
from cnatool.studying.find import find_stores, name_stores
from cnatool.studying.minibatch import drop_unusable, read_minibatch, select_minibatch
from cnatool.studying.omissions import UNUSABLE, Omissions
from cnatool.studying.results import GridPoint, LandscapePoint, LandscapeResult
from cnatool.studying.series import NO_TAG_NOTE, explain_exclusion, order_checkpoints
from cnatool.studying.statistics.plane import check_points, principal_plane
from cnatool.studying.write import check_folder, write_results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import polars
    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.store.store import Store
    from cnatool.studying.find import FoundStores
    from cnatool.studying.minibatch import Minibatch
    from cnatool.studying.series import Series
    from cnatool.studying.statistics.plane import Plane

# Margin of the grid around the checkpoints, as a share of their extent.
_MARGIN = 0.2
_LARGEST_GRID = 200


@dataclass(frozen=True, slots=True)
class Landscape:
    """CNA over the plane of the first two principal components of the activations.

    Attributes
    ----------
    points : polars.DataFrame
        One row per checkpoint: ``run``, ``step``, ``id``, ``path``, ``x``, ``y``, ``captured``,
        ``cna``, ``cna_projected``; null where undefined.
    grid : polars.DataFrame
        One row per point of the grid: ``x``, ``y``, ``cna``.
    result : LandscapeResult
        The same as typed records, with all reasons.
    """

    points: polars.DataFrame
    grid: polars.DataFrame
    result: LandscapeResult

    def __repr__(self) -> str:
        return repr(self.result)

    _repr_html_ = shown_by("cnatool.studying.html", "landscape_html")


def landscape(
    stores: str | Path | Iterable[str | Path],
    *,
    order: str | None = None,
    by: str | None = None,
    split: str | None = None,
    samples: int = 100,
    grid: int = 25,
    folder: str | Path | None = None,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    inputs: str | Path | Iterable[str | Path] = (),
    strict: bool = False,
    observer: Observer | None = None,
) -> Landscape:
    """Compute CNA over the plane in which the activations of checkpoints differ most (Fig. 5).

    A checkpoint is represented by the vector of all activations of the layers that β uses, for all
    samples of one minibatch. The plane is spanned by the first two principal components of these
    vectors; a point in it represents the activations that inverse PCA gives. β is linear in the
    activations, so β at a point follows from β at the checkpoints.

    Parameters
    ----------
    stores : str, Path or iterable of these
        Stores with full activations, and folders of such stores. A store that is missing or
        damaged, or that does not have the network or the data of most stores, is skipped and listed
        in the result with the reason.
    order, by
        As in `cnatool.trajectory`.
    split : str, optional
        The split from which the minibatch is taken; by default ``train``, or the only one.
    samples : int
        Size of the minibatch, the first samples of the split.
    grid : int
        Number of grid points along each axis.
    folder : str or Path, optional
        Where all results are written.
    convention, overrides, inputs
        As in `cnatool.score`.
    strict : bool
        Raise the error of the first store that cannot be used instead of skipping it.
    observer : Observer, optional
        Receives notes and progress.

    Returns
    -------
    Landscape

    Raises
    ------
    UsageError
        If a tag, a split, the convention or a field does not exist, or the order is ambiguous.
    DataError
        If fewer than three stores can be used, or no run has two checkpoints.
    MetricError
        If no majority of the stores shares layers and samples, or the stores do not span a plane.
    StoreWriteError
        If the folder cannot be written.
    CnatoolError, OSError
        If a store cannot be used and `strict` is set.
    """
    if samples < 2:
        raise UsageError(f"`samples` {samples}: at least 2 are needed.")
    if not 2 <= grid <= _LARGEST_GRID:
        raise UsageError(f"`grid` {grid}: give from 2 to {_LARGEST_GRID} points.")
    named = Convention.named(convention, overrides)
    fields = named.fields
    observer = Silent() if observer is None else observer
    omissions = Omissions(observer, strict=strict)
    found = find_stores([stores] if isinstance(stores, str | Path) else stores)
    opened = _open_stores(found, as_paths(inputs), order, by, omissions)
    usable = {i: store for i, (_, store) in enumerate(opened) if store is not None}
    _check_points(len(usable), omissions)
    whole = order_checkpoints(
        [name for name, _ in opened],
        [None if store is None else store.record.tags for _, store in opened],
        order=order,
        by=by,
    )
    minibatch = select_minibatch(usable, split, samples, fields, omissions)
    _check_points(len(minibatch.splits), omissions)
    where = None if folder is None else Path(folder)
    if where is not None:
        check_folder(where)
    minibatch, gram, beta = _read_usable(minibatch, fields, omissions, observer)
    series = whole.select(minibatch.numbers)
    plane = principal_plane(gram)

    def correlate(values: NDArray[np.float64]) -> Estimate:
        return _estimate_cna(minibatch.alpha, values, fields)

    names = [opened[number][0] for number in minibatch.numbers]
    paths = [str(split.store.path) for split in minibatch.splits]
    result = LandscapeResult(
        schema="cnatool.landscape/1",
        convention=named,
        order=series.order,
        by=by,
        split=minibatch.split,
        samples=len(minibatch.alpha),
        fingerprint=minibatch.fingerprint,
        layers=layer_results(minibatch.layers),
        dimension=minibatch.dimension,
        variance_shares=tuple(map(float, plane.shares)),
        points=tuple(_make_points(series, names, paths, plane, beta, correlate)),
        grid_size=grid,
        grid=tuple(_make_grid(plane, beta, grid, correlate)),
        notes=(*found.notes, *_write_notes(series, minibatch, samples)),
        not_scored=tuple(omissions.stores),
    )
    points_frame, grid_frame = _build_frames(result)
    if where is not None:
        tables = {"landscape_points": points_frame, "landscape_grid": grid_frame}
        write_results(where, tables, "landscape", result.to_json())
    return Landscape(points_frame, grid_frame, result)


def _open_stores(
    found: FoundStores,
    inputs: tuple[Path, ...],
    order: str | None,
    by: str | None,
    omissions: Omissions,
) -> list[tuple[str, Store | None]]:
    """Open all stores, by name; None for one that cannot be opened.

    Stores that have no place in the series are left out altogether.
    """
    omissions.extend(found.rejected)
    opened: list[tuple[str, Store | None]] = []
    for path, name in zip(found.stores, name_stores(found.stores), strict=True):
        store = None
        with omissions.catch(path):
            store = open_store(path, inputs)
        opened.append((name, store))
    tags = [store.record.tags for _, store in opened if store is not None]
    kept = []
    for name, store in opened:
        reason = None
        if store is not None:
            reason = explain_exclusion(store.record.tags, tags, order=order, by=by)
        if store is None or reason is None:
            kept.append((name, store))
        else:
            omissions.add(store.path, MetricError(f"{store.path}: {reason}."))
    return kept


def _check_points(points: int, omissions: Omissions) -> None:
    """Raise an error for too few checkpoints, with the reason of the first omission, if any."""
    try:
        check_points(points)
    except MetricError as error:
        if omissions.stores:
            raise omissions.too_few(str(error).removesuffix(".")) from error
        raise


def _read_usable(
    minibatch: Minibatch, fields: ConventionFields, omissions: Omissions, observer: Observer
) -> tuple[Minibatch, NDArray[np.float64], NDArray[np.float64]]:
    """Read all checkpoints; leave out those whose activations turn out to be unusable."""
    while True:
        try:
            return minibatch, *read_minibatch(minibatch, fields, observer)
        except UNUSABLE:
            fewer = drop_unusable(minibatch, omissions)
            if len(fewer.splits) == len(minibatch.splits):
                raise
            minibatch = fewer
            _check_points(len(minibatch.splits), omissions)


def _estimate_cna(
    alpha: NDArray[np.float64], beta: NDArray[np.float64], fields: ConventionFields
) -> Estimate:
    """Compute CNA without interval and test."""
    estimate = cna(alpha, beta, msgspec.structs.replace(fields, **NO_RESAMPLES))
    return Estimate(estimate.value, estimate.reason)


def _make_points(
    series: Series,
    names: Sequence[str],
    paths: Sequence[str],
    plane: Plane,
    beta: NDArray[np.float64],
    correlate: Callable[[NDArray[np.float64]], Estimate],
) -> Iterator[LandscapePoint]:
    mean, first, second = plane.images(beta)
    for run, step, number in series.checkpoints:
        x, y = map(float, plane.coordinates[number])
        yield LandscapePoint(
            run=run,
            step=step,
            id=names[number],
            path=paths[number],
            x=x,
            y=y,
            captured=finite_or_none(plane.captured[number]),
            cna=correlate(beta[number]),
            cna_projected=correlate(mean + x * first + y * second),
        )


def _make_grid(
    plane: Plane,
    beta: NDArray[np.float64],
    size: int,
    correlate: Callable[[NDArray[np.float64]], Estimate],
) -> Iterator[GridPoint]:
    mean, first, second = plane.images(beta)
    low, high = plane.coordinates.min(axis=0), plane.coordinates.max(axis=0)
    margin = _MARGIN * (high - low)
    xs, ys = np.linspace(low - margin, high + margin, size).T.tolist()
    for y in ys:
        for x in xs:
            yield GridPoint(x, y, correlate(mean + x * first + y * second))


def _write_notes(series: Series, minibatch: Minibatch, samples: int) -> Iterator[str]:
    if series.order is None:
        yield NO_TAG_NOTE
    if len(minibatch.alpha) < samples:
        yield (
            f"split {minibatch.split} has only {len(minibatch.alpha)} of the {samples} samples "
            "asked for"
        )


def _build_frames(result: LandscapeResult) -> tuple[polars.DataFrame, polars.DataFrame]:
    """Build the frame of checkpoints and the frame of the grid."""
    import polars as pl

    texts = dict.fromkeys(("id", "path"), pl.String)
    numbers = dict.fromkeys(("x", "y", "captured", "cna", "cna_projected"), pl.Float64)
    points = pl.DataFrame(
        [
            (
                *(point.run, point.step, point.id, point.path, point.x, point.y, point.captured),
                *(point.cna.value, point.cna_projected.value),
            )
            for point in result.points
        ],
        schema={"run": pl.String, "step": pl.Float64, **texts, **numbers},
        orient="row",
    )
    grid = pl.DataFrame(
        [(point.x, point.y, point.cna.value) for point in result.grid],
        schema={"x": pl.Float64, "y": pl.Float64, "cna": pl.Float64},
        orient="row",
    )
    return points, grid
