"""The typed record of where a split's raw inputs are, when another store holds them."""

from __future__ import annotations

import posixpath
from pathlib import PureWindowsPath

import msgspec


class InputsReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Raw inputs that are in the split of the same name of another store.

    Attributes
    ----------
    store : str
        That store, as seen from the folder that this one is in: a relative path, ``/`` between its
        parts.
    fingerprint : str
        The fingerprint of that split there. Its labels may be others than those here.
    """

    store: str
    fingerprint: str


def is_relative_path(text: str) -> bool:
    """Say whether a path is relative on every system, and written as references are."""
    plain = text.isprintable() and "\\" not in text and not PureWindowsPath(text).anchor
    return plain and bool(text) and not posixpath.isabs(text)
