"""Stores that are not finished: what is read of them while they are written, and afterwards."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support.command import run
from support.dumps import commit_often, make_data
from support.forked import ForkedCommand
from support.notes import Notes
from support.rowless import leave_rowless

import cnatool
from cnatool.errors import CnatoolError, MetricError, UsageError

ROWS = 20_000
# Which no message depends on.
NO_INTERVALS = (
    *("--set", "resamples=0"),
    *("--set", "permutations=0"),
    *("--set", "area_resamples=0"),
)


def committed(store: Path) -> int:
    try:
        return len(cnatool.open(store).splits["train"])
    except (CnatoolError, KeyError):
        return 0


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_dump_that_is_running(name: str, tmp_path: Path) -> None:
    make_data(tmp_path, ROWS, 10)
    store = tmp_path / name
    words = ("dump", "net.onnx", "data", "-o", name, "--batch-size", 16)
    with ForkedCommand(*words, cwd=tmp_path) as dump:
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
            while time.monotonic() < went_on + 0.5 and dump.poll() is None:
                found = cnatool.verify(store)
                assert found.faults == ()
        finally:
            dump.kill()
    part = result.splits["train"]
    assert 0 < part.samples < part.rows == ROWS
    assert scored.returncode == inspected.returncode == verified.returncode == 0
    assert f" of {ROWS:,} rows of train" in scored.stderr
    assert f" of {ROWS:,} rows, unfinished, labels" in inspected.stdout
    assert f" of {ROWS + 10:,} rows, which were read)" in verified.stdout
    assert "nothing is wrong" in verified.stdout


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_scores_are_those_of_the_committed_rows(name: str, tmp_path: Path) -> None:
    make_data(tmp_path, 300, 100)

    with pytest.MonkeyPatch.context() as patch:
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


_DUMP_ENDS = (
    "has no rows yet: its dump has not committed any. Wait until its dump ends or, if that was "
    "interrupted, run the same dump again with --resume to continue it."
)
_RECORDING_ENDS = (
    "has no rows yet: its recording has not committed any. Wait until its recording ends or, if "
    "that was interrupted, record the network again."
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores without rows, as a kill leaves them, beside a whole one."""
    folder = make_data(tmp_path_factory.mktemp("rowless"), 300, 100)
    run("dump", "net.onnx", "data", "-o", "whole.zarr", cwd=folder)
    for kind in ("dump", "record"):
        leave_rowless(folder, kind, "StoreWriter.split", f"{kind}-without-splits.zarr")
        leave_rowless(folder, kind, "SplitWriter.append", f"{kind}-without-rows.h5")
    return folder


ROWLESS = [
    (f"{kind}-without-{what}{suffix}", advice)
    for kind, advice in (("dump", _DUMP_ENDS), ("record", _RECORDING_ENDS))
    for what, suffix in (("splits", ".zarr"), ("rows", ".h5"))
]


@pytest.mark.parametrize(("name", "advice"), ROWLESS)
def test_a_store_without_rows_is_never_taken_for_a_whole_one(
    here: Path, name: str, advice: str
) -> None:
    before = {path.name for path in here.iterdir()}
    for words in (
        ("score", name),
        ("score", "whole.zarr", "--test", name),
        ("layers", name),
        ("compare", name, "whole.zarr"),
        ("compare", "whole.zarr", name),
        ("convert", name, "copy.zarr"),
        ("plot", name, "--figure", "depth-profile", "-o", "picture.json"),
        ("plot", name, "--figure", "alpha-beta", "-o", "picture.json"),
        ("dump", "net.onnx", "data", "-o", "other.zarr", "--inputs-from", name),
    ):
        refused = run(*words, cwd=here, code=2)
        assert refused.stdout == ""
        assert refused.stderr.splitlines()[-1] == f"cnatool: {name} {advice}", words
    # What such a refusal must not leave; a lock stays beside every store that was written.
    left = {path.name for path in here.iterdir()} - before
    assert all(path.endswith(".lock") for path in left)
    studied = run("study", name, "whole.zarr", cwd=here, code=1)
    assert f"left out: {name} {advice}" in studied.stderr.splitlines()
    drawn = run(
        *("plot", name, "whole.zarr", "--figure", "area", "-o", here.parent / "area.json"),
        cwd=here,
        code=1,
    )
    assert f"left out: {name} {advice}" in drawn.stderr.splitlines()


