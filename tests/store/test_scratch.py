"""Temporary folders that a killed process does not leave behind for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cnatool.store.scratch import ScratchFolder

KILLED = """
import os
from cnatool.store.scratch import ScratchFolder
folder = ScratchFolder()
(folder.path / "shard").write_bytes(b"content")
os.kill(os.getpid(), 9)
"""


def test_folders_of_killed_processes_are_deleted_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "cnatool-other").mkdir()
    first = ScratchFolder()
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    [killed] = {*tmp_path.glob("cnatool-shards-*")} - {first.path}
    # As that of a process that has just made its folder, and will lock it.
    new = ScratchFolder()
    assert killed.is_dir()
    new.remove()
    for folder in (killed, first.path):
        os.utime(folder / "lock", (0, 0))
    second = ScratchFolder()
    assert set(tmp_path.iterdir()) == {first.path, second.path, tmp_path / "cnatool-other"}
    first.remove()
    second.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["cnatool-other"]
