"""One bad store among many: it is left out and reported, and the others give the same numbers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.notes import Notes
from support.stores import changed_attribute

import cnatool
from cnatool.errors import (
    CnatoolError,
    DataError,
    MetricError,
    NotAStoreError,
    StoreDamagedError,
    UsageError,
)
from cnatool.studying import collect as collection


def record(
    path: Path,
    epoch: int,
    *,
    width: int = 3,
    rows: int = 12,
    samples: int = 0,
    broken: bool = False,
    whole: bool = True,
    tags: dict[str, str] | None = None,
) -> Path:
    """Record a network; `samples` seeds the data that it saw."""
    rng = np.random.default_rng(epoch)
    options: dict[str, Any] = {} if whole else {"keep": "statistics"}
    with cnatool.create_store(
        path,
        tensors=["a", "b", "out"],
        outputs=["out"],
        tags={"epoch": str(epoch)} if tags is None else tags,
        **options,
    ) as store:
        for split in ("train", "test"):
            x = np.random.default_rng(samples + len(split)).integers(0, 256, (12, 4, 4), np.uint8)
            activations = {name: rng.normal(size=(12, width)) for name in "ab"}
            if broken:
                activations["b"][5, 1] = np.inf
            store.append(
                split,
                inputs=x[:rows],
                labels=rng.integers(0, 2, 12)[:rows],
                outputs=rng.normal(size=(12, 2))[:rows],
                activations={name: values[:rows] for name, values in activations.items()},
            )
    return path


def flip(folder: Path) -> None:
    """Change a byte in the middle of the largest file of a folder."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damaged_inputs(path: Path) -> None:
    record(path, 9)
    flip(next(path.glob("splits/train/inputs*")))


def damaged_activations(path: Path) -> None:
    record(path, 9)
    flip(path / "splits/train/activations")


def damaged_attribute(path: Path) -> None:
    record(path, 9)
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace("cnatool.store", "cnatool.stork"))


def unfinished(path: Path) -> None:
    record(path, 9)
    with changed_attribute(path) as attribute:
        attribute["splits"]["train"] |= {"complete": False, "committed": [[0, 4]]}


def no_store(path: Path) -> None:
    path.mkdir()
    (path / "note.txt").write_text("nothing")


def truncated(path: Path) -> None:
    record(path, 9)
    (path / "zarr.json").write_bytes(b"")


def leads_to_itself(path: Path) -> None:
    path.symlink_to(path)


def missing(path: Path) -> None:
    pass


