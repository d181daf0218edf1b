from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import cnatool
from cnatool.errors import StoreWriteError
from cnatool.store import writer
from cnatool.store.write_errors import report_write_errors

FULL = [errno.ENOSPC, errno.EFBIG, errno.EDQUOT]
REFUSED = [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOENT]


@pytest.mark.parametrize("number", [*FULL, *REFUSED])
@pytest.mark.parametrize("committed", [0, 64])
def test_space_is_asked_for_only_where_it_would_help(number: int, committed: int) -> None:
    with (
        pytest.raises(StoreWriteError, match=r"s\.zarr cannot be written: .*\. ") as caught,
        report_write_errors(Path("s.zarr"), committed),
    ):
        raise OSError(number, "the reason")
    message = str(caught.value)
    assert ("ree some space" in message) == (number in FULL and number != errno.EFBIG)
    assert ("llow larger files" in message) == (number == errno.EFBIG)
    assert ("64 rows are safe: " in message) == ("`resume=True`" in message) == (committed > 0)
    assert ("ame another path" in message) == (committed == 0)


def recorded(path: Path, rows: int, fails: Callable[[], None] | None = None) -> None:
    """Record a store over whatever is there; ``fails`` is called behind half of it."""
    with cnatool.create_store(path, tensors=["y"], outputs=["y"], overwrite=True) as store:
        for start in range(0, rows, 100):
            x = np.full((100, 4), start, np.float32)
            if fails is not None and start >= rows / 2:
                fails()
            store.append("train", inputs=x, outputs=x)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO])
@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_a_disk_that_fails_for_good_has_one_message_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, committed: bool, number: int
) -> None:
    path = tmp_path / f"s.{form}"
    recorded(path, 200)

    def refuse(*words: object, **named: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    def fails() -> None:
        for name in ("rename", "fsync", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, refuse)

    with monkeypatch.context() as patch:
        # Every batch is committed, or nothing before the end.
        patch.setattr(writer, "commit_rows", lambda sizes, most=None: 100 if committed else 10**6)
        patch.setattr(
            writer,
            "chunk_rows",
            lambda sizes, rows, most=None: [100 if committed else 10**6] * len(sizes),
        )
        with pytest.raises(StoreWriteError, match=f"{path.name} cannot be written"):
            recorded(path, 600, fails)
    hidden = tmp_path / f".{path.name}.replaced"
    assert len(cnatool.open(hidden).splits["train"]) == 200
    assert cnatool.verify(hidden).faults == ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded(path, 300)
    assert len(cnatool.open(path).splits["train"]) == 300
    left = {found.name for found in tmp_path.iterdir()} - {path.name}
    assert left == ({f"s.previous.{form}"} if committed else set())


@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_a_first_commit_that_fails_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    def full(*words: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / f"s.{form}"
    with pytest.raises(StoreWriteError, match=rf"s\.{form} cannot be created: No space left"):
        recorded(path, 100)
    assert not list(tmp_path.iterdir())
