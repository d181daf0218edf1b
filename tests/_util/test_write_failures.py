"""Why a file cannot be written, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import polars as pl
import pytest

from cnatool._util.frame_files import write_frame
from cnatool._util.write_failures import make_write_error
from cnatool.errors import StoreWriteError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Permission denied. Name another file."),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device. Free some space, or name another file.",
        ),
        (
            pl.exceptions.ComputeError(
                "parquet: File out of specification: underlying IO error: No space left on device "
                f"(os error {errno.ENOSPC})"
            ),
            "No space left on device. Free some space, or name another file.",
        ),
        (
            OSError(f"File too large (os error {errno.EFBIG})"),
            "File too large. Allow larger files (`ulimit -f`), or name another file.",
        ),
        (pl.exceptions.ComputeError("odd"), "odd. Name another file."),
    ],
)
def test_the_reason_is_the_systems_and_the_advice_fits(error: Exception, text: str) -> None:
    assert str(make_write_error(Path("t.parquet"), error)) == f"t.parquet cannot be written: {text}"


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_nothing_is_left_of_a_table_that_a_full_disk_refuses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = pl.exceptions.ComputeError(f"parquet: IO error: … (os error {errno.ENOSPC})")

    def refuse(self: pl.DataFrame, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"begun")
        raise full

    monkeypatch.setattr(pl.DataFrame, f"write_{name.partition('.')[2]}", refuse)
    with pytest.raises(StoreWriteError, match=r"No space left on device\. Free some space"):
        write_frame(pl.DataFrame({"a": [1]}), tmp_path / name)
    assert not list(tmp_path.iterdir())
