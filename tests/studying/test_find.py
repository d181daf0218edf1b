"""Which stores in a folder are networks: parts of dumps are none, whole stores all are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.command import run
from support.networks import mlp, saved
from support.notes import Notes
from support.parts import Parts

import cnatool
from cnatool.errors import DataError, NotAStoreError, UsageError
from cnatool.studying.find import find_stores

EPOCHS = (1, 2, 3, 4)
NOTE = "12 parts of dumps are skipped: a dump counts only once its parts are merged"
COMMANDS: dict[str, Callable[..., Any]] = {
    "study": lambda stores, **options: cnatool.study(stores, resamples=0, **options),
    "trajectory": cnatool.trajectory,
    "landscape": lambda stores, **options: cnatool.landscape(stores, grid=3, **options),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of four networks, each merged from three parts beside it."""
    here = Parts(tmp_path_factory.mktemp("networks"), train=40, test=24)
    (here.folder / "stores").mkdir()
    for epoch in EPOCHS:
        saved(mlp(seed=epoch), here.folder / "epoch.onnx")
        options: dict[str, Any] = {"model": "epoch.onnx", "tags": {"epoch": str(epoch)}}
        parts = [
            here.dump(f"stores/n{epoch}.part-{number}-of-3.zarr", part=(number, 3), **options)
            for number in (1, 2, 3)
        ]
        cnatool.merge([part.path for part in parts], here.folder / f"stores/n{epoch}.zarr")
    return here.folder / "stores"


def merged(folder: Path) -> list[Path]:
    return [folder / f"n{epoch}.zarr" for epoch in EPOCHS]


def part(folder: Path) -> Path:
    return folder / "n2.part-2-of-3.zarr"


def numbers(result: Any) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(result)
    return {key: value for key, value in document.items() if key not in ("notes", "not_scored")}


@pytest.mark.parametrize("command", COMMANDS)
def test_parts_in_a_folder_are_no_networks(command: str, networks: Path) -> None:
    expected = COMMANDS[command](merged(networks)).result
    found = COMMANDS[command](networks, strict=True).result
    assert numbers(found) == numbers(expected)
    assert found.notes == (NOTE, *expected.notes)
    assert found.not_scored == ()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_part_that_is_named_is_no_network_either(command: str, networks: Path) -> None:
    expected = COMMANDS[command](merged(networks)).result
    found = COMMANDS[command]([part(networks), *merged(networks)]).result
    assert numbers(found) == numbers(expected)
    assert found.notes == expected.notes
    (left_out,) = found.not_scored
    assert left_out.path == str(part(networks))
    assert left_out.reason == (
        "it is part 2 of 3 of a dump: merge all parts, and name the merged store"
    )
    with pytest.raises(NotAStoreError, match="part 2 of 3"):
        COMMANDS[command]([part(networks), *merged(networks)], strict=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_parts_alone_are_an_error(command: str, networks: Path, tmp_path: Path) -> None:
    shutil.copytree(part(networks), tmp_path / part(networks).name)
    with pytest.raises(DataError, match="only parts of dumps are in this folder: merge the parts"):
        COMMANDS[command](tmp_path)
    with pytest.raises(DataError, match=r"merge all parts, and name the merged store\.$"):
        COMMANDS[command](part(networks))


def test_a_part_has_no_test_split(networks: Path, tmp_path: Path) -> None:
    shutil.copytree(part(networks), tmp_path / "n1.zarr")
    with pytest.raises(DataError, match=r"n1\.zarr: it is part 2 of 3 of a dump: merge all"):
        cnatool.study(merged(networks)[0], test=tmp_path)


def test_a_folder_beside_others(networks: Path, tmp_path: Path) -> None:
    """Parts are counted once, however often they are found; a damaged store is none."""
    damaged = tmp_path / "damaged.zarr"
    damaged.mkdir()
    (damaged / "zarr.json").write_text("{")
    found = find_stores([networks, tmp_path, networks.parent / "stores"])
    assert found.stores == [*merged(networks), damaged]
    assert (found.rejected, found.notes) == ([], (NOTE,))
    shutil.copytree(part(networks), tmp_path / "p.zarr")
    assert find_stores([tmp_path]).notes == (
        "1 part of a dump is skipped: a dump counts only once its parts are merged",
    )
    assert find_stores([part(networks)], named_parts=True).stores == [part(networks)]


def test_pictures_of_a_folder_leave_parts_out(networks: Path, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="pictures are drawn with Altair")
    notes = Notes()
    chart = cnatool.plot(networks, "alpha-beta", observer=notes)
    assert notes.texts == [NOTE]
    assert chart.to_dict() == cnatool.plot(merged(networks), "alpha-beta").to_dict()
    # A part that is named is drawn, as it is scored.
    cnatool.plot(part(networks), "depth-profile")
    shutil.copytree(part(networks), tmp_path / "p.zarr")
    with pytest.raises(UsageError, match="only parts of dumps are in this folder"):
        cnatool.plot(tmp_path, "alpha-beta")


def test_the_command(networks: Path) -> None:
    result = run("study", "stores", "--resamples", "0", cwd=networks.parent)
    assert f"note: {NOTE}\n" in result.stdout
    assert "4 networks, each its own cluster" in result.stdout
