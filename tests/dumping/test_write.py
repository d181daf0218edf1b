"""What dumps say that are interrupted or run out of disk, before they are resumed.

That nothing is lost, whatever happens at whatever moment, is the subject of `campaigns.kills` and
`campaigns.disks`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.dumps import COMMIT, files, make_data, same_arrays
from support.forked import ForkedCommand

import cnatool
from cnatool.errors import NotAStoreError

ROWS = {"train": 2000, "test": 350}
FORMATS = ["zarr", "h5"]


class Here:
    """A folder with a model, data, and finished dumps of them in both formats."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_data(folder, *ROWS.values())
        for form in FORMATS:
            with self.started(f"whole.{form}") as process:
                _, errors = process.communicate()
            assert process.returncode == 0, errors
        self.whole = {
            form: {n: s.outputs()[:] for n, s in cnatool.open(self.path(form)).splits.items()}
            for form in FORMATS
        }
        self.names = files(folder)

    def path(self, form: str) -> Path:
        return self.folder / f"whole.{form}"

    def started(self, store: str, *words: object, largest: int | None = None) -> ForkedCommand:
        line = ("dump", "net.onnx", "data", "-o", store, *words)
        if "--resume" not in words:
            line += ("--batch-size", 16)
        return ForkedCommand(*line, cwd=self.folder, largest=largest)

    def noted(self, process: ForkedCommand) -> None:
        """Wait for the first word that it says."""
        assert process.stderr.readline().startswith("x (8, 8)")

    def resumed(self, store: str) -> str:
        """Dump to the end, and compare with a dump that was never cut off."""
        with self.started(store, "--resume", "--batch-size", 16) as process:
            _, errors = process.communicate()
        assert process.returncode == 0, errors
        path = self.folder / store
        same_arrays(path, self.path(path.suffix[1:]))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert files(self.folder) == self.names
        return errors

    def complete(self, store: str) -> bool:
        splits = cnatool.open(self.folder / store).splits
        return all(split.record.complete for split in splits.values())

    def committed(self, store: str) -> int:
        """Count the rows of a store that readers see."""
        try:
            return sum(map(len, cnatool.open(self.folder / store).splits.values()))
        except NotAStoreError:
            return 0

    def safe(self, store: str) -> int:
        """Count the rows of a store that was cut off, after a look at each."""
        path = self.folder / store
        try:
            splits = cnatool.open(path).splits
        except NotAStoreError:
            return 0
        for name, split in splits.items():
            expected = self.whole[path.suffix[1:]][name][: len(split)]
            np.testing.assert_array_equal(split.outputs()[:], expected)
        return sum(map(len, splits.values()))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Here:
    return Here(tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize(("form", "number"), [("zarr", signal.SIGINT), ("h5", signal.SIGTERM)])
def test_interrupted_at_any_moment(form: str, number: signal.Signals, here: Here) -> None:
    lots = random.Random(f"{form} {number}")
    store = f"s.{form}"
    said, rows = 0, 0
    while said < 2:
        # As it starts, and from then on some commits later each time.
        rows += lots.choice([0, 5, 15]) * COMMIT if said else lots.choice([0, 1]) * COMMIT
        with here.started(store, "--resume", "--batch-size", 16) as process:
            here.noted(process)
            while here.committed(store) < rows and process.poll() is None:
                time.sleep(0.002)
            time.sleep(lots.uniform(0, 0.02))
            process.send_signal(number)
            _, errors = process.communicate(timeout=600)
        assert "Traceback" not in errors
        assert not (here.folder / f".{store}.lock").exists()
        if "next: cnatool score" not in errors:
            assert process.returncode == 128 + number, errors
            word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
            assert errors.endswith(f"cnatool: {word}.\n")
            safe = here.safe(store)
            said += (
                f"{safe:,} of 2,350 rows are safe in it. The same command with --resume" in errors
            )
            told = (
                f"{safe:,} of 2,350 rows are safe in it" in errors
                or f"{store} is unchanged: {safe:,} rows are safe in it" in errors
            )
            # Of a finished one there is nothing to tell.
            assert told == (here.folder / store).exists() or here.complete(store), errors
        else:
            here.resumed(store)
    here.resumed(store)


@pytest.mark.parametrize("form", FORMATS)
def test_a_second_signal_ends_at_once(form: str, here: Here) -> None:
    store = f"s.{form}"
    with here.started(store) as process:
        here.noted(process)
        # A commit that readers see may still be taken back; the one before is not.
        while here.safe(store) <= COMMIT:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=600)
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert here.safe(store) >= COMMIT
    here.resumed(store)


@pytest.mark.parametrize(("form", "kilobytes"), [("zarr", 100), ("h5", 750)])
def test_a_full_disk(form: str, kilobytes: int, here: Here) -> None:
    """A limit on the size of a file stands in for it: writing fails in the same place."""
    store = f"s.{form}"
    with here.started(store, largest=1024 * kilobytes) as process:
        _, errors = process.communicate()
    safe = here.safe(store)
    assert process.returncode == 3
    assert 0 < safe < 2350
    assert f"{store} is not finished: {safe:,} of 2,350 rows are safe in it. The same" in errors
    assert (
        f"cnatool: {store} cannot be written: File too large. {safe:,} rows are safe: allow larger"
        in errors
    )
    assert "Traceback" not in errors
    # No better the second time, and nothing is lost by trying.
    with here.started(store, "--resume", largest=1024 * kilobytes) as process:
        _, errors = process.communicate()
    assert process.returncode == 3
    assert here.safe(store) >= safe
    assert f"resuming: {safe:,} of 2,350 rows are stored already" in here.resumed(store)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder that nobody can write to; root can where its mode forbids it."""
    folder.mkdir()
    quiet = {"stderr": subprocess.DEVNULL, "check": False}
    if os.geteuid():
        folder.chmod(0o500)
        undo = None
    elif (
        shutil.which("chattr") and not subprocess.run(["chattr", "+i", folder], **quiet).returncode
    ):
        undo = ["chattr", "-i", folder]
    elif (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], **quiet
        ).returncode
    ):
        undo = ["umount", "-l", folder]
    else:
        folder.rmdir()
        pytest.skip("root may write everywhere, and neither chattr nor mount is allowed")
    try:
        yield
    finally:
        if undo is not None:
            subprocess.run(undo, check=True)
        folder.rmdir()


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_that_cannot_be_written(form: str, here: Here) -> None:
    with read_only(here.folder / "fixed"):
        with here.started(f"fixed/s.{form}") as process:
            _, errors = process.communicate()
        assert process.returncode == 3
        assert f"cnatool: fixed/s.{form} cannot be written: " in errors
        assert len(errors.splitlines()) == 1
        assert not files(here.folder / "fixed")


@pytest.mark.parametrize("form", FORMATS)
def test_two_writers_at_once(form: str, here: Here) -> None:
    store = f"s.{form}"
    processes = [here.started(store, "--resume", "--batch-size", 16) for _ in range(3)]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    codes = sorted(process.returncode for process in processes)
    # Whoever came late found it complete.
    assert codes[0] == 0
    for process, text in zip(processes, errors, strict=True):
        if process.returncode:
            assert process.returncode == 3
            assert text == (
                f"cnatool: {store} is being written by another process. Wait until it finishes, or "
                "name another path.\n"
            )
    assert codes[-1] == 3
    assert f"{store} is complete: there is nothing left to do" in here.resumed(store)
