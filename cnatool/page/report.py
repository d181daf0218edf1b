"""From stores and studies to one page."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.files import check_replaceable, replace_atomically
from cnatool._util.local_paths import check_local, real_path
from cnatool._util.observer import Silent
from cnatool._util.text import count_text, printable
from cnatool._util.write_failures import make_write_error
from cnatool._version import __version__
from cnatool.errors import CnatoolError, UsageError
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.page.document import render_page
from cnatool.page.samples import most_samples
from cnatool.page.sources import open_sources
from cnatool.page.store_view import PictureSets, StoreOptions, StoreView, view_store
from cnatool.page.study_view import view_study
from cnatool.page.unshown import list_unshown
from cnatool.scoring.layer_selection import select_layers
from cnatool.store.reader import as_paths, open_store
from cnatool.studying.find import name_stores
from cnatool.studying.omissions import Omissions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool._util.observer import Observer
    from cnatool.page.sources import Source
    from cnatool.page.study_view import StudyView
    from cnatool.store.store import Store
    from cnatool.studying.results import NotScored
    from cnatool.studying.study import Study

MOST_SAMPLES = 10_000  # of each store
MOST_NETWORKS = 3_000


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written.

    Attributes
    ----------
    path : Path
        The file.
    notes : tuple of str
        What the page does not show, such as samples beyond the maximum number.
    not_scored : tuple of NotScored
        Stores that were skipped.
    """

    path: Path
    notes: tuple[str, ...]
    not_scored: tuple[NotScored, ...]


def report(
    source: Source | Iterable[Source],
    path: str | Path,
    *,
    title: str | None = None,
    max_samples: int = MOST_SAMPLES,
    test: str | Path | Store | None = None,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    overwrite: bool = False,
    strict: bool = False,
    observer: Observer | None = None,
) -> Report:
    """Write one self-contained HTML page about stores, studies, or both.

    The page shows what was run, the scores with their intervals, samples with their pictures, and
    what each layer contributes; for a study, its networks. It works offline and needs no other
    file. The same stores give the same bytes.

    Parameters
    ----------
    source : str, Path, Store, Study, or iterable of these
        Stores, folders of stores, studies, or folders of studies.
    path : str or Path
        The page, a ``.html`` file.
    title : str, optional
        Title of the page; by default the name of the store, or the number of stores.
    max_samples : int
        Maximum number of samples to show of each store, and of networks of a study; they are chosen
        at random, the same ones each time. Fewer are shown if more would make the page too large.
    test, convention, overrides, output, inputs
        As in `cnatool.score`, for stores; a study has its own convention.
    overwrite : bool
        Replace an existing file.
    strict : bool
        Raise the error of the first of several stores that cannot be used instead of skipping it.
    observer : Observer, optional
        Receives progress, and notes on what the page does not show and which stores are skipped.

    Returns
    -------
    Report

    Raises
    ------
    UsageError
        If a parameter does not exist or does not fit the source.
    StoreWriteError
        If the page cannot be written.
    NotAStoreError, StoreDamagedError, DataError
        If a source cannot be read, or no store can be used.
    """
    path = Path(path)
    if max_samples < 1:
        raise UsageError(f"`max_samples={max_samples}`: give 1 or more.")
    check_page_path(path, overwrite=overwrite)
    settings = Convention.named(convention, overrides)
    watcher = observer or Silent()
    omissions = Omissions(watcher, strict=strict)
    where = as_paths(inputs)
    studies, stores = open_sources(source, where, watcher, omissions)
    _check_apart(path, stores)
    if test is not None and len(stores) != 1:
        raise UsageError("`test` needs one store, which holds the training split.")
    layers = max((_count_layers(store, settings) for store in stores), default=0)
    options = StoreOptions(
        settings,
        open_store(test, where) if isinstance(test, str | Path) else test,
        output,
        most_samples(layers, len(stores), max_samples),
    )
    pictures = PictureSets(stores)
    shown = _view_stores(stores, options, pictures, watcher, omissions)
    if not shown and not studies:
        raise omissions.too_few("no store could be used")
    views: list[StoreView | StudyView] = [
        *_view_studies(studies, shown, max_samples),
        *shown.values(),
    ]
    notes = list_unshown(views, pictures)
    for note in notes:
        watcher.note(note)
    heading = printable(title) if title is not None else _name_page(views)
    _write(path, render_page(heading, views, pictures.drawn, f"cnatool {__version__}"))
    return Report(path, notes, tuple(omissions.stores))


def _view_studies(
    studies: Sequence[tuple[str, Study]], shown: Iterable[Path], most: int
) -> list[StudyView]:
    """Collect what the page shows of each study; the stores that are shown come after them."""
    numbers = {path: place for place, path in enumerate(shown, start=len(studies))}
    most = min(most, MOST_NETWORKS // max(1, len(studies)))
    return [view_study(study, name, numbers, most) for name, study in studies]


def _view_stores(
    stores: Sequence[Store],
    options: StoreOptions,
    pictures: PictureSets,
    observer: Observer,
    omissions: Omissions,
) -> dict[Path, StoreView]:
    """Collect what the page shows of each store, by its real path; leave out unusable ones."""
    views = {}
    names = [printable(name) for name in name_stores([store.path for store in stores])]
    several = len(stores) > 1
    for done, (store, name) in enumerate(zip(stores, names, strict=True), start=1):
        with omissions.catch(store.path) if several else nullcontext():
            watcher = _OneOfSeveral(observer, name) if several else observer
            views[real_path(store.path)] = view_store(store, name, options, pictures, watcher)
        if several:
            observer.progress("networks", done, len(stores))
    return views


class _OneOfSeveral:
    """Passes on the notes on one store by its name; its progress is that of all stores."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer = observer
        self._name = name

    def note(self, text: str) -> None:
        """Pass on a note, with the store that it is about."""
        self._observer.note(text if self._name in text else f"{self._name}: {text}")

    def progress(self, split: str, done: int, rows: int) -> None:
        """Ignore the progress within the store."""


def _count_layers(store: Store, convention: Convention) -> int:
    try:
        return len(select_layers(store, convention.fields))
    except CnatoolError:
        return 0  # the error is reported when the store is scored


def _name_page(views: Sequence[StoreView | StudyView]) -> str:
    if len(views) == 1:
        return views[0].name
    stores = sum(isinstance(view, StoreView) for view in views)
    studies = len(views) - stores
    counts = [count_text(stores, "network")] if stores else []
    if studies:
        counts.insert(0, "1 study" if studies == 1 else f"{studies} studies")
    return " and ".join(counts)


def check_page_path(path: Path, *, overwrite: bool = False) -> None:
    """Raise an error if a page cannot be written to a path."""
    check_local(path, written=True)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"`path` {path}: the name of a page must end in .html.")
    if not path.parent.is_dir():
        raise UsageError(f"`path` {path}: no such folder.")
    if path.is_dir():
        raise UsageError(f"`path` {path}: this is a folder. Name a file.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is already there: name another file, or pass `overwrite=True`.")
    try:
        check_replaceable(path)
    except OSError as error:
        raise make_write_error(path, error) from error


def _check_apart(path: Path, stores: Sequence[Store]) -> None:
    """Refuse to write into a store."""
    for store in stores:
        if real_path(path).is_relative_to(real_path(store.path)):
            raise UsageError(f"`path` {path} is in {store.path}, which is only read: name another.")


def _write(path: Path, page: bytes) -> None:
    try:
        with replace_atomically(path) as partial:
            partial.write_bytes(page)
    except OSError as error:
        raise make_write_error(path, error) from error
