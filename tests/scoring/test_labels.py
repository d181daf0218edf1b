"""Accuracy of models that give labels of their own beside scores: that of scikit-learn."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved

import cnatool

SETTINGS = {"range": "-9:9", "layers": "all", "include_output": True}


def score(folder: Path, model: onnx.ModelProto, **splits: object) -> cnatool.ScoreResult:
    data = {}
    for name, (x, y) in splits.items():
        np.savez(folder / f"{name}.npz", x=x, **({} if y is None else {"y": y}))
        data[name] = folder / f"{name}.npz"
    cnatool.dump(saved(model, folder / "m.onnx"), None, folder / "s.zarr", splits=data)
    return cnatool.score(folder / "s.zarr", overrides=SETTINGS)


def separable(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(150, 4)).astype(np.float32)
    return x, ((x @ rng.normal(size=(4, classes))) + 0.5 * rng.normal(size=(150, classes))).argmax(
        1
    )


def classifiers() -> dict[str, object]:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC, LinearSVC

    return {
        "logistic": LogisticRegression(),
        "one-vs-rest": OneVsRestClassifier(LogisticRegression()),
        "boosting": GradientBoostingClassifier(n_estimators=8, random_state=0),
        "forest": RandomForestClassifier(n_estimators=8, max_depth=3, random_state=0),
        "linear-svc": LinearSVC(),
        "svc": SVC(random_state=5),
        "mlp": MLPClassifier((8, 6), max_iter=60, random_state=0),
    }


@pytest.mark.parametrize("values", [(0, 1), (1, 2), (-1, 1), (0, 1, 2), (3, 5, 9), (1, 2, 3, 4)])
@pytest.mark.parametrize("name", list(classifiers()))
def test_accuracy_is_that_of_scikit_learn(
    tmp_path: Path, name: str, values: tuple[int, ...]
) -> None:
    from skl2onnx import to_onnx
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, places = separable(len(values))
    y = np.array(values)[places]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = classifiers()[name]
        fitted = make_pipeline(StandardScaler(), classifier).fit(x, y)
        kind = "raw_scores" if name == "linear-svc" else "zipmap"
        options = {id(classifier): {kind: name == "linear-svc"}}
        model = to_onnx(fitted, x[:1], options=options)
    split = score(tmp_path, model, all=(x, y)).splits["all"]
    assert split.accuracy == (fitted.predict(x) == y).mean()
    if split.loss is not None and hasattr(fitted, "predict_proba"):
        own = fitted.predict_proba(x)[np.arange(len(x)), places]
        assert split.loss == pytest.approx(-np.log(own).mean(), rel=1e-3)


def labelled(table: list[int], classes: int = 3, *, label: str = "label") -> onnx.ModelProto:
    """Make a network whose label output names column k by the k-th number of a table."""
    b = Builder(4)
    b.node("Relu", [b.gemm("x", "fc1", 4, 8)], "relu1")
    b.gemm("relu1", "scores", 8, classes)
    b.node("ArgMax", ["scores"], "best", axis=1, keepdims=0)
    b.node("Gather", [b.constant("table", np.array(table, np.int64)), "best"], label)
    graph = b.model({"x": ("n", 4)}, {"scores": ("n", classes)})
    graph.graph.output.append(helper.make_tensor_value_info(label, TensorProto.INT64, ["n"]))
    return graph


def predicted(model: onnx.ModelProto, x: np.ndarray, name: str) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    value: np.ndarray = ReferenceEvaluator(model).run([name], {"x": x})[0]
    return value


def cross_entropy(scores: np.ndarray, columns: np.ndarray) -> float:
    shares = np.exp(scores.astype(float))
    shares /= shares.sum(axis=1, keepdims=True)
    return float(-np.log(shares[np.arange(len(scores)), columns]).mean())


@pytest.mark.parametrize("table", [[0, 1, 2], [2, 0, 1], [1, 2, 3], [3, 5, 9], [30, 7, 11]])
def test_columns_are_those_that_the_label_output_names(tmp_path: Path, table: list[int]) -> None:
    x, noise = separable(3, 4)
    model = labelled(table)
    own, scores = predicted(model, x, "label"), predicted(model, x, "scores")
    y = np.where(np.arange(len(x)) % 3 == 0, np.array(table)[noise], own)
    result = score(tmp_path, model, train=(x, y), test=(x[:90], y[:90]))
    split = result.splits["train"]
    assert split.accuracy == (own == y).mean()
    columns = np.array([table.index(value) for value in y])
    assert split.loss == pytest.approx(cross_entropy(scores, columns), rel=1e-5)
    assert result.margin.value is not None
    said = [line for line in result.notes if line.startswith("columns of 'scores'")]
    assert len(said) == (table != [0, 1, 2])


@pytest.mark.parametrize("folders", [("3", "5", "9"), ("3", "5", "9", "other")])
def test_folders_named_by_numbers_are_the_classes_of_the_model(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    """Folders named by numbers alone are class numbers; beside another name they are names."""
    from PIL import Image

    rng = np.random.default_rng(1)
    for name in folders:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(40):
            pixels = rng.choice([0, 255], (2, 2)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"data/{name}/{i}.png")
    model = labelled([3, 5, 9])
    cnatool.dump(saved(model, tmp_path / "m.onnx"), tmp_path / "data", tmp_path / "s.zarr")
    split = cnatool.open(tmp_path / "s.zarr").splits["all"]
    assert split.labels is not None
    assert split.record.classes == (None if "other" not in folders else folders)
    pixels = split.inputs()[:].reshape(-1, 4).astype(np.float32) / np.float32(255)
    found = cnatool.score(tmp_path / "s.zarr", overrides=SETTINGS).splits["all"]
    if "other" in folders:  # a class that the model does not have
        assert found.accuracy is None
        assert found.performance_reason
        return
    assert found.accuracy == (predicted(model, pixels, "label") == split.labels[:]).mean()
    assert found.loss is not None


def test_places_are_taken_in_order_where_labels_count_classes(tmp_path: Path) -> None:
    x, y = separable(3, 4)
    model = labelled([3, 5, 9])
    result = score(tmp_path, model, all=(x, y))
    assert result.splits["all"].accuracy == (predicted(model, x, "scores").argmax(1) == y).mean()
    assert any("gives 3, 5, 9 and the labels are 0, 1, 2: " in line for line in result.notes)


def test_labels_that_are_no_classes_of_the_model_have_no_accuracy(tmp_path: Path) -> None:
    x, y = separable(3, 4)
    split = score(tmp_path, labelled([3, 5, 9]), all=(x, y + 20)).splits["all"]
    assert split.accuracy is None
    assert split.loss is None
    assert "how they correspond is not known" in str(split.performance_reason)


def test_scores_that_contradict_the_labels_have_no_loss(tmp_path: Path) -> None:
    """Three classes have three pairs: the decisions of a one-against-one SVC look like scores."""
    x, y = separable(3, 4)
    b = Builder(4)
    b.node("Relu", [b.gemm("x", "fc1", 4, 8)], "relu1")
    b.gemm("relu1", "scores", 8, 3)
    b.node("ArgMax", [b.gemm("relu1", "others", 8, 3)], "prediction", axis=1, keepdims=0)
    model = b.model({"x": ("n", 4)}, {"scores": ("n", 3)})
    model.graph.output.append(helper.make_tensor_value_info("prediction", 7, ["n"]))
    own, best = predicted(model, x, "prediction"), predicted(model, x, "scores").argmax(1)
    result = score(tmp_path, model, train=(x, y))
    split = result.splits["train"]
    assert split.accuracy == (own == y).mean(), split.performance_reason
    assert split.loss is None
    share = f"{(own != best).mean():.1%} of the samples"
    assert share in str(split.loss_reason)
    assert any(share in line for line in result.notes)
    assert result.margin.value is None
    assert share in str(result.margin.reason)
    # Whoever names the scores has their accuracy, and the note.
    named = cnatool.score(tmp_path / "s.zarr", overrides=SETTINGS, output="scores")
    assert named.splits["train"].accuracy == (best == y).mean()
    assert any(share in line for line in named.notes)


def test_a_label_output_alone_has_an_accuracy(tmp_path: Path) -> None:
    x, y = separable(3, 4)
    model = labelled([0, 1, 2])
    del model.graph.output[0]
    split = score(tmp_path, model, all=(x, y)).splits["all"]
    assert split.accuracy == (predicted(model, x, "label") == y).mean()
    assert split.loss is None
    assert "not scores" in str(split.loss_reason)


def test_whole_numbers_that_are_no_labels_are_left_alone(tmp_path: Path) -> None:
    x, y = separable(3, 4)
    model = labelled([7, 1, 0], label="length")
    result = score(tmp_path, model, all=(x, y))
    assert result.splits["all"].accuracy == (predicted(model, x, "scores").argmax(1) == y).mean()
