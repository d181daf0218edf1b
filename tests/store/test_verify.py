"""What `verify` finds in stores that were damaged on purpose, and that it finds nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import zarr
from support import control_flow
from support.command import run
from support.networks import Builder, residual_convnet, saved
from support.stores import forget_checksums

import cnatool
from cnatool.errors import NotAStoreError
from cnatool.schemas import schema_text


@pytest.fixture
def made(tmp_path: Path) -> Path:
    saved(residual_convnet(), tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "train.npz",
        x=rng.integers(0, 256, (100, 8, 8), np.uint8),
        y=rng.integers(0, 10, 100),
    )
    cnatool.dump(
        tmp_path / "net.onnx", tmp_path / "train.npz", tmp_path / "net.zarr", statistics="all"
    )
    return tmp_path / "net.zarr"


def split_of(store: Path) -> str:
    return next(iter(cnatool.open(store).splits))


def test_a_sound_store(made: Path) -> None:
    found = cnatool.verify(made)
    assert found.faults == ()
    assert found.complete
    record = cnatool.open(made).record
    kept = sum(tensor.stored is not None for tensor in record.tensors)
    assert found.arrays == 3 + len(record.outputs) + kept + len(record.statistics)


@pytest.mark.parametrize(
    ("keep", "dtype"), [("full", "float32"), ("full", "float16"), ("statistics", None)]
)
def test_sound_stores_of_other_forms(
    made: Path, keep: str, dtype: str | None, tmp_path: Path
) -> None:
    cnatool.dump(
        tmp_path / "net.onnx",
        tmp_path / "train.npz",
        tmp_path / "other.zarr",
        keep=keep,  # type: ignore[arg-type]
        dtype=dtype,  # type: ignore[arg-type]
        statistics="all",
    )
    assert cnatool.verify(tmp_path / "other.zarr").faults == ()


def test_wrong_statistics(made: Path) -> None:
    split = split_of(made)
    forget_checksums(made)
    for name in ("sum", "abs_sum", "square_sum", "positive_sum", "nonzero_count", "min", "max"):
        root = zarr.open_group(made, mode="r+")
        sums = root[f"splits/{split}/statistics/{name}"]
        assert isinstance(sums, zarr.Array)
        before = sums[:]
        changed = np.array(before)
        changed[17:19, 3] += 0.01 * np.abs(changed[17:19, 3]) + 1
        sums[:] = changed
        (fault,) = cnatool.verify(made).faults
        assert (fault.where, fault.rows) == (f"splits/{split}/statistics/{name}", (17, 19))
        tensor = cnatool.open(made).tensors[3].name
        assert fault.problem.startswith(f"of tensor {tensor!r} in row 17 is")
        assert fault.problem.endswith("and of 1 more rows")
        sums[:] = before
    assert cnatool.verify(made).faults == ()


def test_changed_inputs(made: Path) -> None:
    split = split_of(made)
    forget_checksums(made)
    root = zarr.open_group(made, mode="r+")
    inputs = root[f"splits/{split}/inputs/0"]
    assert isinstance(inputs, zarr.Array)
    inputs[3, 0, 0] ^= 1
    (fault,) = cnatool.verify(made).faults
    assert fault.where == f"splits/{split}"
    assert "fingerprint" in fault.problem


def test_damage_on_disk_is_listed_array_by_array(made: Path) -> None:
    split = split_of(made)
    files = [
        next(p for p in (made / "splits" / split / key).rglob("c*") if p.is_file())
        for key in ("activations/2", "labels", "statistics/sum")
    ]
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 255
        file.write_bytes(content)
    missing = made / "splits" / split / "activations" / "4"
    for file in [p for p in missing.rglob("c*") if p.is_file()]:
        file.unlink()
    faults = cnatool.verify(made).faults
    assert {fault.where.removeprefix(f"splits/{split}/") for fault in faults} == {
        "activations/2",
        "activations/4",
        "labels",
        "statistics/sum",
    }
    assert all(fault.rows == (0, 100) for fault in faults)


def test_damaged_attribute(made: Path) -> None:
    path = made / "zarr.json"
    path.write_text(path.read_text().replace("cnatool.store/1", "cnatool.store/9"))
    found = cnatool.verify(made)
    assert [fault.where for fault in found.faults] == ["attribute"]
    assert not found.complete


def test_an_array_of_another_type(made: Path) -> None:
    split = split_of(made)
    path = made / "splits" / split / "labels" / "zarr.json"
    path.write_text(path.read_text().replace("int64", "uint64"))
    faults = cnatool.verify(made).faults
    assert faults
    assert {fault.where for fault in faults} == {f"splits/{split}/labels"}


def test_the_command(made: Path) -> None:
    sound = run("verify", made)
    assert sound.stdout.startswith(f"{made}: nothing is wrong (")
    assert "100 of 100" in sound.stderr
    split = split_of(made)
    for file in [p for p in (made / f"splits/{split}/labels").rglob("c*") if p.is_file()]:
        file.unlink()
    broken = run("verify", made, "--json", code=1)
    report = json.loads(broken.stdout)
    jsonschema.validate(report, json.loads(schema_text("verify")))
    assert [fault["where"] for fault in report["faults"]] == [f"splits/{split}/labels"]
    assert run("verify", made, "-q", code=1).stderr == ""


@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_a_fault_names_its_array_and_rows_once(form: str, tmp_path: Path) -> None:
    store = tmp_path / f"s.{form}"
    x = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    with cnatool.create_store(store, tensors=["a"], codec="none") as recording:
        recording.append("train", inputs=x, outputs=x, activations={"a": 2 * x})
    damaged = store / "splits/train/activations/0/c.0.0" if form == "zarr" else store
    content = damaged.read_bytes()
    at = content.index((2 * x).tobytes()) + 5
    damaged.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    result = run("verify", store, "-q", code=1)
    fault = result.stdout.splitlines()[0]
    assert fault.startswith("splits/train/activations/0, rows 0 to 3: cannot be read (")
    assert fault.count("activations/0") == fault.count("rows") == 1


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError):
        cnatool.verify(tmp_path / "none.zarr")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_not_finite_or_tiny_is_no_damage(dtype: str, tmp_path: Path) -> None:
    net = Builder()
    net.gemm("x", "made", 40, 64)
    for name, factor in (("small", 1e-5), ("smaller", 1e-7), ("least", 1e-9)):
        net.node("Mul", ["made", net.constant(f"{name}.f", np.array(factor, np.float32))], name)
    net.node("Sum", ["small", "smaller", "least"], "out")
    saved(net.model({"x": ("n", 40)}, {"out": ("n", 64)}), tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(size=(20, 40)).astype(np.float32)
    x[7, 3], x[8, 3], x[9, 3] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "x.npy", x)
    store = tmp_path / "net.zarr"
    cnatool.dump(
        tmp_path / "net.onnx",
        tmp_path / "x.npy",
        store,
        statistics="all",
        dtype=dtype,  # type: ignore[arg-type]
    )
    assert cnatool.verify(store).faults == ()


def test_a_number_in_place_of_an_infinity(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    x = np.ones((4, 3), np.float32)
    x[2, 1] = np.inf
    with cnatool.create_store(store, tensors=["a"]) as recording:
        recording.append("train", inputs=x, outputs=x, activations={"a": x})
    assert cnatool.verify(store).faults == ()
    forget_checksums(store)
    sums = zarr.open_group(store, mode="r+")["splits/train/statistics/sum"]
    assert isinstance(sums, zarr.Array)
    sums[2, 0] = 3.0
    assert [fault.rows for fault in cnatool.verify(store).faults] == [(2, 3)]


def test_metadata_by_which_others_read(made: Path) -> None:
    """cnatool's own numbers do not depend on them; another library's do."""
    root = made / "zarr.json"
    before = root.read_bytes()
    root.write_bytes(before.replace(b'"separator":"."', b'"separator":"/"', 1))
    (fault,) = cnatool.verify(made).faults
    assert "the consolidated metadata in the root" in fault.problem
    root.write_bytes(before)
    group = made / "splits" / "zarr.json"
    content = group.read_bytes()
    group.write_bytes(content.replace(b"group", b"groop"))
    assert any("cannot be read" in fault.problem for fault in cnatool.verify(made).faults)
    group.unlink()
    assert any("is missing" in fault.problem for fault in cnatool.verify(made).faults)
    group.write_bytes(content)
    assert cnatool.verify(made).faults == ()


@pytest.mark.parametrize("moved", ["splits", "splits/all", "splits/all/activations"])
def test_folders_that_are_links_are_verified_like_others(
    made: Path, tmp_path: Path, moved: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(made / moved, elsewhere)
    (made / moved).symlink_to(elsewhere)
    assert cnatool.verify(made).faults == ()
    next(elsewhere.rglob("zarr.json")).unlink()
    assert cnatool.verify(made).faults


def test_links_in_a_circle_end(made: Path) -> None:
    (made / "splits" / "all" / "activations" / "up").symlink_to(made)
    assert cnatool.verify(made).arrays


@pytest.mark.parametrize("part", ["values", "offsets"])
def test_damaged_rows_of_varying_length_name_their_array_once(part: str, tmp_path: Path) -> None:
    flow = control_flow.decoder()
    np.savez(tmp_path / "data.npz", **flow.feeds)
    model = saved(flow.model, tmp_path / "m.onnx")
    path = tmp_path / "s.zarr"
    cnatool.dump(model, tmp_path / "data.npz", path, tensors=["logits"], batch_size=1)
    (damaged,) = [file for file in path.rglob("c.*") if file.parent.name == part]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 255
    damaged.write_bytes(data)
    fault, *_ = cnatool.verify(path).faults
    assert fault.where == f"splits/all/activations/0/{part}"
    assert fault.problem.startswith("rows 0 to ")
    assert "splits" not in fault.problem
