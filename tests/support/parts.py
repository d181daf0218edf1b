"""Dumps in parts, and the files of stores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cnatool
from support.dumps import make_data
from support.networks import mlp, saved

# Several commits of 64 rows each, the last one short, in two splits.
TRAIN, TEST = 333, 150


class Parts:
    """Dumps of one network over one data set in a folder, whole and in parts.

    Where ``kept`` is a folder that tests share whose subject is not the dump, parts that one of
    them dumped are copied from there.
    """

    def __init__(
        self, folder: Path, train: int = TRAIN, test: int = TEST, *, kept: Path | None = None
    ) -> None:
        self._kept = kept
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
        names = [f"p{number}.{form}" for number in range(1, count + 1)]
        kept = self._kept and self._kept / f"{count} {form} {sorted(options.items())}"
        if kept is None or not kept.exists():
            for number, name in enumerate(names, 1):
                self.dump(name, part=(number, count), **options)
            if kept is not None:
                for name in names:
                    _copy(self.folder / name, kept / name)
        else:
            for name in names:
                _copy(kept / name, self.folder / name)
        return [self.folder / name for name in names]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def tree(path: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
