"""Files that later commands read numbers from: changed ones are noticed, whatever the byte."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.notes import Notes

import cnatool
from cnatool.errors import DataError, StoreWriteError
from cnatool.studying import write as files
from cnatool.studying.read import read_results

# Files that each command's results are read from again.
READ = {
    "study": ("study.json", "networks.parquet"),
    "trajectory": ("trajectory.json", "steps.parquet", "error_by_alpha.parquet"),
    "landscape": ("landscape.json", "landscape_points.parquet", "landscape_grid.parquet"),
}
PAIRS = [(kind, name) for kind, names in READ.items() for name in (*names, f"{kind}.sha256")]


def record(path: Path, epoch: int) -> Path:
    """Record whole activations of a network that classifies 12 samples of two splits."""
    rng = np.random.default_rng(epoch)
    with cnatool.create_store(
        path, tensors=["a", "b", "out"], outputs=["out"], tags={"epoch": str(epoch)}
    ) as store:
        for split in ("train", "test"):
            store.append(
                split,
                inputs=np.random.default_rng(len(split)).integers(0, 256, (12, 4, 4), np.uint8),
                labels=rng.integers(0, 2, 12),
                outputs=rng.normal(size=(12, 2)),
                activations={name: rng.normal(size=(12, 3)) for name in "ab"},
            )
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stores")
    return [record(folder / f"{epoch}.zarr", epoch) for epoch in range(6)]


def run(kind: str, stores: list[Path], folder: Path) -> None:
    """Write the results of one command."""
    if kind == "study":
        cnatool.study(stores, folder=folder, resamples=0)
    elif kind == "trajectory":
        cnatool.trajectory(stores, folder=folder)
    else:
        cnatool.landscape(stores, folder=folder, grid=3)


@pytest.fixture(scope="module")
def results(stores: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with the results of all commands over five stores."""
    folder = tmp_path_factory.mktemp("results")
    for kind in READ:
        run(kind, stores[:5], folder)
    return folder


@pytest.fixture
def folder(results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(results, tmp_path / "results"))


def numbers(found: Any) -> bytes:
    """Give everything that was read, as bytes to compare."""
    frames = [
        value for name in found.__slots__ if hasattr(value := getattr(found, name), "columns")
    ]
    return found.result.to_json().encode() + b"".join(
        json.dumps(frame.to_dict(as_series=False)).encode() for frame in frames
    )


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_no_changed_byte_is_read(kind: Any, name: str, folder: Path) -> None:
    notes = Notes()
    whole = numbers(read_results(folder, kind, notes))
    assert notes.texts == []
    path = folder / name
    content = path.read_bytes()
    step = max(1, len(content) // 100)
    for place in (*range(0, len(content), step), len(content) - 1):
        for bit in (1, 0x20):
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(changed)
            if name.endswith(".sha256"):
                # Beside the files that are read, it lists others.
                with suppress(DataError):
                    assert numbers(read_results(folder, kind)) == whole
                continue
            with pytest.raises(DataError) as raised:
                read_results(folder, kind)
            assert f"Run `{kind}(..., folder={str(folder)!r})` again." in str(raised.value)
    for cut in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError):
            read_results(folder, kind)
    path.write_bytes(content + b"\n")
    with pytest.raises(DataError):
        read_results(folder, kind)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in READ.items() for n in names])
def test_a_file_of_another_run_is_noticed(
    kind: Any, name: str, stores: list[Path], folder: Path, tmp_path: Path
) -> None:
    """Of as many networks, so that no number of rows gives it away."""
    run(kind, stores[1:6], tmp_path / "other")
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()
    shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(DataError, match="was changed or comes from another run"):
        read_results(folder, kind)
    # The advice helps.
    run(kind, stores[:5], folder)
    read_results(folder, kind)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in READ.items() for n in names])
def test_what_is_not_listed_is_not_read(kind: Any, name: str, folder: Path) -> None:
    path = folder / f"{kind}.sha256"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.endswith(f" {name}\n")))
    with pytest.raises(DataError, match=f"{name} cannot be read: {kind}.sha256 does not list it"):
        read_results(folder, kind)


@pytest.mark.parametrize("kind", READ)
def test_folders_without_a_list_are_read_with_a_note(kind: Any, folder: Path) -> None:
    before = numbers(read_results(folder, kind))
    (folder / f"{kind}.sha256").unlink()
    notes = Notes()
    assert numbers(read_results(folder, kind, notes)) == before
    assert len(notes.texts) == 1
    assert f"has no {kind}.sha256, so its files are not checked" in notes.texts[0]


@pytest.mark.parametrize("kind", READ)
def test_the_list_is_that_of_sha256sum(kind: str, folder: Path) -> None:
    text = (folder / f"{kind}.sha256").read_text("ascii")
    listed = dict(line.split("  ")[::-1] for line in text.splitlines())
    for name, digest in listed.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert listed.keys() >= set(READ[kind])
    if shutil.which("sha256sum"):
        words = ["sha256sum", "--check", "--strict", "--quiet", f"{kind}.sha256"]
        assert subprocess.run(words, cwd=folder, check=True).returncode == 0


