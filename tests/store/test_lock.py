"""Who may write a store, and for how long."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cnatool.errors import StoreInUseError
from cnatool.store.lock import lock_store

HOLDER = """
import sys, time
from pathlib import Path
from cnatool.store.lock import lock_store
with lock_store(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    store = tmp_path / "net.zarr"
    with lock_store(store):
        message = "is being written by another process"
        with pytest.raises(StoreInUseError, match=message), lock_store(store):
            pass
        with lock_store(tmp_path / "other.zarr"):
            pass
    with lock_store(store):
        pass
    assert not list(tmp_path.iterdir())


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    store = tmp_path / "net.zarr"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreInUseError), lock_store(store):
            pass
        holder.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".net.zarr.lock"]
    with lock_store(store):
        pass
