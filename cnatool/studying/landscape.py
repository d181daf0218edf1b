"""Checkpoints → the plane of their activations, and CNA over it (paper Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.observer import Silent
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.cna import cna
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.metrics.estimate import Estimate
from cnatool.scoring.results import LayerResult
from cnatool.scoring.split import finite
from cnatool.store.reader import as_paths, open_store
from cnatool.studying.find import find_stores, store_ids
from cnatool.studying.minibatch import gathered, same_minibatch, usable
from cnatool.studying.omissions import UNUSABLE, Omissions
from cnatool.studying.results import GridPoint, LandscapePoint, LandscapeResult
from cnatool.studying.series import NO_TAG_NOTE, no_place, series_of
from cnatool.studying.statistics.plane import check_points, principal_plane
from cnatool.studying.write import check_folder, write_results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import polars
    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.store.store import Store
    from cnatool.studying.minibatch import Minibatch
    from cnatool.studying.series import Series
    from cnatool.studying.statistics.plane import Plane

# The grid goes so far beyond the checkpoints, as a share of their extent.
_BEYOND = 0.2
_LARGEST_GRID = 200


@dataclass(frozen=True, slots=True)
class Landscape:
    """CNA over the plane of the first two principal components of the activations.

    Attributes
    ----------
    points : polars.DataFrame
        One row a checkpoint: ``run``, ``step``, ``id``, ``path``, ``x``, ``y``, ``captured``,
        ``cna``, ``cna_projected``; null where undefined.
    grid : polars.DataFrame
        One row a point of the grid: ``x``, ``y``, ``cna``.
    result : LandscapeResult
        The same as typed records, with all reasons.
    """

    points: polars.DataFrame
    grid: polars.DataFrame
    result: LandscapeResult


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
    """Give CNA over the plane in which the activations of checkpoints differ most (paper Fig. 5).

    A checkpoint is the vector of all activations of the layers that β is over, for all samples of
    one minibatch. The plane is that of the first two principal components of these vectors; a
    point of it stands for the activations that inverse PCA gives. β is linear in the activations,
    so that of a point follows from those of the checkpoints without them.

    Parameters
    ----------
    stores : str, Path or iterable of these
        Stores with whole activations, and folders of such. One that is missing, broken, or of
        another network or other data than most is left out and listed in the result, with the
        reason.
    order, by
        As of `cnatool.trajectory`.
    split : str, optional
        The split that the minibatch is of; by default ``train``, or the only one.
    samples : int
        Samples of the minibatch: the first ones of the split.
    grid : int
        Points of the grid along each axis.
    folder : str or Path, optional
        Where all results are written.
    convention, overrides, inputs
        As of `cnatool.score`.
    strict : bool
        Raise the error of the first store that cannot be used, rather than leave it out.
    observer : Observer, optional
        Told of progress.

    Returns
    -------
    Landscape

    Raises
    ------
    UsageError
        If a tag, a split, the convention or a field does not exist, or the order is not clear.
    DataError
        If fewer than three stores can be used, or no run has two checkpoints.
    MetricError
        If as many stores hold some samples or layers as others, or they do not span a plane.
    StoreWriteError
        If the folder cannot be written.
    CnatoolError, OSError
        If a store cannot be used, and `strict`.
    """
    if samples < 2:
        raise UsageError(f"--samples {samples}: at least 2 are needed.")
    if not 2 <= grid <= _LARGEST_GRID:
        raise UsageError(f"--grid {grid}: give from 2 to {_LARGEST_GRID} points.")
    named = Convention.named(convention, overrides)
    fields = named.fields
    observer = Silent() if observer is None else observer
    omissions = Omissions(observer, strict=strict)
    paths, nothing = find_stores([stores] if isinstance(stores, str | Path) else stores)
    omissions.extend(nothing)
    places = _places(paths, store_ids(paths), as_paths(inputs), order, by, omissions)
    _check_points(len([one for one in places if one.store is not None]), omissions)
    placed = series_of(
        [one.name for one in places],
        [None if one.store is None else one.store.record.tags for one in places],
        order=order,
        by=by,
    )
    opened = {number: one.store for number, one in enumerate(places) if one.store is not None}
    minibatch = same_minibatch(opened, split, samples, fields, omissions)
    _check_points(len(minibatch.splits), omissions)
    where = None if folder is None else Path(folder)
    if where is not None:
        check_folder(where)
    minibatch, gram, beta = _gathered(minibatch, fields, omissions, observer)
    series = placed.among(minibatch.numbers)
    names = [places[number].name for number in minibatch.numbers]
    plane = principal_plane(gram)

    def correlation(values: NDArray[np.float64]) -> Estimate:
        return _cna(minibatch.alpha, values, fields)

    points = _points(
        series,
        names,
        [str(split.store.path) for split in minibatch.splits],
        plane,
        beta,
        correlation,
    )
    result = LandscapeResult(
        schema="cnatool.landscape/1",
        convention=named,
        order=series.order,
        by=by,
        split=minibatch.split,
        samples=len(minibatch.alpha),
        fingerprint=minibatch.fingerprint,
        layers=tuple(
            LayerResult(number, layer.tensor.name, layer.operator, layer.depth)
            for number, layer in enumerate(minibatch.layers, start=1)
        ),
        dimension=minibatch.dimension,
        variance_shares=tuple(map(float, plane.shares)),
        points=tuple(points),
        grid_size=grid,
        grid=tuple(_grid(plane, beta, grid, correlation)),
        notes=tuple(_notes(series, minibatch, samples)),
        not_scored=tuple(omissions.stores),
    )
    found = Landscape(_points_frame(result), _grid_frame(result), result)
    if where is not None:
        tables = {"landscape_points": found.points, "landscape_grid": found.grid}
        write_results(where, tables, "landscape", result.to_json())
    return found


class _Place(NamedTuple):
    """A store that was given, by its name; None where it cannot be opened."""

    name: str
    store: Store | None


def _places(
    paths: Sequence[Path],
    names: Sequence[str],
    inputs: tuple[Path, ...],
    order: str | None,
    by: str | None,
    omissions: Omissions,
) -> list[_Place]:
    """Open all stores; those without a place in the series are left out altogether."""
    places = []
    for path, name in zip(paths, names, strict=True):
        store = None
        with omissions.catching(path):
            store = open_store(path, inputs)
        places.append(_Place(name, store))
    tags = [one.store.record.tags for one in places if one.store is not None]
    found = []
    for one in places:
        reason = None
        if one.store is not None:
            reason = no_place(one.store.record.tags, tags, order=order, by=by)
        if one.store is None or reason is None:
            found.append(one)
        else:
            omissions.add(one.store.path, MetricError(f"{one.store.path}: {reason}."))
    return found


def _check_points(points: int, omissions: Omissions) -> None:
    """Refuse too few checkpoints; where some were left out, with the first reason."""
    try:
        check_points(points)
    except MetricError as error:
        if omissions.stores:
            raise omissions.too_few(str(error).removesuffix(".")) from error
        raise


def _gathered(
    minibatch: Minibatch, fields: ConventionFields, omissions: Omissions, observer: Observer
) -> tuple[Minibatch, NDArray[np.float64], NDArray[np.float64]]:
    """Read all checkpoints, without those whose activations turn out to be unusable."""
    while True:
        try:
            return minibatch, *gathered(minibatch, fields, observer)
        except UNUSABLE:
            fewer = usable(minibatch, omissions)
            if len(fewer.splits) == len(minibatch.splits):
                raise
            minibatch = fewer
            _check_points(len(minibatch.splits), omissions)


def _cna(
    alpha: NDArray[np.float64], beta: NDArray[np.float64], fields: ConventionFields
) -> Estimate:
    found = cna(
        alpha,
        beta,
        form=fields.cna,
        window=fields.window,
        interval=fields.interval,
        level=fields.level,
        resamples=0,
        permutations=0,
        seed=fields.resample_seed,
        stream=0,
    )
    return Estimate(found.value, found.reason)


def _points(
    series: Series,
    names: list[str],
    paths: list[str],
    plane: Plane,
    beta: NDArray[np.float64],
    correlation: Callable[[NDArray[np.float64]], Estimate],
) -> Iterator[LandscapePoint]:
    mean, first, second = plane.images(beta)
    for run, step, number in series.placed:
        x, y = map(float, plane.coordinates[number])
        yield LandscapePoint(
            run=run,
            step=step,
            id=names[number],
            path=paths[number],
            x=x,
            y=y,
            captured=finite(plane.captured[number]),
            cna=correlation(beta[number]),
            cna_projected=correlation(mean + x * first + y * second),
        )


def _grid(
    plane: Plane,
    beta: NDArray[np.float64],
    size: int,
    correlation: Callable[[NDArray[np.float64]], Estimate],
) -> Iterator[GridPoint]:
    mean, first, second = plane.images(beta)
    low, high = plane.coordinates.min(axis=0), plane.coordinates.max(axis=0)
    beyond = _BEYOND * (high - low)
    across, up = np.linspace(low - beyond, high + beyond, size).T.tolist()
    for y in up:
        for x in across:
            yield GridPoint(x, y, correlation(mean + x * first + y * second))


def _notes(series: Series, minibatch: Minibatch, samples: int) -> Iterator[str]:
    if series.order is None:
        yield NO_TAG_NOTE
    if len(minibatch.alpha) < samples:
        yield (
            f"split {minibatch.split} has no more than {len(minibatch.alpha)} of the {samples} "
            "samples that were asked for"
        )


def _points_frame(result: LandscapeResult) -> polars.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [
            (
                *(one.run, one.step, one.id, one.path, one.x, one.y, one.captured),
                *(one.cna.value, one.cna_projected.value),
            )
            for one in result.points
        ],
        schema={
            "run": pl.String,
            "step": pl.Float64,
            "id": pl.String,
            "path": pl.String,
            "x": pl.Float64,
            "y": pl.Float64,
            "captured": pl.Float64,
            "cna": pl.Float64,
            "cna_projected": pl.Float64,
        },
        orient="row",
    )


def _grid_frame(result: LandscapeResult) -> polars.DataFrame:
    import polars as pl

    return pl.DataFrame(
        [(one.x, one.y, one.cna.value) for one in result.grid],
        schema={"x": pl.Float64, "y": pl.Float64, "cna": pl.Float64},
        orient="row",
    )