@pytest.mark.parametrize("kind", READ)
def test_a_run_cut_off_at_any_file_leaves_no_mixture(
    kind: Any,
    stores: list[Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by a kill: whatever had taken its place, no result is made of two runs."""
    old = numbers(read_results(folder, kind))
    before = shutil.copytree(folder, tmp_path / "before")
    rename = Path.rename
    seen = set()
    for last in range(30):
        count = 0

        def failing(path: Path, target: Path, last: int = last) -> Path:
            nonlocal count
            count += 1
            if count > last:
                raise KeyboardInterrupt
            return rename(path, target)

        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        monkeypatch.setattr(Path, "rename", failing)
        try:
            run(kind, stores[1:6], folder)
            break
        except KeyboardInterrupt:
            pass
        finally:
            monkeypatch.setattr(Path, "rename", rename)
        try:
            assert numbers(read_results(folder, kind)) == old
            seen.add("old")
        except DataError:
            seen.add("error")
    assert seen == {"old", "error"}
    assert numbers(read_results(folder, kind)) != old


def test_a_full_disk_leaves_the_old_result(
    stores: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = numbers(read_results(folder, "study"))

    def full(*words: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "list_checksums", full)
    with pytest.raises(StoreWriteError, match="No space left on device"):
        cnatool.study(stores[1:4], folder=folder, resamples=0)
    assert numbers(read_results(folder, "study")) == old
    assert not list(folder.glob(".*"))


def changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["networks.parquet", "networks.csv"])
def test_tables_of_a_study_are_checked_where_they_are_studied_again(
    name: str, folder: Path, tmp_path: Path
) -> None:
    whole = cnatool.study(frame=folder / name, resamples=0).networks
    assert len(whole) == 5
    content = (folder / name).read_bytes()
    for place in range(0, len(content), max(1, len(content) // 20)):
        broken = bytearray(content)
        broken[place] ^= 1
        (folder / name).write_bytes(broken)
        with pytest.raises(DataError, match=f"`frame` .*{name}") as raised:
            cnatool.study(frame=folder / name, resamples=0)
        assert "To use a file that you changed on purpose, give it another name" in str(
            raised.value
        )
    # A user's own table is the user's.
    (folder / f"mine-{name}").write_bytes(content)
    assert cnatool.study(frame=folder / f"mine-{name}", resamples=0).networks.equals(whole)


def test_no_changed_byte_of_a_kept_score_is_taken(stores: list[Path], tmp_path: Path) -> None:
    first = cnatool.study(stores[:1], folder=tmp_path, resamples=0)
    (path,) = (tmp_path / "scores").iterdir()
    content = path.read_bytes()
    json.loads(content)
    for place in range(0, len(content), max(1, len(content) // 20)):
        broken = bytearray(content)
        broken[place] ^= 1
        path.write_bytes(broken)
        notes = Notes()
        again = cnatool.study(stores[:1], folder=tmp_path, resamples=0, observer=notes)
        assert again.reused == 0
        assert again.networks.equals(first.networks)
        assert (
            f"1 kept score did not match the checksum and was computed again (the first: {path})"
            in (notes.texts)
        )
        assert path.read_bytes() == content


def test_every_digit_of_a_kept_score_counts(stores: list[Path], tmp_path: Path) -> None:
    from cnatool.studying.collect import ScoreCache

    cnatool.study(stores[:1], folder=tmp_path, resamples=0)
    (path,) = (tmp_path / "scores").iterdir()
    content = path.read_bytes()
    for place, byte in enumerate(content):
        if chr(byte).isdigit():
            path.write_bytes(
                content[:place] + (b"1" if byte != 49 else b"2") + content[place + 1 :]
            )
            assert ScoreCache(tmp_path / "scores").get(path.stem) is None


def test_kept_scores_in_each_other_s_place_are_not_taken(
    stores: list[Path], tmp_path: Path
) -> None:
    first = cnatool.study(stores[:2], folder=tmp_path, resamples=0)
    one, other = (tmp_path / "scores").iterdir()
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    notes = Notes()
    again = cnatool.study(stores[:2], folder=tmp_path, resamples=0, observer=notes)
    assert again.reused == 0
    assert again.networks.equals(first.networks)
    assert any(text.startswith("2 kept scores did not match") for text in notes.texts)
    # A score from before there were checksums is computed again as well.
    changed(one, lambda text: json.dumps(json.loads(text)["score"]).encode())
    assert cnatool.study(stores[:2], folder=tmp_path, resamples=0).reused == 1


def test_csv_is_written_as_before(folder: Path) -> None:
    assert pl.read_csv(folder / "networks.csv")["id"].to_list() == [0, 1, 2, 3, 4]
