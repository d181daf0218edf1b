from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
import scipy.stats
from support.command import run

import cnatool
from cnatool.errors import MetricError, MissingSplitError, UsageError
from cnatool.per_unit import gather, units
from cnatool.schemas import schema_text

ROWS, QS = 60, (0.0, 0.05, 0.5, 0.99)


def _make(path: Path, tensors: dict[str, Any], ragged: dict[str, int], **more: Any) -> None:
    """Write a store of two splits, appended in uneven batches; labels begin at 3."""
    rng = np.random.default_rng(1)
    labels = rng.integers(3, 6, ROWS)
    outputs = rng.standard_normal((ROWS, 3)).astype(np.float32)
    with cnatool.create_store(path, tensors=list(tensors), ragged=ragged, **more) as store:
        for split, rows in (("train", ROWS), ("test", ROWS // 2)):
            for start, stop in ((0, 7), (7, rows)):
                store.append(
                    split,
                    inputs=outputs[start:stop],
                    outputs=outputs[start:stop],
                    activations={name: value[start:stop] for name, value in tensors.items()},
                    labels=labels[start:stop] if split == "train" else None,
                    ids=[f"{split}-{row}" for row in range(start, stop)],
                )


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    conv = rng.standard_normal((ROWS, 5, 4, 3)).astype(np.float32)
    conv[:, 2] = -np.abs(conv[:, 2])  # dead
    conv[:, 3] = 0.25  # constant
    relu = np.maximum(conv, 0)
    broken = rng.standard_normal((ROWS, 3)).astype(np.float32)
    broken[4, 0], broken[5, 0], broken[6, 1] = np.nan, np.inf, -np.inf
    broken[:, 2] = np.nan
    return {
        "conv": conv,
        "relu": relu,
        "tokens": rng.standard_normal((ROWS, 6, 4)).astype(np.float16),
        "integers": rng.integers(-300, 300, (ROWS, 4)).astype(np.int32),
        "flags": rng.random((ROWS, 4)) < 0.5,
        "broken": broken,
        "texts": [rng.standard_normal((1 + row % 5, 4)).astype(np.float32) for row in range(ROWS)],
        "heads": [
            rng.standard_normal((2, 1 + row % 3, 3)).astype(np.float32) for row in range(ROWS)
        ],
    }


@pytest.fixture(scope="module")
def store(tensors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("units") / "store.zarr"
    _make(path, tensors, {"texts": 0, "heads": 1}, layers=["conv", "integers"])
    return path


@pytest.fixture(scope="module")
def counted(store: Path) -> cnatool.Units:
    return cnatool.units(store, tensors="*", quantiles=QS, top=3)


# The axis of one sample that has the units.
AXES = {
    "conv": 0,
    "relu": 0,
    "tokens": 1,
    "integers": 0,
    "flags": 0,
    "broken": 0,
    "texts": 1,
    "heads": 0,
    "output": 0,
}


def _samples(values: Any, axis: int, unit: int) -> list[np.ndarray]:
    """Return the values of a unit in each sample, in float64."""
    return [np.take(sample, unit, axis=axis).astype(np.float64) for sample in values]


def _check_unit(row: dict[str, Any], samples: list[np.ndarray], labels: np.ndarray) -> None:
    every = np.concatenate([sample.reshape(-1) for sample in samples])
    finite = every[np.isfinite(every)]
    assert row["count"] == finite.size
    assert row["nan"] == np.isnan(every).sum()
    assert row["infinite"] == np.isinf(every).sum()
    if not finite.size:
        assert row["mean"] is row["q0.5"] is row["zeros"] is row["class"] is None
        assert not row["dead"]
        assert not row["constant"]
        return
    assert row["mean"] == pytest.approx(finite.mean(), rel=1e-6, abs=1e-6 * finite.std())
    assert row["deviation"] == pytest.approx(finite.std(), rel=1e-6)
    assert row["min"] == finite.min()
    assert row["max"] == finite.max()
    assert row["zeros"] == (finite == 0).mean()
    assert row["positives"] == (finite > 0).mean()
    assert row["dead"] == (finite.max() <= 0)
    assert row["constant"] == (finite.min() == finite.max())
    if finite.std() > 0:
        assert row["skewness"] == pytest.approx(scipy.stats.skew(finite), abs=1e-5)
    for q in QS:
        ends = [np.quantile(finite, q, method=m) for m in ("lower", "higher")]
        bound = np.abs(ends).max() / 64
        assert row[f"q{q:g}"] == pytest.approx(np.quantile(finite, q), abs=bound + 1e-12)
    # Samples by their largest finite value, then by row; its first position in C order.
    best = []
    for number, sample in enumerate(samples):
        usable = np.where(np.isfinite(sample), sample, -np.inf)
        if usable.size and usable.max() > -np.inf:
            best.append((-usable.max(), number, usable))
    best.sort(key=lambda entry: entry[:2])
    assert row["top_rows"] == [number for _, number, _ in best[:3]]
    assert row["top_values"] == [-value for value, _, _ in best[:3]]
    assert row["top_ids"] == [f"{row['split']}-{number}" for _, number, _ in best[:3]]
    for place, (_, _, usable) in zip(row["top_positions"], best[:3], strict=True):
        assert usable[tuple(place)] == usable.max()
    if row["split"] == "test":
        assert row["class"] is row["ccmas"] is None
        return
    means = {}
    for label in (3, 4, 5):
        chosen = np.concatenate(
            [s.reshape(-1) for s, own in zip(samples, labels, strict=True) if own == label]
        )
        means[label] = chosen[np.isfinite(chosen)].mean()
    highest = max(means.values())
    assert row["class_mean"] == pytest.approx(highest, rel=1e-5, abs=1e-6)
    if row["constant"]:
        # The same in all classes, up to rounding.
        assert row["class"] is row["class_name"] is None
        return
    assert means[row["class"]] == pytest.approx(highest, rel=1e-5, abs=1e-6)
    rest = np.mean(sorted(means.values())[:2])
    if min(means.values()) >= 0 and highest > 0:
        expected = (highest - rest) / (highest + rest)
        assert row["ccmas"] == pytest.approx(expected, abs=1e-5)
    else:
        assert row["ccmas"] is None


def test_each_unit_equals_numpy_over_the_whole_array(
    store: Path, counted: cnatool.Units, tensors: dict[str, Any]
) -> None:
    frame = counted.frame()
    opened = cnatool.open(store)
    labels = np.asarray(opened.splits["train"].labels)
    whole = {**tensors, "output": np.asarray(opened.splits["train"].outputs())}
    for name, values in whole.items():
        for split, rows in (("train", ROWS), ("test", ROWS // 2)):
            found = frame.filter(pl.col("tensor") == name, pl.col("split") == split)
            axis = AXES[name]
            assert found["unit"].to_list() == list(range(np.asarray(values[0]).shape[axis]))
            for row in found.to_dicts():
                samples = _samples(values[:rows], axis, row["unit"])
                _check_unit(row, samples, labels[:rows])


def test_the_result_sums_up_tensors_and_says_what_counts(counted: cnatool.Units) -> None:
    result = counted.result
    train = {each.tensor: each for each in result.splits["train"].tensors}
    assert train["conv"].dead_units == (2,)
    assert train["conv"].constant == 1
    assert train["relu"].dead_units == (2,)
    assert train["relu"].constant == 2
    assert train["broken"].empty == 1
    assert (train["broken"].nan, train["broken"].infinite) == (ROWS + 1, 2)
    assert train["relu"].ccmas_units == 4
    assert train["tokens"].unit_axis == 1
    assert result.splits["train"].classes == 3
    assert result.splits["test"].classes == 0
    assert "above 0" in result.dead_means
    notes = "\n".join(result.notes)
    assert f"train: {ROWS + 1} NaN and 2 infinite values of broken are excluded" in notes
    assert "class selectivity is undefined" in notes
    jsonschema.validate(json.loads(result.to_json()), json.loads(schema_text("units")))
    assert "conv" not in repr(counted)


def test_several_passes_over_blocks_of_units_are_one(
    store: Path, counted: cnatool.Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "_MEMORY", 3 * 40_000)
    again = cnatool.units(store, tensors="*", quantiles=QS, top=3).frame()
    assert again.equals(counted.frame())


def test_each_quantile_has_a_column_of_its_own(store: Path, tensors: dict[str, Any]) -> None:
    frame = cnatool.units(store, tensors="integers", quantiles=(0.99999999, 1, 0.5)).frame()
    assert [name for name in frame.columns if name[0] == "q"] == ["q0.99999999", "q1", "q0.5"]
    median = np.median(tensors["integers"], axis=0)
    found = frame.filter(pl.col("split") == "train")["q0.5"].to_numpy()
    np.testing.assert_allclose(found, median, atol=300 / 64)


def test_elements_and_other_axes_are_units_on_request(store: Path, tensors: dict[str, Any]) -> None:
    axes = {"conv": "element", "tokens": 0}
    frame = cnatool.units(store, tensors=["conv", "tokens"], axes=axes, splits="train").frame()
    elements = frame.filter(pl.col("tensor") == "conv")
    flat = tensors["conv"].reshape(ROWS, -1)
    assert elements["max"].to_numpy() == pytest.approx(flat.max(axis=0))
    assert elements["top_rows"].list.first().to_list() == flat.argmax(axis=0).tolist()
    assert elements["top_positions"].to_list()[0][0] == []
    tokens = frame.filter(pl.col("tensor") == "tokens")
    assert len(tokens) == 6
    assert tokens["min"].to_numpy() == pytest.approx(tensors["tokens"].min(axis=(0, 2)))


def test_layers_are_the_default_and_quantiles_can_be_left_out(store: Path) -> None:
    units = cnatool.units(store, quantiles=())
    assert [each.tensor for each in units.result.splits["test"].tensors] == ["conv", "integers"]
    assert not [name for name in units.frame().columns if name.startswith("q")]


def test_quantiles_may_be_an_array(store: Path) -> None:
    found = cnatool.units(store, quantiles=np.linspace(0, 1, 3), top=np.int64(2))
    assert found.result.quantiles == (0.0, 0.5, 1.0)


def test_too_many_labels_are_no_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "MOST_CLASSES", 3)
    values = np.zeros((4, 2), np.float32)
    with cnatool.create_store(tmp_path / "s.zarr", tensors=["fc"]) as store:
        for split, labels in (("train", [9, 5, 7, 9]), ("test", [1, 2, 3, 4])):
            store.append(
                split, inputs=values, outputs=values, activations={"fc": values}, labels=labels
            )
    opened = cnatool.open(tmp_path / "s.zarr").splits
    classes, labels, problem = units.find_classes(opened["train"])
    assert problem is None
    assert (classes.tolist(), labels.tolist()) == ([2, 0, 1, 2], [5, 7, 9])
    assert "test has more than 3 different labels" in units.find_classes(opened["test"])[2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tensors": "none*"}, UsageError, "`tensors='none*'` matches no tensor"),
        ({"tensors": "integer"}, UsageError, "Did you mean 'integers'? `cnatool inspect"),
        ({"splits": "val"}, MissingSplitError, "no split 'val'; it has"),
        ({"quantiles": [0.5, 2]}, UsageError, "`quantiles=2.0` is not between"),
        ({"quantiles": 0.5}, UsageError, "`quantiles=0.5` is not a list of numbers"),
        ({"quantiles": "0.5"}, UsageError, "`quantiles='0.5'` is not a list of numbers"),
        ({"quantiles": [0.5, 0.5]}, UsageError, "the same number twice"),
        ({"top": 0}, UsageError, "`top=0` is not a whole number of at least 1"),
        ({"top": 2.5}, UsageError, "`top=2.5` is not a whole number"),
        ({"axes": -1}, UsageError, "`axes=-1` is not a mapping of tensors to axes"),
        ({"axes": {"conv": [1]}}, UsageError, "axis [1] of 'conv'"),
        ({"axes": {"conv": 1.7}}, UsageError, "axis 1.7 of 'conv'"),
        ({"axes": {"conv": 3}}, UsageError, r"axis 3 of 'conv', (5, 4, 3) a sample, cannot have"),
        ({"axes": {"relu": 1}}, UsageError, "matches none of the tensors that are counted"),
        (
            {"tensors": "texts", "axes": {"texts": "element"}},
            UsageError,
            "samples that differ in length",
        ),
        ({"tensors": "texts", "axes": {"texts": 0}}, UsageError, "axis 0 of 'texts', (…, 4)"),
    ],
)
def test_errors_say_what_to_do(
    store: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        cnatool.units(store, **options)
    assert message in str(raised.value)


def test_tensors_of_which_only_statistics_are_stored_are_named(tmp_path: Path) -> None:
    path = tmp_path / "statistics.zarr"
    values = {"conv": np.zeros((ROWS, 2), np.float32)}
    with cnatool.create_store(
        path, tensors=["conv"], keep="statistics", shapes={"conv": (2,)}
    ) as store:
        store.append(
            "test",
            inputs=values["conv"],
            outputs=values["conv"],
            statistics={"sum": {"conv": np.zeros(ROWS)}},
        )
    with pytest.raises(MetricError) as raised:
        cnatool.units(path, tensors="conv")
    assert "only statistics of samples are stored" in str(raised.value)
    both = cnatool.units(path, tensors="*").result
    assert [each.tensor for each in both.left_out] == ["conv"]
    assert [each.tensor for each in both.splits["test"].tensors] == ["output"]


def test_the_command_prints_dead_layers_first_and_writes_tables(
    store: Path, tmp_path: Path, counted: cnatool.Units
) -> None:
    csv, parquet = tmp_path / "units.csv", tmp_path / "units.parquet"
    options = ["--tensors", "*", "--top", "3", "--quantiles", "0,0.05,0.5,0.99"]
    printed = run("units", str(store), *options, "-o", str(csv))
    lines = printed.stdout.splitlines()
    first = [line.split()[0] for line in lines[4:6]]
    assert first == ["conv", "relu"]
    assert "1 (20.0%)" in lines[4]
    assert "dead: no finite value above 0" in printed.stdout
    run("units", str(store), *options, "-o", str(parquet))
    assert pl.read_parquet(parquet).equals(counted.frame())
    texts = pl.read_csv(csv)
    # A vector has no positions.
    assert texts.filter(pl.col("tensor") == "integers")["top_positions"].is_null().all()
    shapes = {each.tensor: each.shape for each in counted.result.splits["test"].tensors}
    assert (shapes["texts"], shapes["conv"]) == ((None, 4), (5, 4, 3))
    assert "axis 1 of (…, 4)" in printed.stdout
    assert texts["top_ids"][0] == "; ".join(counted.frame()["top_ids"][0])
    document = json.loads(run("units", str(store), *options, "--json").stdout)
    expected = json.loads(counted.result.to_json())
    assert "--units-axis" in " ".join(document.pop("notes"))
    assert "axes=" in " ".join(expected.pop("notes"))
    assert document == expected
    listed = run("units", str(store), "--tensors", "conv", "--list", "3").stdout
    train = listed[: listed.index("test, ")].splitlines()
    table = train[train.index("conv") + 2 :]
    assert [line.split()[:2] for line in table[2:5]] == [
        ["2", "dead"],
        ["3", "constant"],
        ["0", "0.0%"],
    ]
    assert "and 2 units more" in "\n".join(table)
    for wrong, message in (
        (["--list", "-1"], "--list -1: write a whole number"),
        (["--quantiles", "half"], "write numbers between 0 and 1"),
        (["--units-axis", "conv"], "write it as GLOB=AXIS"),
        (["--units-axis", "conv=x"], "axis x of 'conv'"),
        (["-o", "units.txt"], "must end in .parquet or .csv"),
    ):
        failed = run("units", str(store), *wrong, code=2)
        assert message in failed.stderr
