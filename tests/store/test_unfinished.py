"""Stores that are not finished: what is read of them while they are written, and afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from support.command import run
from support.dumps import command, make_data
from support.notes import Notes

import cnatool
from cnatool.errors import CnatoolError

ROWS = 60_000


def committed(store: Path) -> int:
    try:
        return len(cnatool.open(store).splits["train"])
    except (CnatoolError, KeyError):
        return 0


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_dump_that_is_running(name: str, tmp_path: Path) -> None:
    make_data(tmp_path, ROWS, 10)
    store = tmp_path / name
    words = command("dump", "net.onnx", "data", "-o", name, "--batch-size", 16)
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as dump:
        try:
            while not committed(store):
                assert dump.poll() is None
                time.sleep(0.01)
            # At whatever it does: it must not be done before it was looked at.
            dump.send_signal(signal.SIGSTOP)
            again = run("dump", "net.onnx", "data", "-o", name, "--overwrite", cwd=tmp_path, code=3)
            assert again.stderr == (
                f"cnatool: {name} is being written by another process. Wait until it finishes, or "
                "name another path.\n"
            )
            scored = run("score", name, cwd=tmp_path, code=None)
            inspected = run("inspect", name, cwd=tmp_path, code=None)
            verified = run("verify", name, cwd=tmp_path, code=None)
            result = cnatool.score(store)
            dump.send_signal(signal.SIGCONT)
            went_on = time.monotonic()
            while time.monotonic() < went_on + 1 and dump.poll() is None:
                found = cnatool.verify(store)
                assert found.faults == ()
        finally:
            dump.kill()
    part = result.splits["train"]
    assert 0 < part.samples < part.rows == ROWS
    assert scored.returncode == inspected.returncode == verified.returncode == 0
    assert f" of {ROWS} rows are scored" in scored.stderr
    assert f" of {ROWS} rows, unfinished, labels" in inspected.stdout
    assert f" of {ROWS + 10} rows, which were read)" in verified.stdout
    assert "nothing is wrong" in verified.stdout


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_scores_are_those_of_the_committed_rows(name: str, tmp_path: Path) -> None:
    make_data(tmp_path, 300, 100)

    with pytest.MonkeyPatch.context() as patch:
        from support.dumps import commit_often

        commit_often(patch)
        options = {"batch_size": 16}
        with pytest.raises(KeyboardInterrupt):
            cnatool.dump(
                tmp_path / "net.onnx",
                tmp_path / "data",
                tmp_path / name,
                observer=Notes("test", 61),
                **options,
            )
    rows = committed(tmp_path / name)
    test = cnatool.open(tmp_path / name).splits["test"]
    assert rows == 300
    assert 0 < len(test) < 100
    data = np.load(tmp_path / "data/test.npz")
    np.savez(tmp_path / "data/test.npz", x=data["x"][: len(test)], y=data["y"][: len(test)])
    cnatool.dump(tmp_path / "net.onnx", tmp_path / "data", tmp_path / f"whole-{name}", **options)
    found = json.loads(cnatool.score(tmp_path / name).to_json())
    whole = json.loads(cnatool.score(tmp_path / f"whole-{name}").to_json())
    assert not found["splits"]["test"].pop("complete")
    assert found["splits"]["test"].pop("rows") == 100
    for part in ("complete", "rows"):
        del whole["splits"]["test"][part]
    del found["splits"]["test"]["available"], whole["splits"]["test"]["available"]
    assert found["splits"] == whole["splits"]
    assert found["cna_area"] == whole["cna_area"]
