"""The stores and studies that a page is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cnatool._util.text import printable
from cnatool._util.urls import parse_path
from cnatool.errors import DataError, UsageError
from cnatool.store.reader import open_store
from cnatool.store.store import Store
from cnatool.studying.find import find_stores
from cnatool.studying.read import list_results, read_results
from cnatool.studying.study import Study

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cnatool._util.observer import Observer
    from cnatool.studying.omissions import Omissions

    Source: TypeAlias = str | Path | Store | Study

_MOST_STORES = 100


def open_sources(
    source: Source | Iterable[Source],
    inputs: tuple[Path, ...],
    observer: Observer,
    omissions: Omissions,
) -> tuple[list[tuple[str, Study]], list[Store]]:
    """Open studies, with their names, and stores; of several, leave out those that cannot be."""
    places = [source] if isinstance(source, str | Path | Store | Study) else list(source)
    studies = []
    unopened: list[Store | Path] = []
    for place in places:
        if isinstance(place, Study):
            studies.append(("study", place))
        elif isinstance(place, Store):
            unopened.append(place)
        elif (study := _read_study(parse_path(place), observer)) is not None:
            studies.append((printable(Path(place).resolve().name), study))
        else:
            unopened += _find_stores(parse_path(place), len(places) == 1, observer, omissions)
    if len(unopened) > _MOST_STORES:
        raise UsageError(
            f"{len(unopened)} stores are too many for one page, which can have {_MOST_STORES}. "
            "Name some of them, or the folder of a study of them: `study(..., folder=DIR)`."
        )
    stores = []
    for store in unopened:
        if isinstance(store, Store):
            stores.append(store)
        elif len(unopened) == 1 and not studies:
            stores.append(open_store(store, inputs))
        else:
            with omissions.catch(store):
                stores.append(open_store(store, inputs))
    if not stores and not studies:
        raise omissions.too_few("there is no store and no study")
    return studies, stores


def _read_study(place: Path, observer: Observer) -> Study | None:
    """Read the study of a folder, if it has one."""
    kinds = list_results(place)
    if "study" in kinds:
        result = read_results(place, "study", observer)
        assert isinstance(result, Study)
        return result
    if kinds:
        raise DataError(
            f"{place} is the folder of a {kinds[0]}, and a page shows stores and studies. Name the "
            f"stores, or draw it: `plot({str(place)!r}, {kinds[0]!r})`."
        )
    return None


def _find_stores(place: Path, alone: bool, observer: Observer, omissions: Omissions) -> list[Path]:
    found = find_stores([place], named_parts=True)
    if found.rejected and alone and not found.stores:
        first = found.rejected[0]
        raise UsageError(f"{first.path}: {first.reason}. No study is there either.")
    omissions.extend(found.rejected)
    for text in found.notes:
        observer.note(text)
    return found.stores
