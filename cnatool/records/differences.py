"""Differences between two records, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cnatool._util.text import printable
from cnatool.records.run import FileRecord, ModelRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.store import SourceObject, StoreRecord

# Fields from which others follow, besides models.
_FIRST = ("preprocessing", "tokenizer")
# Differences that a message lists.
_LISTED = 3


def describe_differences(first: Any, second: Any, here: str, there: str) -> str | None:
    """Describe where two records differ; None if nowhere.

    A value of ``first`` is said to be ``here``, and one of ``second`` ``there``.
    """
    differences = [
        printable(f"{where.strip()} {_text(value)} {here} and {_text(other)} {there}")
        for where, value, other in _differences("", first, second)
    ]
    if not differences:
        return None
    more = len(differences) - _LISTED
    return "; ".join(differences[:_LISTED]) + (f" ({more} more differ)" if more > 0 else "")


def _differences(where: str, first: Any, second: Any) -> Iterator[tuple[str, Any, Any]]:
    """Find what differs between two values, part by part: where, and what each has there."""
    if first == second:
        return
    if isinstance(first, msgspec.Struct) and type(first) is type(second):
        fields = list(_field_differences(where, first, second))
        if fields and isinstance(first, ModelRecord) and _title(first) != _title(second):
            yield where, first, second
        else:
            yield from fields
    elif isinstance(first, dict) and isinstance(second, dict) and list(first) == list(second):
        for key, value in first.items():
            yield from _differences(f"{where} {key!r}", value, second[key])
    elif isinstance(first, tuple) and isinstance(second, tuple) and _list_same(first, second):
        for part, other in zip(first, second, strict=True):
            yield from _differences(f"{where} {_title(part)!r}", part, other)
    else:
        yield where, first, second


def _field_differences(
    where: str, first: msgspec.Struct, second: msgspec.Struct
) -> Iterator[tuple[str, Any, Any]]:
    """Find the fields of two records that differ: those first from which others follow."""

    def follows(name: str) -> bool:
        return name not in _FIRST and not isinstance(getattr(first, name), ModelRecord)

    for name in sorted(first.__struct_fields__, key=follows):
        # The file of a model may have been renamed.
        if name != "name" or not isinstance(first, ModelRecord | FileRecord):
            word = f"{where} {name.replace('_', ' ')}"
            yield from _differences(word, getattr(first, name), getattr(second, name))


def find_replaced_object(first: StoreRecord, second: StoreRecord) -> str | None:
    """Return the URL of an object of the data that was replaced between two dumps, if any."""
    objects: dict[str, SourceObject] = {}
    for split in (*first.splits.values(), *second.splits.values()):
        for each in split.objects or ():
            if objects.setdefault(each.url, each) != each:
                return each.url
    return None


def _list_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Whether two tuples list the same things, which may differ in their fields."""
    parts = [isinstance(part, msgspec.Struct) for part in (*first, *second)]
    files = [isinstance(part, FileRecord) for part in (*first, *second)]
    same = list(map(_title, first)) == list(map(_title, second)) or all(files)
    return all(parts) and len(first) == len(second) and same


def _title(part: Any) -> object:
    """Return the field that identifies a record among others of its kind."""
    fields = (getattr(part, name, None) for name in ("name", "input", "number", "url"))
    return next((field for field in fields if field is not None), part)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        words = [f"{key}={item}" if isinstance(item, str) else key for key, item in value.items()]
    elif isinstance(value, tuple):
        words = [str(_title(part)) for part in value]
    else:
        value = value.name if isinstance(value, ModelRecord) else value
        return "none" if value in (None, msgspec.UNSET) else str(value)
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return (", ".join(words[:_LISTED]) + more) or "none"
