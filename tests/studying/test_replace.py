"""Results of several files are replaced: however often that is killed, none are of two runs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from support.steps import ended_at_step, in_process, steps

from cnatool.errors import DataError, StoreWriteError
from cnatool.studying.frame import read_networks
from cnatool.studying.read import list_results
from cnatool.studying.write import check_folder, write_results

# One in so many steps is tried; 1 is every one.
STRIDE = int(os.environ.get("CNATOOL_STEPS", "5"))
FILES = ["bins.csv", "bins.parquet", "networks.csv", "networks.parquet"]
FILES += ["study.json", "study.sha256"]


def write(folder: Path, run: int) -> None:
    import polars as pl

    check_folder(folder)
    tables = {name: pl.DataFrame({"run": [run] * 5}) for name in ("networks", "bins")}
    write_results(folder, tables, "study", f'{{"run": {run}}}')


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def kill_at_every_step(place: str) -> None:
    whole = {run: Path(place) / f"run{run}" for run in (1, 2, 3)}
    for run, folder in whole.items():
        assert ended_at_step(lambda f=folder, r=run: write(f, r), 1 << 30) == 0
    expected = {run: contents(folder) for run, folder in whole.items()}
    assert all(sorted(found) == FILES for found in expected.values())
    here = Path(place) / "here"

    def prepare() -> None:
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(whole[1], here)

    def check(*runs: int) -> None:
        found = {name: text for name, text in contents(here).items() if name in FILES}
        of = [run for run in runs if found.items() <= expected[run].items()]
        assert of, sorted(path.name for path in here.iterdir())
        new = here / "study.new"
        if new.is_dir():
            # What is not in its place yet is there, and of the same run.
            later = {path.name: path.read_bytes() for path in new.iterdir()}
            parts = [later, later | found]
            assert any(part == expected[run] for part in parts for run in runs), found.keys()
            with pytest.raises(DataError, match="was killed while it replaced the results"):
                list_results(here)
        else:
            assert any(found == expected[run] for run in of)

    count = 0
    for step in steps(lambda: write(here, 2), prepare, STRIDE):
        check(1, 2)
        count += 1
        ended_at_step(lambda: write(here, 3), 1 + step % 7)
        check(1, 2, 3)
        assert ended_at_step(lambda: write(here, 3), 1 << 30) == 0
        assert contents(here) == expected[3], step
        assert [path.name for path in here.iterdir() if path.is_dir()] == []
    sys.stdout.write(str(count))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_killed_at_every_step(tmp_path: Path) -> None:
    assert int(in_process(kill_at_every_step, tmp_path)) * STRIDE > 20


def test_what_is_written_by_an_interrupted_run_goes(tmp_path: Path, monkeypatch) -> None:
    import polars as pl

    write(tmp_path, 1)
    before = contents(tmp_path)

    def fails(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pl.DataFrame, "write_csv", fails)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2)
    assert contents(tmp_path) == before
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_folder_that_has_the_name_of_a_result(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "bins.csv").unlink()
    (tmp_path / "bins.csv").mkdir()
    before = contents(tmp_path)
    with pytest.raises(StoreWriteError, match=r"bins\.csv is a folder"):
        write(tmp_path, 2)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("held", [["networks.csv"], ["study.json", "scores/1.json"], ["a/b"]])
def test_a_folder_of_the_user_stays(held: list[str], tmp_path: Path) -> None:
    """A folder that only has the name of results which are being replaced."""
    write(tmp_path, 1)
    before = contents(tmp_path)
    for name in held:
        path = tmp_path / "study.new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    with pytest.raises(StoreWriteError, match=r"study\.new is in the way: cnatool did not write"):
        check_folder(tmp_path)
    assert contents(tmp_path) == before
    assert all((tmp_path / "study.new" / name).read_text() == "mine" for name in held)
    assert list_results(tmp_path) == ["study"]


def test_no_frame_is_read_from_results_that_are_partly_replaced(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "study.new").mkdir()
    for name in ("study.sha256", "study.json"):
        (tmp_path / name).rename(tmp_path / "study.new" / name)
    for name in ("networks.parquet", "networks.csv"):
        with pytest.raises(DataError, match="was killed while it replaced the results of a study"):
            read_networks(tmp_path / name)
