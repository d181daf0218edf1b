"""Reduced tensors are what NumPy makes of whole ones, in every way that a store comes about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto
from support.command import refused, run
from support.dumps import commit_often
from support.networks import Builder, mlp, residual_convnet, saved
from support.notes import Notes
from support.padded import Attention, make_texts, run_alone
from support.token_models import TokenModel

import cnatool
from cnatool.dumping import fitted_reductions
from cnatool.errors import MetricError, UsageError
from cnatool.metrics import projection
from cnatool.metrics.projection import make_projection, spread_positions

SEED = 3
FORMS = {
    "*relu": ["mean", "max", "sample:5"],
    "a_out": ["project:32", "pca:8", "mean+pca:2", "sample:3+project:4"],
}


def pictures(folder: Path, rows: int = 150) -> tuple[Path, Path]:
    """Write a small residual network and its samples."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=rng.integers(0, 10, rows))
    return saved(residual_convnet(), folder / "net.onnx"), folder / "data.npz"


def positions_of(values: np.ndarray, form: str, units: int, seed: int = SEED) -> np.ndarray:
    """Reduce the positions of one sample, (positions, units) after its axes are put so."""
    rows = np.moveaxis(values, units, -1).reshape(-1, values.shape[units])
    word, _, number = form.partition(":")
    match word:
        case "mean":
            return rows.mean(axis=0, dtype=np.float64)
        case "max":
            return rows.max(axis=0)
        case "cls":
            return rows[0]
        case "last":
            return rows[-1]
        case "sample":
            return rows[spread_positions(len(rows), int(number), seed)]
        case _:
            return rows[int(word)]


def check_against_whole(store: cnatool.Store, tolerance: float = 2e-6) -> set[str]:
    """Compare each reduced tensor with NumPy over the whole one; return the forms."""
    assert not cnatool.verify(store.path).faults
    forms = set()
    for tensor in store.tensors:
        if not tensor.reduction:
            continue
        record = tensor.reduction
        forms.add(record.form)
        first, _, second = record.form.rpartition("+")
        for split in store.splits.values():
            whole = split.activations(record.source)[:]
            found = split.activations(tensor.name)[:]
            seed = record.seed if isinstance(record.seed, int) else 0
            for one, other in zip(whole, found, strict=True):
                expected = one
                for word in filter(None, (first, second)):
                    if word.startswith("pca"):
                        mean, components = store.components(tensor.name)
                        expected = (expected.reshape(-1) - mean) @ components.T
                    elif word.startswith("project"):
                        size = int(word.partition(":")[2])
                        made = make_projection(expected.size, size, seed)
                        expected = made.apply(expected.reshape(1, -1).astype(np.float32))[0]
                    else:
                        expected = positions_of(one, word, int(record.unit_axis), seed)
                assert other.dtype == tensor.dtype
                assert other.shape == expected.shape
                scale = max(1, np.abs(one.astype(np.float64)).max())
                np.testing.assert_allclose(other, expected, tolerance, tolerance * scale)
    return forms


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, cnatool.Store, list[str]]:
    folder, notes = tmp_path_factory.mktemp("images"), Notes()
    model, data = pictures(folder)
    options: Any = {"reduce": FORMS, "seed": SEED, "threads": 1, "batch_size": 16}
    store = cnatool.dump(model, data, folder / "s.zarr", observer=notes, **options)
    return folder, store, notes.texts


def test_maps(images: tuple[Path, cnatool.Store, list[str]]) -> None:
    _, store, notes = images
    assert check_against_whole(store) == {form for forms in FORMS.values() for form in forms}
    assert "; 13 reduced tensors besides" in "\n".join(notes)
    split = store.splits["all"]
    assert split.activations("a_out:pca:8").shape == (150, 8)
    assert split.activations("b1_relu:sample:5").shape == (150, 5, 6)
    kept = store.tensor("b1_relu:sample:5").reduction.kept_positions
    assert kept == tuple(spread_positions(64, 5, SEED))
    assert store.tensors[store.tensor("b1_relu:max").sources[0]].name == "b1_relu"


