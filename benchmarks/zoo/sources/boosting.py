"""Ensembles of trees by LightGBM, XGBoost and CatBoost, by their converters to ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from zoo.case import BuiltModel, Case

SOURCE = "boosting"
_ROWS, _COLUMNS, _SAMPLES = 90, 5, 7
# Library, name of the case, class, number of classes (0: regression), parameters.
_Model = tuple[str, str, str, int, Mapping[str, Any]]
_LIGHTGBM = "onnxmltools-lightgbm"
_XGBOOST = "onnxmltools-xgboost"
_MODELS: tuple[_Model, ...] = (
    *(
        ("lightgbm", f"LGBMClassifier-{kind}-{classes}", "LGBMClassifier", classes, settings)
        for kind, settings in (
            ("gbdt", {}),
            ("dart", {"boosting_type": "dart"}),
            ("rf", {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}),
            ("goss", {"data_sample_strategy": "goss"}),
            ("balanced", {"class_weight": "balanced"}),
        )
        for classes in (2, 3)
    ),
    *(
        ("lightgbm", f"LGBMRegressor-{objective}", "LGBMRegressor", 0, {"objective": objective})
        for objective in ("regression", "l1", "huber", "quantile", "poisson", "gamma", "tweedie")
    ),
    ("lightgbm", "LGBMRegressor-dart", "LGBMRegressor", 0, {"boosting_type": "dart"}),
    ("lightgbm", "LGBMRanker", "LGBMRanker", 0, {}),
    *(
        ("xgboost", f"{kind}-{booster}-{classes}", kind, classes, {"booster": booster})
        for kind, booster in (
            ("XGBClassifier", "gbtree"),
            ("XGBClassifier", "dart"),
            ("XGBClassifier", "gblinear"),
            ("XGBRFClassifier", "gbtree"),
        )
        for classes in (2, 3)
    ),
    *(
        ("xgboost", f"XGBRegressor-{kind}", "XGBRegressor", 0, settings)
        for kind, settings in (
            ("gbtree", {}),
            ("dart", {"booster": "dart"}),
            ("gblinear", {"booster": "gblinear"}),
            ("poisson", {"objective": "count:poisson"}),
            ("gamma", {"objective": "reg:gamma"}),
            ("tweedie", {"objective": "reg:tweedie"}),
            ("logistic", {"objective": "reg:logistic"}),
            ("deep", {"max_depth": 9}),
        )
    ),
    ("xgboost", "XGBRFRegressor", "XGBRFRegressor", 0, {}),
    ("xgboost", "XGBRanker", "XGBRanker", 0, {}),
    *(
        ("catboost", f"CatBoostClassifier-{classes}", "CatBoostClassifier", classes, {})
        for classes in (2, 3)
    ),
    *(
        ("catboost", f"CatBoostRegressor-{loss}", "CatBoostRegressor", 0, {"loss_function": loss})
        for loss in ("RMSE", "MAE", "Poisson", "Quantile:alpha=0.3")
    ),
)


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return ("lightgbm", "xgboost", "catboost", "onnxmltools")


def list_cases() -> Iterator[Case]:
    """List the ensembles."""
    exporters = {"lightgbm": _LIGHTGBM, "xgboost": _XGBOOST, "catboost": "catboost"}
    for model in _MODELS:
        library, name, kind, *_ = model
        yield Case(SOURCE, f"{library} {kind}", name, exporters[library], partial(_build, model))


def _build(model: _Model, folder: Path) -> BuiltModel:
    library, _, kind, classes, parameters = model
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS, _COLUMNS)).astype(np.float32)
    scores = x @ rng.normal(size=(_COLUMNS, max(classes, 1)))
    y = scores.argmax(axis=1) if classes else 1 / (1 + np.exp(-scores[:, 0]))
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = _fit(library, kind, parameters, x, y)
        _EXPORTERS[library](estimator, path)
    loaded = onnx.load(path)
    outputs = [np.asarray(estimator.predict(x[:_SAMPLES]))]
    if classes:
        outputs.append(np.asarray(estimator.predict_proba(x[:_SAMPLES])))
    else:
        outputs = [outputs[0].reshape(_SAMPLES, 1)]
    return BuiltModel(path, {loaded.graph.input[0].name: x[:_SAMPLES]}, outputs=outputs)


def _fit(
    library: str, kind: str, parameters: Mapping[str, Any], x: NDArray[Any], y: NDArray[Any]
) -> Any:
    import importlib

    common: dict[str, Any] = {"n_estimators": 6, "max_depth": 3}
    if library == "catboost":
        common = {"iterations": 6, "depth": 3, "allow_writing_files": False, "thread_count": 1}
    elif library == "lightgbm":
        common |= {"min_child_samples": 5, "verbose": -1}
    common |= {"verbose": 0} if library == "catboost" else {"n_jobs": 1}
    estimator = getattr(importlib.import_module(library), kind)(**common | parameters)
    if "Ranker" in kind:
        grades = (y * 4).astype(int)
        return estimator.fit(x, grades, group=[_ROWS // 3] * 3)
    return estimator.fit(x, y)


def _export_lightgbm(estimator: Any, path: Path) -> None:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, _COLUMNS]))]
    onnx.save(onnxmltools.convert_lightgbm(estimator, initial_types=types, zipmap=False), path)


def _export_xgboost(estimator: Any, path: Path) -> None:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, _COLUMNS]))]
    onnx.save(onnxmltools.convert_xgboost(estimator, initial_types=types), path)


def _export_catboost(estimator: Any, path: Path) -> None:
    estimator.save_model(str(path), format="onnx")


_EXPORTERS = {
    "lightgbm": _export_lightgbm,
    "xgboost": _export_xgboost,
    "catboost": _export_catboost,
}
