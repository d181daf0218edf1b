"""Stores that are read by processes which were forked after they had been opened."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import cnatool

ROWS = 3000


def written(folder: Path, name: str) -> Path:
    values = np.random.default_rng(0).random((ROWS, 200), dtype=np.float32)
    path = folder / name.removesuffix(".zip")
    with cnatool.create_store(path, tensors=["hidden"]) as store:
        store.append("all", inputs=values, outputs=values[:, :3], activations={"hidden": values})
    if name.endswith(".zip"):
        path = Path(shutil.make_archive(str(path), "zip", folder, path.name))
    return path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("name", ["s.zarr", "s.h5", "s.zarr.zip"])
def test_forked_processes_read_a_store(name: str, tmp_path: Path) -> None:
    """They share open files with each other, and the positions in them."""
    split = cnatool.open(written(tmp_path, name)).splits["all"]
    hidden = split.activations("hidden")
    expected = hidden[:]

    def read() -> None:
        rows = np.random.default_rng(os.getpid()).integers(0, ROWS - 50, 200)
        for row in rows:
            np.testing.assert_array_equal(hidden[row : row + 50], expected[row : row + 50])

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=read) for _ in range(4)]
    with warnings.catch_warnings():
        # Python warns of forks where there are threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        for process in processes:
            process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
