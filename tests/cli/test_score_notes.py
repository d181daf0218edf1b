"""What `cnatool score` and `cnatool layers` say beside their numbers, as installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.command import run
from support.networks import Builder, saved
from support.parts import Parts
from support.recorded import record_network

from cnatool.cli import console
from cnatool.cli.console import ConsoleObserver


def branches(path: Path, names: str) -> Path:
    """A network with a layer, two parallel ones in the order of `names`, and a last one."""
    b = Builder()
    for place, name in enumerate(names):
        b.constant(f"w{name}", np.random.default_rng(place).normal(size=(9, 9)).astype(np.float32))
    b.node("MatMul", ["x", "wi"], "i")
    b.node("Relu", ["i"], "ri")
    for name in names:
        if name in "ab":
            b.node("MatMul", ["ri", f"w{name}"], name)
    b.node("Add", ["a", "b"], "sum")
    b.node("Relu", ["sum"], "rs")
    b.node("MatMul", ["rs", "wo"], "o")
    return saved(b.model({"x": ("n", 9)}, {"o": ("n", 9)}), path)


def test_parallel_branches_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (40, 9)).astype(np.uint8)
    np.savez(tmp_path / "train.npz", x=x, y=rng.integers(0, 9, 40))
    branches(tmp_path / "net.onnx", "iabo")
    run("dump", "net.onnx", "train.npz", "-o", "net.zarr", cwd=tmp_path)
    text = (
        "layers lie on parallel branches (a and b): CNA with depth=index depends on the order of "
        "nodes in the file; with --set depth=path it does not"
    )
    for command in ("score", "layers"):
        assert f"note: {text}\n" in run(command, "net.zarr", cwd=tmp_path).stdout
        assert text in json.loads(run(command, "net.zarr", "--json", cwd=tmp_path).stdout)["notes"]
        by_path = run(command, "net.zarr", "--set", "depth=path", cwd=tmp_path).stdout
        assert "parallel branches" not in by_path


def test_rows_by_class_and_the_one_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (150, 9)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.sort(rng.integers(0, 9, 150)))
    branches(tmp_path / "net.onnx", "iabo")
    run("dump", "net.onnx", "data.npz", "-o", "net.zarr", cwd=tmp_path)
    said = run("score", "net.zarr", cwd=tmp_path).stdout
    assert "note: rows of all are sorted by class" in said
    assert "note: the only split is called all: gap, CNA-A and margin need train and test" in said
    mixed = run("score", "net.zarr", "--all", "--set", "cna_order=random", cwd=tmp_path).stdout
    assert "over minibatches in random order" in mixed
    assert "class by class" not in mixed
    few = run("score", "net.zarr", "--set", "cna_batch=151", cwd=tmp_path).stdout
    assert "class by class" not in few


def test_a_store_is_not_its_own_test_split(tmp_path: Path) -> None:
    record_network(tmp_path / "net.zarr", {"train": 30})
    (tmp_path / "link.zarr").symlink_to("net.zarr")
    for name in ("net.zarr", "./net.zarr", "link.zarr"):
        said = run("score", "net.zarr", "--test", name, cwd=tmp_path, code=2).stderr
        assert "is the store itself" in said


def test_an_archive_of_both_splits_is_told_from_one(tmp_path: Path) -> None:
    x = np.zeros((5, 9), np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=x[:, 0], x_test=x, y_test=x[:, 0])
    branches(tmp_path / "net.onnx", "iabo")
    said = run("dump", "net.onnx", "mnist.npz", cwd=tmp_path, code=2).stderr
    assert "holds the parts of several splits (x_train, y_train, x_test, y_test)" in said


def test_recorded_weights_without_a_beginning_name_what_the_api_takes(tmp_path: Path) -> None:
    import cnatool

    with cnatool.create_store(
        tmp_path / "net.zarr",
        tensors=["a", "b"],
        outputs=["b"],
        weights={"a": np.ones((4, 3), np.float32), "b": np.ones((2, 4), np.float32)},
    ) as store:
        store.append(
            "train",
            inputs=np.zeros((3, 3), np.uint8),
            outputs=np.zeros((3, 2), np.float32),
            activations={"a": np.zeros((3, 4), np.float32)},
        )
    found = json.loads(
        run("score", "net.zarr", "--json", "--set=include_output=true", cwd=tmp_path).stdout
    )["baselines"]
    assert "pass `initial_weights` beside `weights`" in found["distance"]["reason"]


def test_progress_is_shown_of_what_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with ConsoleObserver(unit="", patience=3.0) as observer:
        observer.progress("α of train", 5, 10)
        observer.progress("α of train", 10, 10)
        assert capsys.readouterr().err == ""
        now[0] = 4.0
        observer.progress("interval of CNA, train", 10, 1000)
        assert capsys.readouterr().err == ""
        now[0] = 14.0
        observer.progress("interval of CNA, train", 20, 1000)
        observer.progress("interval of CNA, train", 1000, 1000)
    assert capsys.readouterr().err == (
        "interval of CNA, train: 20 of 1,000\ninterval of CNA, train: 1,000 of 1,000\n"
    )


def test_a_part_is_not_said_to_be_the_first_rows(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 100, 60)
    parts.dump("p2.zarr", part=(2, 3), limit=96, batch_size=1)
    rows = "rows 56 to 95 of 96 of train and rows 0 to 15 of 60 of test"
    for command in ("score", "layers"):
        said = run(command, "p2.zarr", cwd=tmp_path).stdout
        assert f"note: p2.zarr is part 2 of 3 of a dump, so this is a score of {rows}\n" in said
        assert "the first" not in said
    said = run("inspect", "p2.zarr", cwd=tmp_path).stdout
    assert f"part 2 of 3 of a dump: {rows}; `cnatool merge` makes one store of all parts\n" in said
    assert "split train: 40 rows, labels" in said
