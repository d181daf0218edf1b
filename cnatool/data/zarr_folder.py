"""A folder of Zarr that a stranger wrote: what lies in it is read, and no more."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["ZarrFolder"]


class ZarrFolder(LocalStore):
    """A folder of which only plain files are read, and no link is followed that leaves it.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DataError
        By every method that looks at a file, where it is none or lies elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_only=True)
        self._inside = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or None where there is none."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or None where there is none."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of files."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Give the names in a folder."""
        self._check(prefix)
        async for name in super().list_dir(prefix):
            yield name

    def _check(self, key: str) -> None:
        path = self.root / key
        real = os.path.realpath(path)
        if not os.path.join(real, "").startswith(self._inside):  # noqa: PTH118
            raise DataError(
                f"{path} is reached by a symbolic link that leaves {self.root}: copy what it leads "
                "to into the folder."
            )
        try:
            mode = os.stat(real).st_mode  # noqa: PTH116
        except OSError:
            return
        # Opening a pipe would wait for ever.
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{path} is neither a file nor a folder: take it away.")
