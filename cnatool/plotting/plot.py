"""Charts of stores, studies, trajectories and landscapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cnatool._util.observer import Silent
from cnatool._util.text import suggest_name
from cnatool.errors import UsageError
from cnatool.metrics.convention import NO_OVERRIDES
from cnatool.plotting.files import check_altair
from cnatool.store.missing_rows import describe_missing_rows
from cnatool.store.reader import as_paths, open_store
from cnatool.store.store import Store
from cnatool.studying.find import find_stores
from cnatool.studying.landscape import Landscape
from cnatool.studying.omissions import UNUSABLE, Omissions
from cnatool.studying.read import list_results, read_results
from cnatool.studying.results import NotScored
from cnatool.studying.study import Study
from cnatool.studying.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool._util.observer import Observer
    from cnatool.plotting.figure import Figure, Options, SourceKind
    from cnatool.plotting.style import Chart
    from cnatool.studying.checksums import ResultKind

    Source: TypeAlias = str | Path | Store | Study | Trajectory | Landscape

_LEFT_OUT = "not_scored"
_MOST_STORES = 12  # panels on a page
_MOST_PIXELS = 10000
_SOURCES: Mapping[SourceKind, str] = {
    "store": "a store: `dump(MODEL, DATA, STORE)`",
    "study": "the folder of a study: `study(..., folder=DIR)`",
    "trajectory": "the folder of a trajectory: `trajectory(..., folder=DIR)`",
    "landscape": "the folder of a landscape: `landscape(..., folder=DIR)`",
}
_RESULTS: Mapping[type, ResultKind] = {
    Study: "study",
    Trajectory: "trajectory",
    Landscape: "landscape",
}


def plot(
    source: Source | Iterable[Source],
    figure: str,
    *,
    test: str | Path | Store | None = None,
    convention: str | None = None,
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    split: str | None = None,
    sample: Sequence[str] = (),
    measure: Sequence[str] = (),
    by: str | None = None,
    order: str | None = None,
    coefficient: str | None = None,
    width: float | None = None,
    height: float | None = None,
    strict: bool = False,
    observer: Observer | None = None,
) -> Chart:
    """Draw a figure of stores, a study, a trajectory or a landscape.

    Parameters
    ----------
    source : str, Path, Store, Study, Trajectory, Landscape, or iterable of these
        Stores, folders of stores, or one study, trajectory or landscape, or the folder of one.
    figure : str
        For stores ``depth-profile``, ``alpha-beta``, ``area``, ``error-by-alpha``; for a study
        ``trajectory``, ``bins``, ``gap``, ``measures``; for a trajectory ``trajectory``,
        ``error-by-alpha``; for a landscape ``landscape``.
    test, convention, overrides, output, inputs
        As in `cnatool.score`, for figures of stores; a study has its own convention.
    split : str, optional
        Draw only this split.
    sample : sequence of str
        Ids of samples that ``depth-profile`` draws.
    measure : sequence of str
        Columns of the study's networks that ``bins``, ``gap`` and ``measures`` draw.
    by : str, optional
        The tag that colours networks, or separates runs.
    order : str, optional
        The tag whose value is the step, a number, for ``trajectory`` of a study; by default as in
        `cnatool.trajectory`.
    coefficient : {"pearson", "spearman", "kendall_a", "kendall_b"}, optional
        The correlation coefficient that ``measures`` draws.
    width, height : float, optional
        Size of one panel in pixels, 96 per inch.
    strict : bool
        Raise the error of the first of several stores that cannot be drawn instead of skipping it.
    observer : Observer, optional
        Receives notes if a folder of results has no checksums, and on stores that are skipped.

    Returns
    -------
    altair chart
        A notebook displays it; `cnatool plot` writes it to a file. If there are several stores,
        those that cannot be drawn are skipped and listed in ``chart.usermeta``, which `not_scored`
        reads.

    Raises
    ------
    UsageError
        If there is no such figure, it cannot be drawn from this source, or it does not have an
        option; if Altair is not installed.
    DataError, MetricError, NotAStoreError
        If the source lacks what the figure needs, or cannot be read.
    CnatoolError, OSError
        If one of several stores cannot be drawn and `strict` is set.
    """
    from cnatool.plotting.figure import Options

    check_altair()
    from cnatool.plotting.table import FIGURES

    rows = [row for row in FIGURES if row.name == figure]
    if not rows:
        known = dict.fromkeys(row.name for row in FIGURES)
        raise UsageError(f"`figure` {figure}: no such figure. {suggest_name(figure, known)}")
    input_stores = as_paths(inputs)
    kinds = [row.kind for row in rows]
    observer = Silent() if observer is None else observer
    omissions = Omissions(observer, strict=strict)
    kind, sources = _open_sources(source, kinds, input_stores, observer, omissions)
    row = next((row for row in rows if row.kind == kind), None)
    if row is None:
        others = ", ".join(other.name for other in FIGURES if other.kind == kind)
        raise UsageError(
            f"`figure` {figure} is drawn from {' or '.join(_SOURCES[kind] for kind in kinds)}. "
            f"This is a {kind}, for which there are {others}."
        )
    options = Options(
        width=row.width if width is None else width,
        height=row.height if height is None else height,
        test=open_store(test, input_stores) if isinstance(test, str | Path) else test,
        convention=convention,
        overrides=overrides,
        output=output,
        inputs=input_stores,
        split=split,
        sample=tuple(sample),
        measure=tuple(measure),
        by=by,
        order=order,
        coefficient=coefficient,
    )
    _check_options(options, row)
    chart = _draw(row, sources, options, omissions)
    if kind == "store":
        test_stores = [options.test] if isinstance(options.test, Store) else []
        _note_unfinished([*sources, *test_stores], omissions, observer)
    if omissions.stores:
        chart = chart.properties(usermeta={_LEFT_OUT: msgspec.to_builtins(omissions.stores)})
    return chart


def _note_unfinished(stores: Iterable[Store], omissions: Omissions, observer: Observer) -> None:
    """Note which of the stores that were drawn lack rows."""
    left_out = {store.path for store in omissions.stores}
    for store in stores:
        unfinished = describe_missing_rows(store)
        if unfinished is not None and str(store.path) not in left_out:
            observer.note(unfinished)


def not_scored(chart: Chart) -> list[NotScored]:
    """List the stores that were left out of a chart."""
    if not isinstance(chart.usermeta, dict):
        return []
    return msgspec.convert(chart.usermeta.get(_LEFT_OUT, []), list[NotScored])


def _draw(figure: Figure, sources: Sequence[Any], options: Options, omissions: Omissions) -> Chart:
    """Draw the sources; of several stores, leave out those that cannot be drawn."""
    try:
        return figure.draw(sources, options)
    except UNUSABLE:
        if len(sources) == 1:
            raise
    kept = []
    for store in sources:
        with omissions.catch(store.path):
            figure.draw([store], options)
            kept.append(store)
    if not kept:
        raise omissions.too_few("no store could be drawn")
    return figure.draw(kept, options)


def _check_options(options: Options, figure: Figure) -> None:
    """Raise `UsageError` for options that the figure does not have, and for impossible sizes."""
    for name in (field.name for field in dataclasses.fields(options)):
        value = getattr(options, name)
        if name in ("width", "height"):
            if value != getattr(figure, name) and not 0 < value <= _MOST_PIXELS:
                raise UsageError(f"`{name}` {value:g}: give pixels, up to {_MOST_PIXELS}.")
        elif value and name not in figure.options:
            others = ", ".join(f"`{option}`" for option in figure.options)
            raise UsageError(
                f"`{name}` is not for `figure` {figure.name}, which takes "
                f"{others or 'none of its own'}."
            )


def _open_sources(
    source: Source | Iterable[Source],
    kinds: Sequence[SourceKind],
    inputs: tuple[Path, ...],
    observer: Observer,
    omissions: Omissions,
) -> tuple[SourceKind, list[Any]]:
    """Open one study, trajectory or landscape, or stores.

    If a folder has several results, open the first that is of one of `kinds`.
    """
    places: list[Source]
    if isinstance(source, str | Path | Store | Study | Trajectory | Landscape):
        places = [source]
    else:
        places = list(source)
    if not places:
        raise UsageError("there is nothing to draw: give a store, or the folder of a study.")
    results = [_list_kinds(place) for place in places]
    if not any(results):
        return "store", _open_stores(places, inputs, observer, omissions)
    if len(places) > 1:
        raise UsageError(
            "a figure is of one study, trajectory or landscape, or of stores: give one of them."
        )
    (place,), (available,) = places, results
    kind = next((kind for kind in available if kind in kinds), available[0])
    return kind, [read_results(place, kind, observer) if isinstance(place, str | Path) else place]


def _list_kinds(place: Source) -> list[ResultKind]:
    """List the kinds of results that a place is or holds; none for stores."""
    if isinstance(place, Study | Trajectory | Landscape):
        return [_RESULTS[type(place)]]
    return [] if isinstance(place, Store) else list_results(place)


def _open_stores(
    places: Sequence[Source], inputs: tuple[Path, ...], observer: Observer, omissions: Omissions
) -> list[Store]:
    """Open the stores at some places; of several, leave out those that cannot be opened."""
    unopened: list[Store | Path] = []
    for place in places:
        if isinstance(place, Store):
            unopened.append(place)
        elif isinstance(place, str | Path):
            found = find_stores([place], named_parts=True)
            if found.rejected and len(places) == 1 and not found.stores:
                first = found.rejected[0]
                raise UsageError(f"{first.path}: {first.reason}. No result of a study is there.")
            omissions.extend(found.rejected)
            for text in found.notes:
                observer.note(text)
            unopened += found.stores
        if len(unopened) > _MOST_STORES:
            raise UsageError(
                f"{place}: more than {_MOST_STORES} stores are too many for one picture. Name some "
                "of them, or draw a study of them: `study(..., folder=DIR)`."
            )
    stores = []
    for store in unopened:
        if isinstance(store, Store):
            stores.append(store)
        elif len(unopened) == 1:
            stores.append(open_store(store, inputs))
        else:
            with omissions.catch(store):
                stores.append(open_store(store, inputs))
    if not stores:
        raise omissions.too_few("no store could be drawn")
    return stores