def test_projections_keep_distances_as_far_as_is_stated(
    images: tuple[Path, cnatool.Store, list[str]],
) -> None:
    _, store, notes = images
    split = store.splits["all"]
    record = store.tensor("a_out:project:32").reduction
    assert record.method == "gaussian"
    distance = pytest.importorskip("scipy.spatial.distance").pdist
    before = distance(split.activations("a_out")[:64].reshape(64, -1).astype(np.float64))
    ratios = np.abs(distance(split.activations("a_out:project:32")[:64]) / before - 1)
    assert record.distortion.samples == 64
    assert record.distortion.pairs == 64 * 63 // 2
    assert record.distortion.mean == pytest.approx(ratios.mean(), rel=1e-4)
    assert record.distortion.largest == pytest.approx(ratios.max(), rel=1e-4)
    assert "at most" in "\n".join(notes)


def test_components_are_those_of_scikit_learn(
    images: tuple[Path, cnatool.Store, list[str]],
) -> None:
    """All 150 samples are the sample of the samples."""
    sklearn = pytest.importorskip("sklearn.decomposition")
    _, store, _ = images
    split = store.splits["all"]
    rows = split.activations("a_out")[:].reshape(150, -1)
    expected = sklearn.PCA(8, svd_solver="full").fit(rows.astype(np.float64))
    mean, components = store.components("a_out:pca:8")
    np.testing.assert_allclose(mean, expected.mean_, atol=1e-6)
    np.testing.assert_allclose(components, expected.components_, atol=1e-4)
    found = split.activations("a_out:pca:8")[:]
    np.testing.assert_allclose(found, expected.transform(rows), atol=1e-4)
    record = store.tensor("a_out:pca:8").reduction.components
    np.testing.assert_allclose(record.explained, expected.explained_variance_, rtol=1e-5)
    assert record.share == pytest.approx(expected.explained_variance_ratio_.sum(), rel=1e-5)
    with pytest.raises(MetricError, match=r"not reduced to principal components.*pca:K"):
        store.components("a_out:project:32")


def test_layers_of_scores_are_those_of_the_network(
    images: tuple[Path, cnatool.Store, list[str]],
) -> None:
    _, store, _ = images
    overrides = {"range": "-5:5", "out_of_range": "clip"}
    for layers in ("all", "*relu*"):
        result = cnatool.score(store.path, overrides={**overrides, "layers": layers})
        assert not any(":" in layer.name for layer in result.layers)
    with pytest.raises(MetricError, match="was reduced from 'a_out' and is no layer"):
        cnatool.score(store.path, overrides={**overrides, "layers": "a_out:pca:8"})


