"""Tables and the networks of scikit-learn: the same store from every form, and its own figures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from support.command import run

import cnatool

skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
types = pytest.importorskip("skl2onnx.common.data_types", reason="skl2onnx is not installed")

WINE = load_wine()
NAMES = tuple(WINE.feature_names)
# What both arithmetics can hold: scikit-learn's is double, its exports' single.
X = WINE.data.astype(np.float32).astype(np.float64)
Y = WINE.target.astype(np.int64)


def frame(x: Any = X) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(NAMES, x.T, strict=True)) | {"target": Y})


def parquet(folder: Path) -> Path:
    frame().write_parquet(folder / "wine.parquet", row_group_size=50)
    return folder / "wine.parquet"


def csv(folder: Path) -> Path:
    frame().write_csv(folder / "wine.csv")
    return folder / "wine.csv"


def npz(folder: Path) -> Path:
    np.savez(folder / "wine.npz", x=X, y=Y)
    return folder / "wine.npz"


def fitted(pipeline: Pipeline, x: Any) -> Pipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline.fit(x, Y)


def network() -> MLPClassifier:
    return MLPClassifier((16, 12, 8), max_iter=60, random_state=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A scaler and a network as one graph, and the probabilities that scikit-learn gives."""
    pipeline = fitted(make_pipeline(StandardScaler(), network()), X)
    exported = skl2onnx.to_onnx(pipeline, X[:1].astype(np.float32), options={"zipmap": False})
    path = tmp_path_factory.mktemp("model") / "wine.onnx"
    path.write_bytes(exported.SerializeToString())
    return path, pipeline.predict_proba(X)


def same_figures(store: Path, expected: Any) -> None:
    """Compare a store's probabilities and the score of it with scikit-learn's."""
    [split] = cnatool.open(store).splits.values()
    outputs = [split.outputs(i)[:] for i in range(2)]
    [found] = [one for one in outputs if one.ndim == 2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    score = json.loads(
        run("score", store, "--json", "--set", "range=0:2000", cwd=store.parent).stdout
    )
    assert score["splits"]["all"]["accuracy"] == np.mean(expected.argmax(axis=1) == Y)
    assert score["splits"]["all"]["loss"] == pytest.approx(log_loss(Y, expected), rel=1e-5)


@pytest.mark.parametrize("form", [parquet, csv, npz])
def test_every_form_of_a_table(
    form: Callable[[Path], Path], model: tuple[Path, Any], tmp_path: Path
) -> None:
    path, expected = model
    run("dump", path, form(tmp_path), "-o", "s.zarr", cwd=tmp_path)
    [split] = cnatool.open(tmp_path / "s.zarr").splits.values()
    assert split.inputs()[:].dtype == X.dtype
    assert split.inputs()[:].tobytes() == X.tobytes()
    assert split.labels[:].tobytes() == Y.tobytes()
    same_figures(tmp_path / "s.zarr", expected)
    # α by NumPy's own histogram.
    run("score", "s.zarr", "--set", "range=0:2000", "--samples", "s.parquet", cwd=tmp_path)
    found = pl.read_parquet(tmp_path / "s.parquet")["alpha"]
    for row, alpha in zip(X, found, strict=True):
        counts = np.histogram(row, 256, (0, 2000))[0]
        p = counts[counts > 0] / len(row)
        assert alpha == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-12)


@pytest.mark.parametrize("form", [parquet, csv])
def test_an_input_for_each_column(form: Callable[[Path], Path], tmp_path: Path) -> None:
    x = frame().select(NAMES)
    scaled = ColumnTransformer([("scale", StandardScaler(), list(NAMES))])
    pipeline = fitted(Pipeline([("scale", scaled), ("network", network())]), x)
    given = [(name, types.FloatTensorType([None, 1])) for name in NAMES]
    exported = skl2onnx.convert_sklearn(
        pipeline, initial_types=given, options={"network": {"zipmap": False}}
    )
    (tmp_path / "wine.onnx").write_bytes(exported.SerializeToString())
    words = ("dump", "wine.onnx", form(tmp_path), "-o", "s.zarr", "--labels", "target")
    # The exporter takes the slash out of a name.
    slash = next(name for name in NAMES if "/" in name)
    run(*words, "--input", f"{slash.replace('/', '_')}={slash}", cwd=tmp_path)
    same_figures(tmp_path / "s.zarr", pipeline.predict_proba(x))
