"""A folder for what benchmarks write and remove again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class WorkingFolder:
    """A folder for output."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0

    def new_path(self, suffix: str = "") -> Path:
        """Return a path that does not exist."""
        self._count += 1
        return self.path / f"{self._count}{suffix}"

    def clear(self) -> None:
        """Remove everything, and wait until nothing else is to be written to any disk."""
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.sync()
