"""Small files beside stores, on a disk or in a bucket: read, replaced and deleted whole."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cnatool._util.files import replace_atomically
from cnatool._util.urls import ObjectURL
from cnatool.errors import CnatoolError
from cnatool.store.object_errors import MissingObjectError
from cnatool.store.object_store import Objects
from cnatool.store.write_errors import report_write_errors

if TYPE_CHECKING:
    from pathlib import Path


def read_file(path: Path) -> bytes | None:
    """Read a file; None if there is none."""
    if isinstance(path, ObjectURL):
        with suppress(MissingObjectError):
            return Objects(path).get("")[0]
        return None
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and replace another; raise StoreWriteError if that fails."""
    with report_write_errors(path, 0):
        if isinstance(path, ObjectURL):
            Objects(path).put("", content)
            return
        with replace_atomically(path) as new:
            new.write_bytes(content)


def delete_file(path: Path) -> None:
    """Delete a file, if there is one and that is possible."""
    with suppress(OSError, CnatoolError):
        if isinstance(path, ObjectURL):
            Objects(path).delete("")
        else:
            path.unlink()


def list_names(folder: Path) -> set[str]:
    """List the names in a folder; none if there is no such folder."""
    if isinstance(folder, ObjectURL):
        return Objects(folder).names()
    with suppress(OSError):
        return {*os.listdir(folder)}  # noqa: PTH208
    return set()