@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_parts_conversion_and_resumption(
    form: str,
    images: tuple[Path, cnatool.Store, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _, _ = images
    commit_often(monkeypatch)
    model, data = folder / "net.onnx", folder / "data.npz"
    forms = {"b1_relu": ["mean", "sample:5"], "a_out": ["project:32", "pca:8"]}
    options: Any = {"reduce": forms, "seed": SEED, "threads": 1, "batch_size": 16}
    options |= {"tensors": "a_out"}
    whole = cnatool.dump(model, data, tmp_path / f"whole.{form}", **options)
    paths = [tmp_path / f"p{number}.{form}" for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        cnatool.dump(model, data, path, part=(number, 2), **options)
    cut = tmp_path / f"cut.{form}"
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(model, data, cut, observer=Notes("all", 100), **options)
    # Its components are read from the store, not computed again.
    monkeypatch.setattr(fitted_reductions, "_fit_all", None)
    with pytest.raises(UsageError, match="reduction seed 3 in the store and 4 now"):
        cnatool.dump(model, data, cut, resume=True, **{**options, "seed": 4})
    stores = [
        cnatool.dump(model, data, cut, resume=True, **options),
        cnatool.merge(paths, tmp_path / f"merged.{form}"),
        cnatool.merge(paths, tmp_path / f"copied.{form}", copy=True),
        cnatool.convert(whole.path, tmp_path / f"converted.{'h5' if form == 'zarr' else 'zarr'}"),
    ]
    for store in stores:
        assert not cnatool.verify(store.path).faults
        for tensor in whole.tensors:
            if tensor.reduction:
                assert store.tensor(tensor.name) == tensor
                values = store.splits["all"].activations(tensor.name)[:]
                expected = whole.splits["all"].activations(tensor.name)[:]
                np.testing.assert_array_equal(values, expected)
        for mine, other in zip(
            store.components("a_out:pca:8"), whole.components("a_out:pca:8"), strict=True
        ):
            np.testing.assert_array_equal(mine, other)


def test_parts_with_other_components(
    images: tuple[Path, cnatool.Store, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As another processor could make them."""
    folder, _, _ = images
    fit = fitted_reductions.fit_components

    def turned(rows: np.ndarray, size: int) -> Any:
        return fit(rows + 1e-3 * np.arange(len(rows))[:, None] % 7, size)

    for number in (1, 2):
        if number == 2:
            monkeypatch.setattr(fitted_reductions, "fit_components", turned)
        cnatool.dump(
            folder / "net.onnx", folder / "data.npz", tmp_path / f"{number}.zarr",
            reduce={"a_out": "mean+pca:2"}, part=(number, 2), threads=1, batch_size=16,
        )  # fmt: skip
    with pytest.raises(UsageError, match=r"different principal components of 'a_out:mean\+pca:2'"):
        cnatool.merge([tmp_path / "1.zarr", tmp_path / "2.zarr"], tmp_path / "m.zarr")


def test_comparison(images: tuple[Path, cnatool.Store, list[str]], tmp_path: Path) -> None:
    folder, store, _ = images
    model, data = folder / "net.onnx", folder / "data.npz"
    other = cnatool.dump(
        model, data, tmp_path / "o.zarr", reduce={"a_out": ["mean", "project:32"]}, seed=9
    )
    result = cnatool.compare(store.path, other.path)
    assert "reduced tensor 'a_out:project:32' is not compared: their seeds differ" in result.notes
    again = cnatool.compare(store.path, store.path)
    names = {tensor.name for tensor in again.splits["all"].tensors}
    assert {"a_out:project:32", "a_out:pca:8", "b1_relu:mean"} <= names
    assert again.same


def test_damaged_components(images: tuple[Path, cnatool.Store, list[str]], tmp_path: Path) -> None:
    _, store, _ = images
    copy = cnatool.convert(store.path, tmp_path / "s.h5")
    import h5py

    number = store.tensor("a_out:pca:8").number
    with h5py.File(copy.path, "r+") as root:
        root[f"reductions/{number}/components"][0, 0] += 1
    (fault,) = cnatool.verify(copy.path).faults
    assert fault.where == f"reductions/{number}"
    assert "not what was stored" in fault.problem


def test_samples_of_their_own_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 11, size).tolist() for size in rng.integers(1, 14, 40)]
    pl.DataFrame({"input_ids": ids}).write_parquet(tmp_path / "t.parquet")
    model = TokenModel().save(tmp_path / "t.onnx")
    forms = ["mean", "max", "cls", "last", "0", "sample:4", "last+pca:3", "mean+project:4"]
    store = cnatool.dump(
        model, tmp_path / "t.parquet", tmp_path / "t.zarr", reduce={"relu": forms}, batch_size=4
    )
    assert check_against_whole(store) == set(forms)
    split = store.splits["all"]
    lengths = np.array([len(row) for row in ids])
    found = split.activations("relu:sample:4")
    np.testing.assert_array_equal(found.lengths[:], np.minimum(lengths, 4))
    counts = split.statistics("count")[:, store.tensor("relu:sample:4").number]
    np.testing.assert_array_equal(counts, 8 * np.minimum(lengths, 4))
    for form, text in (
        ("3", "not each has a position 3: take cls, last or sample:K"),
        ("project:4", r"reduce positions first, as in mean\+project:4"),
    ):
        with pytest.raises(UsageError, match=text):
            cnatool.dump(model, tmp_path / "t.parquet", tmp_path / "u.zarr", reduce={"relu": form})


@pytest.mark.parametrize("left", [False, True])
def test_padding_does_not_count(left: bool, tmp_path: Path) -> None:
    data = make_texts(12, left=left, count=30)
    np.savez(tmp_path / "t.npz", **data)
    model = Attention().model()
    path = saved(model, tmp_path / "t.onnx")
    forms = ["mean", "max", "cls", "last", "sample:4", "last+pca:3"]
    # Also where tokens come before samples, or in one axis with them.
    store = cnatool.dump(
        path,
        tmp_path / "t.npz",
        tmp_path / "t.zarr",
        reduce={
            "second residual": forms,
            "turned": ["mean", "last"],
            "flat": ["max", "sample:3"],
            "masked scores": ["mean", "max"],
            "q": "max",
        },
    )
    assert check_against_whole_stored(store) >= set(forms)
    # Scores have a value for each pair of positions, and are not stored whole.
    scores = run_alone(model, ["masked scores"], data)["masked scores"]
    real = data["attention_mask"].astype(bool)
    split = store.splits["all"]
    for row, value in enumerate(scores):
        inside = value[:, real[row]][:, :, real[row]]
        found = split.activations("masked scores:mean")[row]
        np.testing.assert_allclose(found, inside.mean((1, 2)), rtol=1e-5, atol=1e-6)
        found = split.activations("masked scores:max")[row]
        np.testing.assert_allclose(found, inside.max((1, 2)), rtol=1e-5)


def check_against_whole_stored(store: cnatool.Store) -> set[str]:
    """As `check_against_whole`, of the tensors whose sources are stored whole."""
    tensors = store.tensors
    kept = tuple(
        t for t in tensors if not (t.reduction and store.tensor(t.reduction.source).stored is None)
    )
    type(store).tensors = property(lambda self: kept if self is store else self.record.tensors)
    try:
        return check_against_whole(store)
    finally:
        type(store).tensors = property(lambda self: self.record.tensors)


def typed(kind: str) -> onnx.ModelProto:
    """A network of one conversion and a transposition, whose samples are along another axis."""
    b = Builder()
    code = getattr(TensorProto, kind)
    if kind == "BOOL":
        b.constant("zero", np.zeros(1, np.float32))
        b.node("Greater", ["x", "zero"], "typed")
    else:
        b.node("Cast", ["x"], "typed", to=code)
    b.node("Transpose", ["typed"], "turned", perm=[1, 0, 2])
    b.node("Cast", ["turned"], "wide", to=TensorProto.FLOAT)
    b.node("Transpose", ["wide"], "out", perm=[1, 0, 2])
    return b.model({"x": ("n", 7, 5)}, {"out": ("n", 7, 5)})


@pytest.mark.parametrize(
    ("kind", "mean", "kept"),
    [
        ("FLOAT16", "float32", "float16"),
        ("DOUBLE", "float64", "float64"),
        ("INT8", "float64", "int8"),
        ("INT64", "float64", "int64"),
        ("BOOL", "float64", "bool"),
        ("BFLOAT16", "float32", "float32"),
    ],
)
def test_element_types(kind: str, mean: str, kept: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-90, 90, (20, 7, 5)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    path = saved(typed(kind), tmp_path / "x.onnx")
    forms = ["mean", "max", "last", "6", "sample:3", "project:4"]
    store = cnatool.dump(
        path, tmp_path / "x.npz", tmp_path / "x.zarr", reduce={"typed": forms, "turned": forms}
    )
    assert check_against_whole(store, 1e-5) == set(forms)
    assert store.tensor("typed:mean").dtype == mean
    assert {store.tensor(f"turned:{form}").dtype for form in forms[1:5]} == {kept}


def test_large_tensors_and_channels_of_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse beyond a bound, refused beyond another; of (C, T) channels are units."""
    monkeypatch.setattr(projection, "LARGEST_DENSE", 100)
    make_projection.cache_clear()
    b = Builder()
    b.node("Conv", ["x", b.weight("w", 6, 1, 3)], "conv", pads=[1, 1])
    b.node("Relu", ["conv"], "relu")
    b.node("ReduceMean", ["relu"], "out", axes=[2], keepdims=0)
    path = saved(b.model({"x": ("n", 1, 2000)}, {"out": ("n", 6)}), tmp_path / "x.onnx")
    x = np.random.default_rng(0).normal(size=(24, 1, 2000)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    forms = ["mean", "max", "sample:9", "project:50", "project:3"]
    store = cnatool.dump(path, tmp_path / "x.npz", tmp_path / "x.zarr", reduce={"relu": forms})
    assert check_against_whole(store, 2e-5) == set(forms)
    record = store.tensor("relu:project:50").reduction
    assert (record.method, store.tensor("relu:mean").shape) == ("sparse", (6,))
    assert record.distortion.mean < 0.25
    make_projection.cache_clear()
    from cnatool.dumping import reductions

    monkeypatch.setattr(reductions, "LARGEST_SPARSE", 1000)
    monkeypatch.setattr(reductions, "LARGEST_DENSE", 1000)
    with pytest.raises(UsageError, match=r"12,000 numbers a sample are too many.*mean\+project:50"):
        cnatool.dump(path, tmp_path / "x.npz", tmp_path / "y.zarr", reduce={"relu": "project:50"})


def test_nan_is_not_passed_over(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 7, 5)).astype(np.float32)
    x[3, 2, 1] = x[4, 6, 0] = x[5] = np.nan
    x[6, 3], x[7, 3] = np.inf, -np.inf
    np.savez(tmp_path / "x.npz", x=x)
    path = saved(typed("DOUBLE"), tmp_path / "x.onnx")
    reduce = {name: ["mean", "max"] for name in ("typed", "wide")}
    store = cnatool.dump(path, tmp_path / "x.npz", tmp_path / "x.zarr", reduce=reduce)
    split = store.splits["all"]
    for name in reduce:
        values = split.activations(name)[:]
        np.testing.assert_array_equal(split.activations(f"{name}:max")[:], values.max(1))
        found = split.activations(f"{name}:mean")[:]
        np.testing.assert_allclose(found, values.mean(1), rtol=1e-5, atol=1e-6)
    with pytest.raises(cnatool.errors.DataError, match=r"NaN or infinite.*Leave out such samples"):
        cnatool.dump(path, tmp_path / "x.npz", tmp_path / "p.zarr", reduce={"typed": "mean+pca:2"})


def test_units_batches_and_xarray_of_reduced_tensors(tmp_path: Path) -> None:
    """Narrowed to bfloat16, of samples that differ in length, whole and merged from parts."""
    pytest.importorskip("xarray")
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 11, size).tolist() for size in rng.integers(1, 14, 40)]
    pl.DataFrame({"input_ids": ids}).write_parquet(tmp_path / "t.parquet")
    model = TokenModel().save(tmp_path / "t.onnx")
    names = [f"relu:{form}" for form in ("mean", "sample:4", "last+pca:3", "mean+project:4")]
    options: Any = {
        "reduce": {"relu": [name.partition(":")[2] for name in names]},
        "dtype": "bfloat16",
        "units": True,
        "batch_size": 4,
        "threads": 1,
    }
    paths = [tmp_path / f"{number}.zarr" for number in (1, 2)]
    for number, path in enumerate(paths, 1):
        cnatool.dump(model, tmp_path / "t.parquet", path, part=(number, 2), **options)
    whole = cnatool.dump(model, tmp_path / "t.parquet", tmp_path / "w.zarr", **options)
    for store in (whole, cnatool.merge(paths, tmp_path / "m.zarr")):
        assert not cnatool.verify(store.path).faults
        assert [store.tensor(name).stored for name in names] == ["bfloat16"] * 4
        split = store.splits["all"]
        arrays = {name: split.activations(name) for name in names}
        seen: list[int] = []
        for batch in split.batches(names, size=6, seed=1, buffer_bytes=2000):
            seen += batch.rows.tolist()
            for name, array in arrays.items():
                for place, row in enumerate(batch.rows):
                    np.testing.assert_array_equal(batch[name][place], array[int(row)])
                    expected = whole.splits["all"].activations(name)[int(row)]
                    np.testing.assert_allclose(array[int(row)], expected, rtol=1e-2, atol=1e-3)
        assert sorted(seen) == list(range(40))
        data = split.to_xarray(names)
        np.testing.assert_array_equal(data["relu_mean"].values, arrays["relu:mean"][:])
        columns = cnatool.units(store, tensors=names).frame()
        assert len(columns) == 8 + 8 + 3 + 4


def test_statistics_alone_and_narrowed(tmp_path: Path) -> None:
    model, data = pictures(tmp_path, 40)
    whole = cnatool.dump(model, data, tmp_path / "w.zarr", tensors="a_out", reduce=None)
    estimate = cnatool.preflight(
        model, data, tmp_path / "s.zarr", keep="statistics", reduce={"layers": "mean"}
    )
    plain = cnatool.preflight(model, data, tmp_path / "s.zarr", keep="statistics")
    assert estimate.sample_bytes > plain.sample_bytes
    store = cnatool.dump(
        model,
        data,
        tmp_path / "s.zarr",
        keep="statistics",
        tensors="logits",
        dtype="float16",
        reduce={"a_out": "mean"},
    )
    found = store.splits["all"].activations("a_out:mean")
    assert found.dtype == np.float16
    expected = whole.splits["all"].activations("a_out")[:].mean((2, 3))
    np.testing.assert_allclose(found[:], expected, rtol=2e-3, atol=1e-4)
    assert store.tensor("a_out:mean").stored == "float16"


def test_samples_of_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seeded choice in every stretch of the rows, also read one by one, is that of the seed."""
    sklearn = pytest.importorskip("sklearn.decomposition")
    monkeypatch.setattr(fitted_reductions, "_FEWEST_SAMPLES", 30)
    monkeypatch.setattr(fitted_reductions, "_TIMES_COMPONENTS", 1)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(200, 64)).astype(np.float32))
    path = saved(mlp(), tmp_path / "n.onnx")
    for far in (64, 1):
        monkeypatch.setattr(fitted_reductions, "_FAR_APART", far)
        store = cnatool.dump(
            path, tmp_path / "d.npz", tmp_path / "s.zarr", reduce={"fc1": "pca:3"}, seed=8,
            overwrite=True,
        )  # fmt: skip
        rows = store.splits["all"].activations("fc1")[:][spread_positions(200, 30, 8)]
        expected = sklearn.PCA(3, svd_solver="full").fit(rows.astype(np.float64))
        _, components = store.components("fc1:pca:3")
        np.testing.assert_allclose(components, expected.components_, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"fc1": "median"}, "`reduce={'fc1': 'median'}`: the forms are mean, max, cls, last"),
        ({"fc1": "project:0"}, "K is at least 1"),
        ({"fc1": "mean+max"}, "one of the last two may follow"),
        ({"fc1": "mean"}, "'fc1' cannot be reduced like that: it has no positions"),
        ({"nothing*": "mean"}, "has no such tensor with a sample axis"),
        ({"fc1": "project:20"}, "it has 20 numbers a sample: take fewer than that"),
        ({"fc1": "pca:15"}, "15 components need more than 12 samples, as many as the first split"),
        ({"relu1": "pca:11"}, "vary along"),
    ],
)
def test_what_cannot_be_reduced(given: dict[str, str], text: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(4, 64)), 3, axis=0).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    path = saved(mlp(), tmp_path / "n.onnx")
    with pytest.raises((UsageError, cnatool.errors.DataError)) as error:
        cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", reduce=given)
    assert text in str(error.value)
    assert not (tmp_path / "s.zarr").exists()


def test_on_the_command_line(tmp_path: Path) -> None:
    pictures(tmp_path, 20)
    text = refused(
        "dump", "net.onnx", "data.npz", "-o", "s.zarr", "--reduce", "a_out", cwd=tmp_path
    )
    assert "--reduce 'a_out' should be GLOB=FORM" in text
    text = refused(
        "dump", "net.onnx", "data.npz", "-o", "s.zarr", "--reduce", "a_out=cls", cwd=tmp_path
    )
    assert (
        "--reduce a_out=cls: tensor 'a_out' cannot be reduced like that: its positions lie" in text
    )
    words = ["--reduce", "a_out=mean", "--reduce", "a_out=project:4"]
    run("dump", "net.onnx", "data.npz", "-o", "s.zarr", *words, cwd=tmp_path)
    shown = str(run("inspect", "s.zarr", cwd=tmp_path))
    assert "a_out:project:4: gaussian projection, distances of 20 samples change by" in shown
