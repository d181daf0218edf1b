"""Estimators of scikit-learn that `skl2onnx` converts, fitted to a few random rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.case import BuiltModel, Case, NoSamplesError

SOURCE = "scikit_learn"
_ROWS, _COLUMNS, _CLASSES, _SAMPLES = 80, 6, 3, 7
_VERSIONS = {"": 21, "ai.onnx.ml": 3}
# What reads texts, dictionaries or labels instead of an array of numbers.
_OTHER_DATA = (
    "CountVectorizer",
    "DictVectorizer",
    "FeatureHasher",
    "LabelBinarizer",
    "LabelEncoder",
    "TfidfVectorizer",
)
_SEVERAL_TARGETS = ("MultiOutput", "MultiTask", "PLS")
_COUNTS = ("CategoricalNB", "ComplementNB", "MultinomialNB", "TfidfTransformer")
_POSITIVE_TARGETS = ("GammaRegressor", "PoissonRegressor", "TweedieRegressor")
_TWO_CLASSES = ("GaussianProcessClassifier", "TargetEncoder", "TunedThresholdClassifierCV")


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return ("scikit-learn", "skl2onnx")


def list_cases() -> Iterator[Case]:
    """List the estimators, in single precision as converted by default, and in double."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from sklearn.utils import all_estimators

    for name, kind in all_estimators():
        if kind in sklearn_operator_name_map:
            family = kind.__module__.split(".")[1]
            for exporter, double in (("skl2onnx", False), ("skl2onnx-double", True)):
                yield Case(SOURCE, family, name, exporter, partial(_build, name, kind, double))


def _build(name: str, kind: Any, double: bool, folder: Path) -> BuiltModel:
    if name in _OTHER_DATA:
        raise NoSamplesError("the estimator reads texts, dictionaries or labels")
    x, y = _make_data(name, np.float64 if double else np.float32)
    estimator = kind(**_parameters(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(x, y)
        model = _convert(estimator, x, zip_map=not double)
    path = folder / "model.onnx"
    onnx.save(model, path)
    given = model.graph.input[0].name
    return BuiltModel(path, {given: x[:_SAMPLES]}, outputs=_predict(estimator, x[:_SAMPLES], model))


def _convert(estimator: Any, x: NDArray[Any], *, zip_map: bool) -> onnx.ModelProto:
    """Convert an estimator; without ZipMap, probabilities are an array."""
    import skl2onnx

    def convert(options: Mapping[int, Mapping[str, bool]] | None) -> Any:
        return skl2onnx.to_onnx(estimator, x[:1], options=options, target_opset=_VERSIONS)

    try:
        return convert(None if zip_map else {id(estimator): {"zipmap": False}})
    except NameError:  # its converter never makes one
        return convert(None)


def _make_data(name: str, dtype: type[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make rows, and targets that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS, _COLUMNS)).astype(dtype)
    if name in _COUNTS:
        x = rng.integers(0, 4, x.shape).astype(dtype)
    if name == "OneHotEncoder":
        x = rng.integers(0, 4, x.shape)
    if name == "KernelCenterer":
        x = x @ x.T
    scores = x[:, :_COLUMNS] @ rng.normal(size=(_COLUMNS, _CLASSES))
    if name.startswith(_SEVERAL_TARGETS):
        classify = "Classifier" in name
        return x, (scores > 0).astype(np.int64) if classify else scores
    kinds = ("Regress", "SVR", "Lars", "Lasso", "Elastic", "Ridge", "OrthogonalMatching")
    if any(part in name for part in kinds) and "Classifier" not in name and "Logistic" not in name:
        return x, np.exp(scores[:, 0] / 4) if name in _POSITIVE_TARGETS else scores[:, 0]
    labels = scores[:, :2] if name in _TWO_CLASSES else scores
    return x, labels.argmax(axis=1)


def _parameters(name: str) -> Mapping[str, Any]:
    """Return the parameters that an estimator needs, and those that keep it small."""
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.preprocessing import MinMaxScaler, StandardScaler
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    regress = "Regressor" in name
    one = LinearRegression() if regress else LogisticRegression()
    trees = DecisionTreeRegressor(max_depth=3) if regress else DecisionTreeClassifier(max_depth=3)
    steps = [("a", StandardScaler()), ("b", MinMaxScaler())]
    needed: dict[str, Mapping[str, Any]] = {
        "ColumnTransformer": {
            "transformers": [("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), [2, 3, 4])]
        },
        "FeatureUnion": {"transformer_list": steps},
        "GridSearchCV": {"estimator": one, "param_grid": {"C": [0.1, 1.0]}},
        "Pipeline": {"steps": [*steps, ("c", LogisticRegression())]},
        "KBinsDiscretizer": {"encode": "onehot-dense", "n_bins": 4},
        "MLPClassifier": {"hidden_layer_sizes": (8, 5), "max_iter": 50},
        "MLPRegressor": {"hidden_layer_sizes": (8, 5), "max_iter": 50},
        "GaussianRandomProjection": {"n_components": 3},
        "QuantileTransformer": {"n_quantiles": 20},
        "SVC": {"probability": True},
        "LocalOutlierFactor": {"novelty": True},
        "RandomTreesEmbedding": {"n_estimators": 4, "sparse_output": False},
        "RadiusNeighborsClassifier": {"radius": 9.0},
        "RadiusNeighborsRegressor": {"radius": 9.0},
        "NearestNeighbors": {"radius": None},
    }
    if name in needed:
        return needed[name]
    if name.startswith(("Stacking", "Voting")):
        return {"estimators": [("a", one), ("b", trees)]}
    if name.startswith(("MultiOutput", "OneVs", "RFE", "SelectFromModel", "TunedThreshold")):
        return {"estimator": one}
    forests = ("Bagging", "ExtraTrees", "GradientBoosting", "RandomForest", "RandomTrees", "AdaB")
    if name.startswith(forests):
        return {"n_estimators": 5}
    return {"max_iter": 10} if name.startswith("HistGradient") else {}


def _predict(estimator: Any, x: NDArray[Any], model: onnx.ModelProto) -> list[NDArray[Any]]:
    """Compute what the model's outputs should be, in their shapes; nothing for ZipMap's."""
    # A selection of columns predicts as well, and is converted without that.
    predicts = hasattr(estimator, "predict") and not hasattr(estimator, "get_support")
    methods = ("predict", "predict_proba") if predicts else ("transform",)
    expected = []
    for output, method in zip(model.graph.output, methods, strict=False):
        if not hasattr(estimator, method) or not output.type.HasField("tensor_type"):
            break
        value = getattr(estimator, method)(x)
        value = np.asarray(value.todense() if hasattr(value, "todense") else value)
        flat = len(output.type.tensor_type.shape.dim) > value.ndim == 1
        expected.append(value[:, None] if flat else value)
    return expected
