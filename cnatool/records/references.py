"""Typed record of a reference to raw inputs in another store."""

from __future__ import annotations

import posixpath
from pathlib import PureWindowsPath

import msgspec


class InputsReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reference to raw inputs in the split of the same name of another store.

    Attributes
    ----------
    store : str
        Path of that store relative to the folder of this one, with ``/`` as separator.
    fingerprint : str
        Fingerprint of that split there. Its labels may differ from those here.
    """

    store: str
    fingerprint: str


def is_relative_path(text: str) -> bool:
    """Whether a path is relative on every system, with ``/`` as separator."""
    plain = text.isprintable() and "\\" not in text and not PureWindowsPath(text).anchor
    return plain and bool(text) and not posixpath.isabs(text)