@pytest.mark.parametrize(("name", "advice"), ROWLESS)
def test_verify_and_inspect_say_that_there_are_no_rows(here: Path, name: str, advice: str) -> None:
    verified = run("verify", name, cwd=here, code=1)
    assert verified.stdout.startswith(f"{name}: nothing to check (")
    assert f"{name} {advice}" in verified.stderr.splitlines()
    found = json.loads(run("verify", name, "--json", cwd=here, code=1).stdout)
    assert (found["complete"], found["committed"], found["faults"]) == (False, 0, [])
    inspected = run("inspect", name, cwd=here)
    assert f"{name} {advice}".startswith(inspected.stderr.strip())
    assert "has no rows yet" in inspected.stderr


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_the_advice_helps(suffix: str, tmp_path: Path) -> None:
    make_data(tmp_path, 300, 100)
    name = leave_rowless(tmp_path, "dump", "StoreWriter.split", f"s{suffix}")
    run("dump", "net.onnx", "data", "-o", name, "--resume", cwd=tmp_path)
    assert cnatool.verify(tmp_path / name).complete
    assert json.loads(run("verify", name, "--json", cwd=tmp_path).stdout)["committed"] == 400


@pytest.fixture(scope="module", params=["train", "test"])
def partial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of which 64 rows of one split are committed, beside the whole one."""
    folder = make_data(tmp_path_factory.mktemp(request.param), 300, 100)
    with pytest.MonkeyPatch.context() as patch:
        commit_often(patch)
        with pytest.raises(KeyboardInterrupt):
            cnatool.dump(
                folder / "net.onnx",
                folder / "data",
                folder / "part.zarr",
                batch_size=16,
                observer=Notes(request.param, 64),
            )
        cnatool.dump(folder / "net.onnx", folder / "data", folder / "whole.zarr", batch_size=16)
    return folder


def rows_of(folder: Path) -> str:
    splits = cnatool.open(folder / "part.zarr").splits
    pairs = [(name, len(split), split.record.rows) for name, split in splits.items()]
    lacking = [f"{rows} of {whole} rows of {name}" for name, rows, whole in pairs if rows < whole]
    assert lacking
    return f"part.zarr is not finished: it has {' and '.join(lacking)}"


def test_every_command_says_which_rows_it_read(partial: Path) -> None:
    said = rows_of(partial)
    for words in (
        ("score", "part.zarr", *NO_INTERVALS),
        ("layers", "part.zarr"),
        ("compare", "part.zarr", "whole.zarr", *NO_INTERVALS),
        ("compare", "whole.zarr", "part.zarr", *NO_INTERVALS),
    ):
        code = 1 if words[0] == "compare" else 0
        found = run(*words, cwd=partial, code=code)
        assert f"note: {said}" in found.stdout.splitlines()
        if words[0] != "compare":
            assert said in found.stderr.splitlines()
        document = json.loads(run(*words, "--json", cwd=partial, code=code).stdout)
        assert said in document["notes"]
    for words in (
        ("inspect", "part.zarr"),
        ("plot", "part.zarr", "--figure", "depth-profile", "-o", "picture.json"),
        ("plot", "part.zarr", "--figure", "alpha-beta", "-o", "picture.json"),
    ):
        assert said in run(*words, cwd=partial).stderr.splitlines()
    assert f"{said}. Wait until its dump ends" in run("verify", "part.zarr", cwd=partial).stderr
    refused = run("convert", "part.zarr", "copy.zarr", cwd=partial, code=2).stderr
    assert f"{said}. Wait until its dump ends" in refused
    for words in (
        ("score", "whole.zarr", *NO_INTERVALS),
        ("inspect", "whole.zarr"),
        ("verify", "whole.zarr"),
    ):
        whole = run(*words, cwd=partial)
        assert "not finished" not in whole.stdout + whole.stderr


def test_a_profile_is_titled_with_the_rows_that_it_shows(partial: Path) -> None:
    run("plot", "part.zarr", "--figure", "depth-profile", "-o", "picture.json", cwd=partial)
    picture = (partial / "picture.json").read_text()
    for split in cnatool.open(partial / "part.zarr").splits.values():
        assert f"{split.name}, n = {len(split)}" in picture


def test_rows_that_are_not_there_are_not_compared(partial: Path) -> None:
    splits = cnatool.open(partial / "part.zarr").splits
    empty = [name for name, split in splits.items() if not len(split)]
    found = cnatool.compare(partial / "part.zarr", partial / "whole.zarr")
    assert not found.same
    assert list(found.splits) == [name for name in splits if name not in empty]
    for name in empty:
        part = partial / "part.zarr"
        assert f"split {name} is not compared: {part} has no rows of it yet" in found.notes
        assert f"split {name} has 0 rows and 100" in found.differences
        with pytest.raises(MetricError, match="is not finished"):
            cnatool.compare(partial / "part.zarr", partial / "whole.zarr", split=name)
    with pytest.raises(UsageError, match="is not finished"):
        cnatool.dump(
            partial / "net.onnx",
            partial / "data",
            partial / "other.zarr",
            inputs_from=partial / "part.zarr",
        )
