"""Dumps in parts, and the files of stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cnatool
from support.dumps import make_data
from support.networks import mlp, saved

# Several commits of 64 rows each, the last one short, in two splits.
TRAIN, TEST = 333, 150


class Parts:
    """Dumps of one network over one data set in a folder, whole and in parts."""

    def __init__(self, folder: Path, train: int = TRAIN, test: int = TEST) -> None:
        self.folder = make_data(folder, train, test)
        saved(mlp(seed=5), folder / "other.onnx")

    def dump(
        self, name: str, model: str = "net.onnx", data: str = "data", **options: Any
    ) -> cnatool.Store:
        """Dump into a store of this name."""
        folder = self.folder
        return cnatool.dump(
            folder / model, folder / data, folder / name, **{"batch_size": 16} | options
        )

    def parts(self, count: int, form: str = "zarr", **options: Any) -> list[Path]:
        """Dump all parts; return their paths."""
        return [
            self.dump(f"p{number}.{form}", part=(number, count), **options).path
            for number in range(1, count + 1)
        ]


def tree(path: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
