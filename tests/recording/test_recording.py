"""Stores that are filled by hand: what goes in, how it is scored, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from support.networks import mlp, saved

import cnatool
from cnatool.errors import DataError, NotAStoreError, StoreInUseError, UsageError

FORMATS = [".zarr", ".h5"]


def batches(rows: int, size: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
    first = rng.normal(size=(rows, 5)).astype(np.float32)
    second = rng.normal(size=(rows, 3, 2)).astype(np.float16)
    logits = rng.normal(size=(rows, 10)).astype(np.float32)
    y = rng.integers(0, 10, rows)
    return [
        {
            "inputs": x[i : i + size],
            "outputs": logits[i : i + size],
            "activations": {"first": first[i : i + size], "second": second[i : i + size]},
            "labels": y[i : i + size],
        }
        for i in range(0, rows, size)
    ]


def joined(given: list[dict[str, Any]], *path: str) -> np.ndarray:
    def at(batch: dict[str, Any]) -> np.ndarray:
        value: Any = batch
        for step in path:
            value = value[step]
        return value

    return np.concatenate([at(batch) for batch in given])


NAMES = {"first": "Linear", "second": "Conv2d", "logits": "Linear"}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("rows", "size"), [(7, 3), (500, 64), (20_000, 1000)])
def test_what_goes_in_comes_out(suffix: str, rows: int, size: int, tmp_path: Path) -> None:
    given = batches(rows, size)
    path = tmp_path / f"s{suffix}"
    with cnatool.create_store(path, tensors=NAMES, outputs=["logits"]) as recording:
        for batch in given:
            recording.append("train", **batch)
    store = cnatool.open(path)
    split = store.splits["train"]
    assert split.record.complete
    assert len(split) == split.record.rows == rows
    np.testing.assert_array_equal(split.inputs()[:], joined(given, "inputs"))
    np.testing.assert_array_equal(split.labels[:], joined(given, "labels"))
    np.testing.assert_array_equal(split.activations("logits")[:], joined(given, "outputs"))
    for name in ("first", "second"):
        values = joined(given, "activations", name)
        np.testing.assert_array_equal(split.activations(name)[:], values)
        flat = values.reshape(rows, -1).astype(np.float64)
        column = store.tensor(name).number
        np.testing.assert_allclose(split.statistics()[:][:, column], flat.sum(axis=1))
    assert split.ids[:].tolist() == [str(i) for i in range(rows)]
    assert cnatool.verify(path).faults == ()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    copy = tmp_path / ("copy.h5" if suffix == ".zarr" else "copy.zarr")
    assert cnatool.convert(path, copy).record == store.record


def test_plain_zarr_sees_arrays_of_the_right_length(tmp_path: Path) -> None:
    with cnatool.create_store(tmp_path / "s.zarr", tensors=["logits"], outputs=["logits"]) as made:
        for batch in batches(100, 30):
            made.append("train", **batch | {"activations": {}})
    root = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert root["splits/train/outputs/0"].shape == (100, 10)  # type: ignore[union-attr]
    consolidated = zarr.open_consolidated(tmp_path / "s.zarr")
    assert consolidated["splits/train/ids"].shape == (100,)  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", FORMATS)
def test_it_scores_as_the_dump_of_the_same_network(suffix: str, tmp_path: Path) -> None:
    saved(mlp(), tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    for name, rows in (("train", 300), ("test", 200)):
        np.savez(
            tmp_path / f"{name}.npz",
            x=rng.integers(0, 256, (rows, 64), np.uint8),
            y=rng.integers(0, 10, rows),
        )
    dumped = cnatool.dump(
        tmp_path / "net.onnx",
        store=tmp_path / "net.zarr",
        splits={name: tmp_path / f"{name}.npz" for name in ("train", "test")},
    )
    names = [tensor.name for tensor in dumped.tensors]
    path = tmp_path / f"mine{suffix}"
    with cnatool.create_store(
        path, tensors=names, layers=["fc1", "fc2", "fc3", "logits"], outputs=["logits"]
    ) as recording:
        for name, split in dumped.splits.items():
            for rows in (slice(0, 150), slice(150, None)):
                recording.append(
                    name,
                    inputs=split.inputs()[rows],
                    outputs=split.outputs()[rows],
                    activations={n: split.activations(n)[rows] for n in names},
                    labels=split.labels[rows],
                )
    for convention in ("paper", "reference", "legacy"):
        ours, theirs = (cnatool.score(s, convention=convention) for s in (path, dumped))
        for name, result in theirs.splits.items():
            found = ours.splits[name]
            assert found.cna.value == pytest.approx(result.cna.value, rel=1e-9)
            assert (found.accuracy, found.loss) == (result.accuracy, result.loss)
        assert ours.cna_area.value == pytest.approx(theirs.cna_area.value, rel=1e-9)


@pytest.mark.parametrize("suffix", FORMATS)
def test_statistics_alone(suffix: str, tmp_path: Path) -> None:
    given = batches(100, 40)
    path = tmp_path / f"s{suffix}"
    with cnatool.create_store(
        path,
        tensors=NAMES,
        outputs=["logits"],
        keep="statistics",
        statistics=["abs_sum"],
        shapes={"first": (5,), "second": (3, 2)},
    ) as recording:
        for batch in given:
            tensors = batch.pop("activations")
            recording.append(
                "train",
                **batch,
                statistics={
                    "sum": {n: v.reshape(len(v), -1).sum(axis=1) for n, v in tensors.items()},
                    "abs_sum": {
                        n: np.abs(v).reshape(len(v), -1).sum(1) for n, v in tensors.items()
                    },
                },
            )
            batch["activations"] = tensors
    store = cnatool.open(path)
    assert store.record.statistics == ("sum", "abs_sum")
    assert store.tensor("second").shape == (3, 2)
    values = joined(given, "activations", "first")
    sums = store.splits["train"].statistics()[:]
    np.testing.assert_allclose(sums[:, 0], values.sum(axis=1), rtol=1e-6)
    assert cnatool.score(store, convention="paper").splits["train"].cna.value is not None


def fail(
    kind: type[BaseException], given: list[dict[str, Any]], path: Path, **options: Any
) -> None:
    with cnatool.create_store(path, tensors=NAMES, outputs=["logits"], **options) as recording:
        for batch in given:
            recording.append("train", **batch)
        raise kind


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("ragged", [(), ("first",)])
@pytest.mark.parametrize("rows", [30, 20_000])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_all_rows_are_left(
    suffix: str, ragged: tuple[str, ...], rows: int, kind: type[BaseException], tmp_path: Path
) -> None:
    path, given = tmp_path / f"s{suffix}", batches(rows, max(7, rows // 17))
    with pytest.raises(kind):
        fail(kind, given, path, ragged=ragged)
    split = cnatool.open(path).splits["train"]
    assert not split.record.complete
    assert len(split) == rows
    np.testing.assert_array_equal(split.inputs()[:], joined(given, "inputs"))
    first = split.activations("first")[:]
    np.testing.assert_array_equal(
        first.values.reshape(rows, 5) if ragged else first, joined(given, "activations", "first")
    )
    assert cnatool.verify(path).faults == ()


def test_a_store_that_a_failed_recording_replaces_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"

    def fill(rows: int) -> None:
        with pytest.raises(RuntimeError):
            fail(RuntimeError, batches(rows, 10), path, overwrite=True)

    fill(30)
    fill(0)  # with nothing to show for it
    assert len(cnatool.open(path).splits["train"]) == 30
    fill(20)
    rows = {len(cnatool.open(store).splits["train"]) for store in tmp_path.iterdir()}
    assert rows == {30, 20}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": np.zeros((9, 8, 8), np.uint8)},
            "output 'logits': its shape is .*, but there are",
        ),
        ({"activations": {"first": np.zeros((10, 5), np.float32)}}, "'second' is missing"),
        ({"activations": {"third": np.zeros((10, 5), np.float32)}}, "'third' is none of"),
        ({"labels": None}, "this batch has none, but those before had labels"),
        ({"labels": np.zeros(10)}, "labels: expected 10 integers, got float64"),
        (
            {"outputs": np.zeros((10, 11), np.float32)},
            r"output 'logits': float32 \(11,\) per sample",
        ),
        ({"outputs": np.zeros((10, 10), np.float64)}, "but float32 .* in the first batch"),
        ({"outputs": np.array(["a"] * 10)}, "expected numbers or booleans, got <U1"),
        ({"outputs": np.zeros((10, 10), np.longdouble)}, "expected numbers or booleans, got float"),
        ({"outputs": {"other": np.zeros((10, 10))}}, "outputs: expected logits, got other"),
        ({"ids": ["a\0"] * 10}, "contains a character"),
        ({"ids": ["\ud800"] * 10}, "contains a character"),
        ({"labels": np.full(10, 2**63 + 1, np.uint64)}, "exceeds a signed 64-bit"),
        ({"ids": ["a"]}, "ids: expected 10, one per sample, got 1"),
    ],
)
def test_batches_that_do_not_fit(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    first, second = batches(20, 10)
    with cnatool.create_store(tmp_path / "s.zarr", tensors=NAMES, outputs=["logits"]) as recording:
        recording.append("train", **first)
        with pytest.raises(DataError, match=message):
            recording.append("train", **second | change)
        recording.append("train", **second)
    assert len(cnatool.open(tmp_path / "s.zarr").splits["train"]) == 20


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    for options, message in (
        ({"tensors": []}, "tensors: pass a list of distinct names"),
        ({"tensors": ["a", "a"]}, "distinct names"),
        ({"tensors": "a"}, "tensors: pass a list of distinct names"),
        ({"tensors": ["a"], "layers": ["b"]}, "layer 'b' is not one of the tensors"),
        ({"tensors": [1]}, "tensors: 1 is not text"),
        ({"tensors": {"a": None}}, "operators: None is not text"),
        ({"tensors": ["a"], "tags": {"epoch": 3}}, "tags: 3 is not text"),
        ({"tensors": ["a"], "classes": [0, 1]}, "classes: 0 is not text"),
        ({"tensors": ["a"], "keep": "all"}, "keep='all'"),
        ({"tensors": ["a"], "statistics": ["median"]}, "'median' is none of"),
    ):
        with pytest.raises(UsageError, match=message):
            cnatool.create_store(path, **options)  # type: ignore[arg-type]
    with pytest.raises(NotAStoreError, match="must end in"):
        cnatool.create_store(tmp_path / "s.dat", tensors=["a"])
    recording = cnatool.create_store(path, tensors=NAMES, outputs=["logits"])
    with pytest.raises(UsageError, match="use the store as a context"):
        recording.append("train", **batches(10, 10)[0])

    def use() -> None:
        with recording:
            with pytest.raises(UsageError, match="is not a valid name of a split"):
                recording.append("../x", **batches(10, 10)[0])
            other = cnatool.create_store(path, tensors=NAMES, overwrite=True)
            with pytest.raises(StoreInUseError), other:
                pass

    with pytest.raises(UsageError, match="no batch was appended"):
        use()
    assert not path.exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_follows_the_end_of_the_context(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"s{suffix}"
    (batch,) = batches(10, 10)
    with cnatool.create_store(path, tensors=NAMES, outputs=["logits"]) as recording:
        recording.append("train", **batch)
    for split in ("train", "test"):
        with pytest.raises(UsageError, match="context has ended"):
            recording.append(split, **batch)
    with pytest.raises(UsageError, match="can be entered only once"), recording:
        pass
    assert cnatool.verify(path).complete
    assert list(cnatool.open(path).splits) == ["train"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_byte_order_is_of_no_account(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"s{suffix}"
    x = np.arange(12.0).reshape(3, 4)
    with cnatool.create_store(path, tensors=["a"]) as recording:
        for order in "><":
            given = x.astype(f"{order}f4")
            recording.append("train", inputs=given, outputs=given, activations={"a": given})
    assert cnatool.verify(path).faults == ()
    split = cnatool.open(path).splits["train"]
    assert np.array_equal(split.inputs()[:], np.concatenate([x, x]))
    cnatool.convert(path, tmp_path / f"copy{suffix}")


def test_a_refused_first_batch_decides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    (batch,) = batches(10, 10)
    with cnatool.create_store(path, tensors=NAMES, outputs=["logits"]) as recording:
        with pytest.raises(UsageError, match="is not a valid name of a split"):
            recording.append("no name", **batch | {"outputs": np.zeros((10, 7))})
        recording.append("train", **batch)
    assert cnatool.open(path).record.outputs[0].shape == (10,)


@pytest.mark.parametrize(("operator", "kind"), [("", "probabilities"), ("Linear", "logits")])
def test_one_unit_of_which_nobody_says_what_it_is(operator: str, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hidden = rng.uniform(size=(20, 4)).astype(np.float32)
    chance = rng.uniform(size=(20, 1)).astype(np.float32)
    tensors = {"first": "", "second": "", "out": operator}
    with cnatool.create_store(tmp_path / "s.zarr", tensors=tensors, outputs=["out"]) as recording:
        recording.append(
            "train",
            inputs=hidden,
            outputs=chance,
            activations={"first": hidden, "second": hidden},
            labels=(chance[:, 0] >= 0.5).astype(int),
        )
    split = cnatool.score(tmp_path / "s.zarr").splits["train"]
    assert split.outputs == kind
    assert (split.accuracy == 1) == (kind == "probabilities")


def test_nothing_was_appended(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="no batch was appended"),
        cnatool.create_store(tmp_path / "s.zarr", tensors=["a"]),
    ):
        pass
    assert not list(tmp_path.iterdir())
