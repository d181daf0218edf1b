"""A writer that is killed: whatever it had committed is there, and right."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnatool.errors import NotAStoreError
from cnatool.store.reader import open_store

ROWS = 400_000
WRITER = f"""
import sys
from pathlib import Path
import numpy as np
from cnatool.store.records import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store.writer import StoreWriter
tensor = TensorRecord(0, "t", "Relu", "other", "int64", (50,), 0, "full", None, "int64")
x = (ArrayRecord("x", "int64", ()),)
record = StoreRecord("cnatool.store/1", "test", x, x, (tensor,), (), (), {{}})
split = StoreWriter(Path(sys.argv[1]), record).split("s", {ROWS}, source="s", labels=False)
for start in range(0, {ROWS}, 1000):
    rows = np.arange(start, start + 1000)
    split.append(
        ids=list(map(str, rows)), inputs=[rows], labels=None, outputs=[rows],
        activations={{0: np.repeat(rows[:, None], 50, axis=1)}}, statistics={{}},
    )
split.finish()
"""


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_committed_rows_outlive_a_kill(seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    rows = 0
    try:
        while not rows:
            assert process.poll() is None
            time.sleep(0.01)
            rows = committed(path)  # while it is being written
        time.sleep(seconds)
    finally:
        process.kill()
        process.wait()
    assert committed(path) >= rows


def committed(path: Path) -> int:
    """Give the number of committed rows, after looking at each."""
    try:
        split = open_store(path).splits["s"]
    except (NotAStoreError, KeyError):
        return 0
    expected = np.arange(len(split))
    np.testing.assert_array_equal(split.inputs()[:], expected)
    np.testing.assert_array_equal(split.activations("t")[:][:, 49], expected)
    assert split.ids[:].tolist() == list(map(str, expected))
    return len(split)