BAD: dict[Callable[[Path], None], type[CnatoolError]] = {
    damaged_attribute: StoreDamagedError,
    truncated: StoreDamagedError,
    unfinished: MetricError,
    no_store: NotAStoreError,
    missing: NotAStoreError,
}
# These are whole stores, whose scores or whose planes fail.
LANDSCAPE_ALONE: dict[Callable[[Path], Any], type[CnatoolError]] = {
    damaged_inputs: StoreDamagedError,
    damaged_activations: StoreDamagedError,
    lambda path: record(path, 9, broken=True): MetricError,
    lambda path: record(path, 9, width=4): MetricError,
    lambda path: record(path, 9, samples=50): MetricError,
    lambda path: record(path, 9, whole=False): MetricError,
    lambda path: record(path, 9, samples=50, rows=7): MetricError,
}
COMMANDS: dict[str, Callable[..., Any]] = {
    "study": lambda stores, **options: cnatool.study(stores, resamples=0, **options),
    "trajectory": cnatool.trajectory,
    "landscape": lambda stores, **options: cnatool.landscape(stores, grid=3, **options),
}
CASES = [
    *((command, make, error) for command in COMMANDS for make, error in BAD.items()),
    *(("landscape", make, error) for make, error in LANDSCAPE_ALONE.items()),
    *((command, damaged_inputs, StoreDamagedError) for command in ("study", "trajectory")),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    return [record(folder / f"{epoch}.zarr", epoch) for epoch in range(4)]


@pytest.fixture(scope="module")
def expected(good: list[Path]) -> dict[str, Any]:
    return {name: command(good).result for name, command in COMMANDS.items()}


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(("command", "make", "error"), CASES)
def test_the_others_are_as_without_it(
    command: str,
    make: Callable[[Path], Any],
    error: type[CnatoolError],
    place: int,
    good: list[Path],
    expected: dict[str, Any],
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad.zarr"
    make(bad)
    stores = [*good[:place], bad, *good[place:]]
    notes = Notes()
    found = COMMANDS[command](stores, observer=notes, folder=tmp_path / "out")
    assert msgspec.structs.replace(found.result, not_scored=()) == expected[command]
    (one,) = found.result.not_scored
    assert one.path == str(bad)
    (line,) = [text for text in notes.texts if text.startswith("left out: ")]
    assert str(bad) in line
    assert "\n" not in line
    assert (tmp_path / f"out/{command}.json").read_text("utf-8") == found.result.to_json()
    with pytest.raises(error) as raised:
        COMMANDS[command](stores, strict=True, folder=tmp_path / "strict")
    assert str(raised.value) == one.reason
    assert not (tmp_path / f"strict/{command}.json").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_folders_hold_what_no_command_can_read(
    command: str, good: list[Path], tmp_path: Path
) -> None:
    for store in good:
        shutil.copytree(store, tmp_path / "stores" / store.name)
    (tmp_path / "stores/loop.zarr").symlink_to("loop.zarr")
    (tmp_path / "stores/gone.h5").symlink_to("nowhere")
    (tmp_path / "stores/text.h5").write_text("no store")
    (tmp_path / "stores/cut.zarr.zip").write_bytes(b"PK\x03\x04")
    name = os.fsdecode(b"caf\xe9.zarr")
    try:
        shutil.copytree(good[0], tmp_path / "stores" / name)
    except OSError:
        pytest.skip("this file system holds UTF-8 alone")
    found = COMMANDS[command](tmp_path / "stores", folder=tmp_path / "out")
    assert {Path(one.path).name for one in found.result.not_scored} == {
        "loop.zarr", "gone.h5", "text.h5", "cut.zarr.zip", "caf\\xe9.zarr"
    }  # fmt: skip
    assert (tmp_path / f"out/{command}.json").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_fault_of_cnatool_is_never_left_out(
    command: str, good: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(*words: object, **options: object) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(collection, "score_store", faulty)
    monkeypatch.setattr("cnatool.studying.minibatch.select_splits", faulty)
    notes = Notes()
    with pytest.raises(IndexError):
        COMMANDS[command](good, observer=notes)
    assert any(str(good[0]) in text and "unexpected error" in text for text in notes.texts)


FIGURES = ["depth-profile", "alpha-beta", "area", "error-by-alpha"]


@pytest.mark.parametrize("make", [damaged_attribute, damaged_inputs, missing, no_store])
@pytest.mark.parametrize("figure", FIGURES)
def test_pictures_of_stores_leave_bad_ones_out(
    figure: str, make: Callable[[Path], Any], good: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("altair", reason="pictures are drawn with Altair")
    from cnatool.plotting.plot import not_scored

    bad = tmp_path / "bad.zarr"
    make(bad)
    notes = Notes()
    # The curves of so few samples need a narrow window.
    options = {"overrides": {"window": 3}} if figure == "area" else {}
    chart = cnatool.plot([good[0], bad, good[1]], figure, observer=notes, **options)
    (one,) = not_scored(chart)
    assert one.path == str(bad)
    assert [text for text in notes.texts if text.startswith(f"left out: {bad}")]
    expected = cnatool.plot(good[:2], figure, **options)
    assert not_scored(expected) == []
    drawn = chart.to_dict()
    assert drawn.pop("usermeta") == {"not_scored": [{"path": one.path, "reason": one.reason}]}
    assert drawn == expected.to_dict()
    for refused, strict in (([good[0], bad], True), (bad, False), ([bad], False)):
        with pytest.raises(CnatoolError):
            cnatool.plot(refused, figure, strict=strict)


@pytest.mark.parametrize("command", COMMANDS)
def test_too_few_are_left(command: str, good: list[Path], tmp_path: Path) -> None:
    few = {"study": 0, "trajectory": 1, "landscape": 2}[command]
    with pytest.raises(DataError) as raised:
        COMMANDS[command]([*good[:few], "gone.zarr", tmp_path / "none.zarr"])
    messages = {
        "study": "no network could be scored. gone.zarr: no such file or folder. And 1 more.",
        "trajectory": "a series needs at least two checkpoints of a run, and there is 1 store.",
        "landscape": "a plane needs at least three checkpoints, but there are 2. gone.zarr: no "
        "such file or folder. And 1 more.",
    }
    assert str(raised.value) == messages[command]


def test_most_checkpoints_decide_what_is_the_network(good: list[Path], tmp_path: Path) -> None:
    others = [record(tmp_path / f"{i}.zarr", 10 + i, width=4) for i in range(4)]
    found = cnatool.landscape([*others[:3], *good], grid=3).result
    assert [one.step for one in found.points] == [0, 1, 2, 3]
    assert {one.path for one in found.points} == set(map(str, good))
    assert [one.path for one in found.not_scored] == list(map(str, others[:3]))
    assert "their layers differ" in found.not_scored[0].reason
    # Neither is the right one.
    with pytest.raises(MetricError, match="their layers differ"):
        cnatool.landscape([*others, *good], grid=3)


def test_a_short_store_of_other_samples_shortens_no_minibatch(
    good: list[Path], tmp_path: Path
) -> None:
    short = record(tmp_path / "short.zarr", 9, samples=50, rows=5)
    found = cnatool.landscape([short, *good], grid=3).result
    assert (found.samples, len(found.points)) == (12, 4)
    assert found.grid == cnatool.landscape(good, grid=3).result.grid


def test_a_missing_checkpoint_moves_no_step(tmp_path: Path) -> None:
    """Steps that are places count every store that was given, the missing ones too."""
    stores = [record(tmp_path / f"{i}.zarr", i, tags={}) for i in range(5)]
    whole = {one.id: one.step for one in cnatool.trajectory(stores).result.runs[0].steps}
    (stores[1] / "zarr.json").write_text("{")
    flip(next(stores[3].glob("splits/test/inputs*")))
    found = cnatool.trajectory(stores).result
    assert {one.id: one.step for one in found.runs[0].steps} == {
        name: whole[name] for name in ("0", "2", "4")
    }
    assert [one.step for one in found.runs[0].steps] == [1, 3, 5]
    points = cnatool.landscape(stores, grid=2, split="train").result.points
    assert [(one.id, one.step) for one in points] == [("0", 1), ("2", 3), ("3", 4), ("4", 5)]


def test_a_store_whose_run_is_unknown_moves_no_step_unseen(tmp_path: Path) -> None:
    stores = [record(tmp_path / f"{i}.zarr", i, tags={"run": "ab"[i % 2]}) for i in range(4)]
    bad = tmp_path / "bad.zarr"
    bad.mkdir()
    (bad / "zarr.json").write_text("{")
    with pytest.raises(UsageError, match="the run of bad cannot be read. Name the tag"):
        cnatool.trajectory([bad, *stores], by="run")
    assert len(cnatool.trajectory(stores, by="run").result.runs) == 2


def test_a_store_without_the_tag_has_no_step(good: list[Path], tmp_path: Path) -> None:
    stray = record(tmp_path / "stray.zarr", 9, tags={})
    last = record(tmp_path / "last.zarr", 8, tags={"epoch": "last"})
    found = cnatool.trajectory([stray, *good, last], order="epoch").result
    assert [one.step for one in found.runs[0].steps] == [0, 1, 2, 3]
    assert [one.reason for one in found.not_scored] == [
        f"{stray}: it has no tag epoch, which `order` names.",
        f"{last}: its tag epoch is 'last', not a number.",
    ]
    with pytest.raises(MetricError, match="it has no tag epoch"):
        cnatool.trajectory([stray, *good], order="epoch", strict=True)
    with pytest.raises(UsageError, match="`order` x: no store has this tag"):
        cnatool.trajectory([stray, *good], order="x")
    study = cnatool.study([stray, *good, last], cluster="epoch", resamples=0)
    assert study.networks["id"].to_list() == ["0", "1", "2", "3", "last"]
    assert [one.path for one in study.result.not_scored] == [str(stray)]


def test_the_default_order_counts_what_is_left_out(tmp_path: Path) -> None:
    """Otherwise a tag that happens to differ among the rest would become the step."""
    stores = [
        record(tmp_path / f"{i}.zarr", i, tags={"lr": lr})
        for i, lr in enumerate(("0.3", "0.1", "0.2", "0.1"))
    ]
    flip(next(stores[3].glob("splits/test/inputs*")))
    found = cnatool.trajectory(stores).result
    assert found.order is None
    assert [(one.id, one.step) for one in found.runs[0].steps] == [("0", 1), ("1", 2), ("2", 3)]
