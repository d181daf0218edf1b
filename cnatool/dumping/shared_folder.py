"""Whether the workers of a cluster write to the same folder or bucket as this process."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.urls import is_url
from cnatool.store.small_files import delete_file, read_file, write_file

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A file or an object that this process places in a folder, for workers to look for."""

    path: Path

    @classmethod
    def beside(cls, store: Path) -> SharedFolder:
        """Choose the name of a file beside a store."""
        return cls(store.with_name(f".{uuid.uuid4().hex}.dask"))

    @property
    def fault(self) -> str:
        """What is wrong with a worker that does not see it, and what helps."""
        if is_url(self.path):
            return (
                f"it does not see what is written to {self.path.parent} here. Set the server and "
                "the credential in its environment as they are here."
            )
        return (
            "it sees another file system: files that are written here are not there. Name a store "
            "on one that all workers share."
        )

    def place(self) -> None:
        """Write the file."""
        write_file(self.path, b"")

    def is_seen(self) -> bool:
        """Whether this process sees it."""
        return read_file(self.path) is not None

    def remove(self) -> None:
        """Delete the file."""
        delete_file(self.path)
