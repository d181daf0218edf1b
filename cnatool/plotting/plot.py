"""A store, a study, a trajectory, a landscape → a chart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cnatool._util.observer import Silent
from cnatool.errors import UsageError
from cnatool.metrics.convention import NO_OVERRIDES
from cnatool.plotting.files import need_altair
from cnatool.store.reader import as_paths, open_store
from cnatool.store.store import Store
from cnatool.studying.find import find_stores
from cnatool.studying.landscape import Landscape
from cnatool.studying.omissions import UNUSABLE, Omissions
from cnatool.studying.read import read_results, results_of
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

_STORES = 12  # panels that a page takes
_PIXELS = 10000
_SPELT = {"overrides": "set"}
_MADE_BY: Mapping[SourceKind, str] = {
    "store": "a store: `cnatool dump MODEL DATA -o STORE`",
    "study": "the folder of a study: `cnatool study STORE… -o DIR`",
    "trajectory": "that of a trajectory: `cnatool trajectory STORE… -o DIR`",
    "landscape": "the folder of a landscape: `cnatool landscape STORE… -o DIR`",
}
_CALLED: Mapping[SourceKind, str] = {
    "store": "a store",
    "study": "a study",
    "trajectory": "a trajectory",
    "landscape": "a landscape",
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
    """Draw a figure of a store, of several stores, of a study, a trajectory or a landscape.

    Parameters
    ----------
    source : str, Path, Store, Study, Trajectory, Landscape, or iterable of these
        Stores, folders of stores, or one study, trajectory or landscape, or the folder of one.
    figure : str
        Of stores ``depth-profile``, ``alpha-beta``, ``error-by-alpha``; of a study ``trajectory``,
        ``bins``, ``gap``, ``measures``; of a trajectory ``trajectory``, ``error-by-alpha``;
        of a landscape ``landscape``.
    test, convention, overrides, output, inputs
        As of `cnatool.score`; for figures of stores. A study has its own convention.
    split : str, optional
        Draw this split alone.
    sample : sequence of str
        Ids of samples that ``depth-profile`` draws.
    measure : sequence of str
        Columns of the study's networks that ``bins``, ``gap`` and ``measures`` draw.
    by : str, optional
        The tag that networks are coloured by, or that tells runs apart.
    order : str, optional
        The tag whose number is the step, for ``trajectory`` of a study; by default as of
        `cnatool.trajectory`.
    coefficient : {"pearson", "spearman", "kendall_a", "kendall_b"}, optional
        Of ``measures``.
    width, height : float, optional
        Of one panel, in pixels, 96 an inch.
    strict : bool
        Raise the error of the first of several stores that cannot be drawn, rather than leave it
        out.
    observer : Observer, optional
        Notified if a folder of results has no checksums, and of stores that are left out.

    Returns
    -------
    altair chart
        A notebook shows it; `cnatool plot` writes it to a file. Of several stores, those that
        cannot be drawn are left out and listed in ``chart.usermeta``, as `not_scored` reads it.

    Raises
    ------
    UsageError
        If there is no such figure, it cannot be drawn of this source, or an option is not of it;
        if Altair is not installed.
    DataError, MetricError, NotAStoreError
        If the source lacks what the figure needs, or cannot be read.
    CnatoolError, OSError
        If one of several stores cannot be drawn, and `strict`.
    """
    from cnatool.plotting.figure import Options
    from cnatool.plotting.table import FIGURES

    need_altair()
    rows = [row for row in FIGURES if row.name == figure]
    if not rows:
        names = ", ".join(dict.fromkeys(row.name for row in FIGURES))
        raise UsageError(f"--figure {figure}: there is no such figure; there are {names}.")
    named = as_paths(inputs)
    omissions = Omissions(Silent() if observer is None else observer, strict=strict)
    kind, sources = _opened(source, [row.kind for row in rows], named, observer, omissions)
    row = next((row for row in rows if row.kind == kind), None)
    if row is None:
        others = ", ".join(other.name for other in FIGURES if other.kind == kind)
        raise UsageError(
            f"--figure {figure} is drawn from {' or '.join(_MADE_BY[row.kind] for row in rows)}. "
            f"This is {_CALLED[kind]}, for which there are {others}."
        )
    options = Options(
        width=row.width if width is None else width,
        height=row.height if height is None else height,
        test=open_store(test, named) if isinstance(test, str | Path) else test,
        convention=convention,
        overrides=overrides,
        output=output,
        inputs=named,
        split=split,
        sample=tuple(sample),
        measure=tuple(measure),
        by=by,
        order=order,
        coefficient=coefficient,
    )
    _check(options, row)
    chart = _drawn(row, sources, options, omissions)
    if omissions.stores:
        chart = chart.properties(usermeta={_LEFT_OUT: msgspec.to_builtins(omissions.stores)})
    return chart


def not_scored(chart: Chart) -> list[NotScored]:
    """List the stores that a chart was drawn without."""
    if not isinstance(chart.usermeta, dict):
        return []
    return msgspec.convert(chart.usermeta.get(_LEFT_OUT, []), list[NotScored])


def _drawn(figure: Figure, sources: Sequence[Any], options: Options, omissions: Omissions) -> Chart:
    """Draw the sources, of several stores without those that cannot be drawn."""
    try:
        return figure.draw(sources, options)
    except UNUSABLE:
        if len(sources) == 1:
            raise
    kept = []
    for store in sources:
        with omissions.catching(store.path):
            figure.draw([store], options)
            kept.append(store)
    if not kept:
        raise omissions.too_few("no store could be drawn")
    return figure.draw(kept, options)


def _check(options: Options, figure: Figure) -> None:
    """Refuse what the figure does not heed, and sizes that cannot be meant."""
    sizes = ("width", "height")
    for name in (field.name for field in dataclasses.fields(options)):
        value = getattr(options, name)
        if name in sizes:
            if value != getattr(figure, name) and not 0 < value <= _PIXELS:
                raise UsageError(f"--{name} {value:g}: give pixels, up to {_PIXELS}.")
        elif value and name not in figure.options:
            others = ", ".join(f"--{_SPELT.get(option, option)}" for option in figure.options)
            raise UsageError(
                f"--{_SPELT.get(name, name)} is not for --figure {figure.name}, which takes "
                f"{others or 'none of its own'}."
            )


def _opened(
    source: Source | Iterable[Source],
    wanted: Sequence[SourceKind],
    inputs: tuple[Path, ...],
    observer: Observer | None,
    omissions: Omissions,
) -> tuple[SourceKind, list[Any]]:
    """Open what is drawn: one study, trajectory or landscape, or stores.

    Where a folder has several results, the one that the figure is of.
    """
    places: list[Source]
    if isinstance(source, str | Path | Store | Study | Trajectory | Landscape):
        places = [source]
    else:
        places = list(source)
    if not places:
        raise UsageError("there is nothing to draw: give a store, or the folder of a study.")
    kinds = [_kinds(place) for place in places]
    if not any(kinds):
        return "store", _stores(places, inputs, omissions)
    if len(places) > 1:
        raise UsageError(
            "a figure is of one study, trajectory or landscape, or of stores: give one of them."
        )
    (place,), (there,) = places, kinds
    kind = next((one for one in there if one in wanted), there[0])
    opened = read_results(place, kind, observer) if isinstance(place, str | Path) else place
    return kind, [opened]


def _kinds(place: Source) -> list[ResultKind]:
    """Say what a source is beside a store, or a folder of these."""
    if isinstance(place, Study):
        return ["study"]
    if isinstance(place, Trajectory):
        return ["trajectory"]
    if isinstance(place, Landscape):
        return ["landscape"]
    return [] if isinstance(place, Store) else results_of(place)


def _stores(
    places: Sequence[Source], inputs: tuple[Path, ...], omissions: Omissions
) -> list[Store]:
    """Open the stores at some places; of several, without those that cannot be opened."""
    found: list[Store | Path] = []
    for place in places:
        if isinstance(place, Store):
            found.append(place)
        elif isinstance(place, str | Path):
            paths, nothing = find_stores([place])
            if nothing and len(places) == 1 and not paths:
                raise UsageError(f"{nothing[0].path}: {nothing[0].reason}, nor what a study wrote.")
            omissions.extend(nothing)
            found += paths
        if len(found) > _STORES:
            raise UsageError(
                f"{place}: more than {_STORES} stores are too many for one picture. Name some, or "
                "study them: `cnatool study STORE… -o DIR`."
            )
    stores = []
    for one in found:
        if isinstance(one, Store):
            stores.append(one)
        elif len(found) == 1:
            stores.append(open_store(one, inputs))
        else:
            with omissions.catching(one):
                stores.append(open_store(one, inputs))
    if not stores:
        raise omissions.too_few("no store could be drawn")
    return stores
