"""Comparisons of stores, against differences that were put in by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from support.command import run
from support.parts import Parts

import cnatool
from cnatool.comparing import compare as comparison
from cnatool.errors import MetricError, UsageError
from cnatool.schemas import schema_text
from cnatool.store.stored_array import StoredArray

ROWS = {"train": 60, "test": 40}
NAMES = ("fc1", "fc2", "fc3", "logits")
SHAPES = ((6,), (4, 3, 3), (5,), (3,))


def values(seed: int = 0) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {}
    for split, rows in ROWS.items():
        levels = rng.integers(2, 257, (rows, 1))
        found[split] = {
            "x": rng.integers(0, levels, (rows, 30)).astype(np.uint8),
            "y": rng.integers(0, 3, rows),
            **{
                name: rng.normal(size=(rows, *shape)).astype(np.float32)
                for name, shape in zip(NAMES, SHAPES, strict=True)
            },
        }
    return found


def written(
    path: Path, data: dict[str, dict[str, Any]], names: Any = NAMES, **options: Any
) -> Path:
    with cnatool.create_store(path, tensors=names, outputs=[names[-1]], **options) as store:
        for split, arrays in data.items():
            store.append(
                split,
                inputs=arrays["x"],
                labels=arrays["y"],
                outputs=arrays["logits"],
                activations={
                    name: arrays[old] for name, old in zip(names[:-1], NAMES, strict=False)
                },
                ids=arrays.get("ids"),
            )
    return path


def test_a_store_is_itself(tmp_path: Path) -> None:
    one = written(tmp_path / "a.zarr", values())
    two = written(tmp_path / "b.h5", values())
    found = cnatool.compare(one, two)
    assert found.same
    assert (found.largest, found.matched, found.differences) == (0.0, "name", ())
    for name, split in found.splits.items():
        assert split.rows == split.rows2 == ROWS[name]
        assert (split.same_data, split.ids, split.labels) == (True, 1.0, 1.0)
        assert [tensor.name for tensor in split.tensors] == list(NAMES)
    assert all(score.relative == 0 for score in found.scores)
    assert {score.name for score in found.scores} >= {"cna_area", "splits.train.cna", "margin"}


def test_equal_stores_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = written(tmp_path / "a.zarr", values())
    two = written(tmp_path / "b.zarr", values())
    read: Counter[str] = Counter()
    real = StoredArray._read

    def counted(self: StoredArray, start: int, stop: int) -> Any:
        read[self._array.key] += stop - start
        return real(self, start, stop)

    def without_scores(*_: object) -> tuple[list[Any], str]:
        return [], "left out"

    monkeypatch.setattr(StoredArray, "_read", counted)
    # Scores read what they need themselves.
    monkeypatch.setattr(comparison, "compare_scores", without_scores)
    assert cnatool.compare(one, two).same
    for split, rows in ROWS.items():
        for number in range(3):
            assert read[f"splits/{split}/activations/{number}"] == 2 * rows


def test_differences_are_those_that_were_put_in(tmp_path: Path) -> None:
    data, other = values(), values()
    other["test"]["fc2"][7, 2, 1, 1] += 0.25
    other["test"]["logits"][3, 0] -= 2
    one = written(tmp_path / "a.zarr", data, statistics="all")
    two = written(tmp_path / "b.zarr", other, statistics="all")
    found = cnatool.compare(one, two)
    assert not found.same
    tensor = found.splits["test"].tensors[1]
    before, after = (d["test"]["fc2"].astype(np.float64) for d in (data, other))
    largest = np.abs(before).max()
    assert tensor.activations.max_abs == pytest.approx(0.25, rel=1e-6)
    assert tensor.activations.max_relative == pytest.approx(0.25 / largest, rel=1e-6)
    change = tensor.statistics["sum"]
    assert change.max_abs == pytest.approx(0.25, rel=1e-6)
    assert change.max_relative == pytest.approx(0.25 / np.abs(before[7]).sum(), rel=1e-6)
    assert change.scale == "abs_sum"
    squares = tensor.statistics["square_sum"].max_abs
    assert squares == pytest.approx((after[7] ** 2 - before[7] ** 2).sum(), rel=1e-5)
    assert found.splits["train"].tensors[1].activations.max_abs == 0
    (output,) = found.splits["test"].outputs
    assert output.values.max_abs == pytest.approx(2, rel=1e-6)
    same = (data["test"]["logits"].argmax(1) == other["test"]["logits"].argmax(1)).mean()
    assert output.predictions == same
    assert any(text.startswith("sum of fc2, test: ") for text in found.differences)
    assert not any("train:" in text for text in found.differences)
    # A tolerance that takes it in.
    assert cnatool.compare(one, two, split="train").same
    assert cnatool.compare(one, two, tolerance=10).same


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_layers_of_other_names_by_order(keep: str, tmp_path: Path) -> None:
    data = values()
    one = written(tmp_path / "a.zarr", data)
    two = written(tmp_path / "b.zarr", data, ("/a", "/b", "/c", "output"), keep=keep)
    found = cnatool.compare(one, two)
    assert found.same
    assert found.matched == "order"
    tensors = found.splits["train"].tensors
    assert [(t.name, t.name2) for t in tensors] == list(
        zip(NAMES, ("/a", "/b", "/c", "output"), strict=True)
    )
    whole = tensors[0].activations
    assert (whole.max_abs == 0) == (keep == "full")
    assert (whole.reason is None) == (keep == "full")


def test_parallel_layers_in_another_order(tmp_path: Path) -> None:
    data = values()
    for arrays in data.values():
        arrays["fc3"] = arrays["fc1"][:, ::-1] * 2
    other = {
        split: arrays | {"fc1": arrays["fc3"], "fc3": arrays["fc1"]}
        for split, arrays in data.items()
    }
    one = written(tmp_path / "a.zarr", data)
    two = written(tmp_path / "b.zarr", other, ("/a", "/b", "/c", "output"))
    found = cnatool.compare(one, two)
    assert [(t.name, t.name2) for t in found.splits["train"].tensors[:3]] == [
        ("fc1", "/c"),
        ("fc2", "/b"),
        ("fc3", "/a"),
    ]
    assert "layers that run in a different order" in found.notes[0]
    assert "`depth='path'`" in found.notes[0]
    assert all(t.activations.max_abs == 0 for t in found.splits["train"].tensors)
    assert not found.same  # β over the index sees another network
    assert {text.partition(":")[0] for text in found.differences} <= {s.name for s in found.scores}


def test_a_layer_too_many(tmp_path: Path) -> None:
    data = values()
    one = written(tmp_path / "a.zarr", data)
    with cnatool.create_store(
        tmp_path / "b.zarr", tensors=["p", "q", "logits"], outputs=["logits"]
    ) as store:
        for split, arrays in data.items():
            store.append(
                split,
                inputs=arrays["x"],
                labels=arrays["y"],
                outputs=arrays["logits"],
                activations={"p": arrays["fc1"], "q": arrays["fc3"]},
            )
    found = cnatool.compare(one, tmp_path / "b.zarr")
    assert not found.same
    assert found.unmatched == ("fc2",)
    assert found.unmatched2 == ()
    assert "layers of the first store alone: fc2" in found.differences


def test_channels_last(tmp_path: Path) -> None:
    data, moved = values(), values()
    for arrays in moved.values():
        arrays["fc2"] = np.moveaxis(arrays["fc2"], 1, -1)
    one = written(tmp_path / "a.zarr", data)
    two = written(tmp_path / "b.zarr", moved)
    for first, second in ((one, two), (two, one)):
        found = cnatool.compare(first, second)
        assert found.same
        assert found.splits["test"].tensors[1].activations.max_abs == 0


def test_channels_last_where_all_axes_are_as_long(tmp_path: Path) -> None:
    data, moved, other = values(), values(), values(1)
    for split, rows in ROWS.items():
        cube = np.random.default_rng(rows).normal(size=(rows, 3, 3, 3)).astype(np.float32)
        data[split]["fc2"], moved[split]["fc2"] = cube, np.moveaxis(cube, 1, -1)
        other[split] = data[split] | {"fc2": cube[:, ::-1]}
    one = written(tmp_path / "a.zarr", data)
    two = written(tmp_path / "b.zarr", moved)
    assert cnatool.compare(one, two).same
    assert cnatool.compare(two, one).same
    assert not cnatool.compare(one, written(tmp_path / "c.zarr", other)).same


def test_what_the_data_explain_is_said(tmp_path: Path) -> None:
    data = values()
    order = np.random.default_rng(3).permutation(ROWS["test"])
    turned = {"test": {name: array[order] for name, array in data["test"].items()}}
    one = written(tmp_path / "a.zarr", data)
    found = cnatool.compare(one, written(tmp_path / "b.zarr", turned))
    assert not found.same
    assert found.notes[0] == f"only {one} has train, which is not compared"
    assert found.notes[1].startswith(
        "inputs or labels of test differ between the stores, row by row ("
    )
    part = cnatool.compare(one, written(tmp_path / "c.zarr", {"test": data["test"]}))
    assert part.same
    assert part.notes == (f"only {one} has train, which is not compared",)
    assert cnatool.compare(one, tmp_path / "c.zarr", split="test").notes == ()


def test_absolute_sums_are_read_once_for_all_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnatool.store.stored_array import StoredArray

    names = [f"t{number}" for number in range(50)]
    rng = np.random.default_rng(0)
    with cnatool.create_store(
        tmp_path / "a.zarr", tensors=names, keep="statistics", statistics=("sum", "abs_sum")
    ) as store:
        store.append(
            "all",
            inputs=rng.random((20, 3)),
            outputs=rng.random((20, 2)),
            activations={name: rng.random((20, 4)) for name in names},
        )
    read = StoredArray.__getitem__
    reads = 0

    def counted(self: StoredArray, index: Any) -> Any:
        nonlocal reads
        reads += self.shape == (20, len(names) + 1)
        return read(self, index)

    monkeypatch.setattr(StoredArray, "__getitem__", counted)
    found = cnatool.compare(tmp_path / "a.zarr", tmp_path / "a.zarr")
    assert len(found.splits["all"].tensors) == len(names)
    assert reads < len(names)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    data, other = values(), values()
    for both in (data, other):
        both["test"]["fc1"][2, 3] = np.nan
    assert (
        cnatool.compare(written(tmp_path / "a.zarr", data), written(tmp_path / "b.zarr", other))
        .splits["test"]
        .tensors[0]
        .activations.max_abs
        == 0
    )
    other["test"]["fc3"][4, 1] = np.inf
    found = cnatool.compare(tmp_path / "a.zarr", written(tmp_path / "c.zarr", other))
    assert not found.same
    assert found.largest is None
    difference = found.splits["test"].tensors[2].activations
    assert difference.max_abs is None
    assert difference.reason == "1 numbers are finite in one store alone"


def test_other_rows_labels_and_ids(tmp_path: Path) -> None:
    data, other = values(), values()
    for arrays in other.values():
        for name in arrays:
            arrays[name] = arrays[name][:30]
    other["test"]["y"] = other["test"]["y"].copy()
    other["test"]["y"][5] = 2 - other["test"]["y"][5] // 2 * 2
    other["test"]["ids"] = [str(i + 1) for i in range(30)]
    one, two = written(tmp_path / "a.zarr", data), written(tmp_path / "b.zarr", other)
    found = cnatool.compare(one, two)
    assert not found.same
    assert "split train has 60 rows and 30" in found.differences
    assert found.splits["train"].ids == 1.0
    assert found.splits["test"].ids == 0.0
    equal = (data["test"]["y"][:30] == other["test"]["y"]).mean()
    assert found.splits["test"].labels == equal
    assert found.splits["train"].same_data is False


def test_errors(tmp_path: Path) -> None:
    one = written(tmp_path / "a.zarr", values())
    two = written(tmp_path / "b.zarr", {"valid": values()["test"]})
    with pytest.raises(MetricError, match=r"has the splits train, test, and .* valid: there is"):
        cnatool.compare(one, two)
    with pytest.raises(MetricError, match=r"a\.zarr has no split 'valid'; it has train, test\."):
        cnatool.compare(one, two, split="valid")
    with pytest.raises(UsageError, match=r"`tolerance=-1`: it must be 0 or above"):
        cnatool.compare(one, one, tolerance=-1)


def test_a_tolerance_of_0_demands_equal_values(tmp_path: Path) -> None:
    data = values()
    one = written(tmp_path / "a.zarr", data)
    assert cnatool.compare(one, written(tmp_path / "b.zarr", data), tolerance=0).same
    data["test"]["fc2"][39, 3, 2, 2] = np.nextafter(data["test"]["fc2"][39, 3, 2, 2], np.float32(9))
    found = cnatool.compare(one, written(tmp_path / "c.zarr", data), tolerance=0)
    assert not found.same
    assert 0 < found.largest < 1e-6


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnatool.store.stored_array import StoredArray

    read = StoredArray.__getitem__
    largest = 0

    def watched(self: StoredArray, index: Any) -> Any:
        nonlocal largest
        found = read(self, index)
        largest = max(largest, found.nbytes)
        return found

    rng = np.random.default_rng(0)
    with cnatool.create_store(tmp_path / "a.zarr", tensors=["t"], codec="none") as store:
        for _ in range(20):
            wide = rng.random((100, 5000), np.float32)
            store.append("all", inputs=wide[:, :4], outputs=wide[:, :2], activations={"t": wide})
    monkeypatch.setattr(StoredArray, "__getitem__", watched)
    assert cnatool.compare(tmp_path / "a.zarr", tmp_path / "a.zarr").same
    assert largest < 20_000_000 < 20 * 100 * 5000 * 4


def test_the_command(tmp_path: Path) -> None:
    other = values()
    other["test"]["fc2"][7, 2] += 0.25
    one = written(tmp_path / "a.zarr", values())
    two = written(tmp_path / "b.zarr", other, ("/model/a", "/model/b", "/model/c", "output"))
    same = run("compare", one, two, "--split", "train")
    differs = run("compare", one, two, "--set", "aggregate=mean", code=1)
    document = run("compare", one, two, "--json", code=1)
    assert same.stdout.splitlines()[-1].startswith(
        "the same within 0.0001; layers matched by order"
    )
    assert differs.stdout.splitlines()[-1].startswith("not the same within 0.0001;")
    assert "convention paper+aggregate=mean" in differs.stdout
    assert "differs: values of fc2, test: " in differs.stdout
    assert max(map(len, same.stdout.splitlines()[:-1])) <= 80
    found = json.loads(document.stdout)
    jsonschema.validate(found, json.loads(schema_text("compare")))
    assert found["same"] is False


def test_a_split_of_which_a_part_has_no_rows_is_not_compared(tmp_path: Path) -> None:
    here = Parts(tmp_path)
    whole = here.dump("whole.zarr").path
    train, *_, test = here.parts(5)
    found = cnatool.compare(train, whole)
    assert list(found.splits) == ["train"]
    assert f"split test is not compared: {train} has no rows of it" in found.notes
    assert "split test has 0 rows and 150" in found.differences
    again = cnatool.compare(train, train)
    assert (again.same, list(again.splits)) == (True, ["train"])
    assert f"split test is not compared: {train} and {train} have no rows of it" in again.notes
    nothing = (
        r"nothing to compare: .*p1\.zarr and .*p5\.zarr do not both have rows of train or test"
    )
    with pytest.raises(MetricError, match=nothing):
        cnatool.compare(train, test)
    with pytest.raises(MetricError, match="do not both have rows of test"):
        cnatool.compare(train, whole, split="test")
    result = run("compare", train.name, whole.name, cwd=tmp_path, code=1)
    assert "train: " in result.stdout
    assert "\ntest: " not in result.stdout
