"""Which output is scored, and how outputs of one unit are read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.metrics import accuracy_score, log_loss
from support import heads
from support.networks import Builder, saved
from support.stores import changed_attribute

import cnatool
from cnatool.errors import UsageError

# Of the samples of `heads`.
RANGE = {"range": "-5:5"}
ROWS = 200


def data(folder: Path, classes: int = 10) -> Path:
    rng = np.random.default_rng(7)
    folder.mkdir()
    for name in ("train", "test"):
        x = rng.integers(0, 256, (ROWS, 8, 8), np.uint8) // rng.integers(1, 99, (ROWS, 1, 1))
        np.savez(folder / f"{name}.npz", x=x.astype(np.uint8), y=rng.integers(0, classes, ROWS))
    return folder


def network(b: Builder, outputs: dict[str, tuple[int | str, ...]], **types: int) -> onnx.ModelProto:
    """A network with two hidden layers, ``relu2`` the last of them, before what ``b`` holds."""
    rest, b.nodes = b.nodes, []
    b.node("Relu", [b.gemm("x", "fc1", 64, 20)], "relu1")
    b.node("Relu", [b.gemm("relu1", "fc2", 20, 12)], "relu2")
    b.nodes += rest
    model = b.model({"x": ("n", 64)}, {})
    for name, shape in outputs.items():
        kind = types.get(name, TensorProto.FLOAT)
        model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return model


def dumped(model: onnx.ModelProto, folder: Path, classes: int = 10) -> cnatool.Store:
    path = saved(model, folder / "net.onnx")
    return cnatool.dump(path, data(folder / "data", classes), folder / "s.zarr", overwrite=True)


def test_label_first_then_probabilities(tmp_path: Path) -> None:
    """As scikit-learn's classifiers are exported."""
    b = Builder()
    b.node("Softmax", [b.gemm("relu2", "scores", 12, 10)], "probabilities", axis=1)
    b.node("ArgMax", ["probabilities"], "label", axis=1, keepdims=0)
    outputs = {"label": ("n",), "probabilities": ("n", 10)}
    store = dumped(network(b, outputs, label=TensorProto.INT64), tmp_path)
    result = cnatool.score(store)
    assert result.output.name == "probabilities"
    assert result.output.others == ()
    for name, split in result.splits.items():
        labels = store.splits[name].labels[:]
        p = store.splits[name].outputs(1)[:]
        assert split.accuracy == pytest.approx(accuracy_score(labels, p.argmax(axis=1)))
        assert split.loss == pytest.approx(log_loss(labels, p, labels=range(10)), rel=1e-5)
        assert split.outputs == "probabilities"
    named = cnatool.score(store, output="label")
    assert named.output.name == "label"
    assert named.splits["test"].accuracy is None
    assert named.splits["test"].performance_reason == "output 'label' holds int64, not scores"


def test_features_first_then_logits(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("relu2", "logits", 12, 10)
    store = dumped(network(b, {"relu2": ("n", 12), "logits": ("n", 10)}), tmp_path)
    result = cnatool.score(store)
    assert (result.output.number, result.output.name, result.output.others) == (1, "logits", ())
    labels = store.splits["test"].labels[:]
    logits = store.splits["test"].outputs(1)[:]
    assert result.splits["test"].accuracy == pytest.approx(
        accuracy_score(labels, logits.argmax(axis=1))
    )
    with pytest.raises(UsageError, match="`output='scores'`: .* It has relu2, logits."):
        cnatool.score(store, output="scores")


def test_a_store_that_does_not_say_what_leads_where(tmp_path: Path) -> None:
    """Another program's: the last layer's own name is evidence enough."""
    b = Builder()
    b.gemm("relu2", "logits", 12, 10)
    store = dumped(network(b, {"relu2": ("n", 12), "logits": ("n", 10)}), tmp_path)
    with changed_attribute(store.path) as attribute:
        for layer in attribute["layers"]:
            layer.pop("leads_to", None)
    assert cnatool.score(store.path).output.name == "logits"


def test_of_two_heads_the_first_is_taken_and_the_other_named(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("relu2", "digits", 12, 10)
    b.gemm("relu2", "parity", 12, 10)
    store = dumped(network(b, {"parity": ("n", 10), "digits": ("n", 10)}), tmp_path)
    result = cnatool.score(store)
    assert (result.output.name, result.output.others) == ("parity", ("digits",))
    assert any("digits could be the output instead of parity" in note for note in result.notes)
    chosen = cnatool.score(store, output="digits")
    assert (chosen.output.name, chosen.output.others) == ("digits", ())
    assert not any("could be the output" in note for note in chosen.notes)
    accuracies = []
    for number, one in enumerate((result, chosen)):
        split = store.splits["train"]
        predicted = split.outputs(number)[:].argmax(axis=1)
        accuracies.append(accuracy_score(split.labels[:], predicted))
        assert one.splits["train"].accuracy == pytest.approx(accuracies[-1])
    frame = cnatool.score_samples(store, output="digits")
    assert (frame["label"] == frame["prediction"])[:ROWS].mean() == pytest.approx(accuracies[1])


def test_an_auxiliary_classifier_and_a_box_are_not_taken(tmp_path: Path) -> None:
    """The box has no score for label 4, and the auxiliary classifier is not as deep."""
    store = dump_heads(heads.two_heads(), tmp_path)
    assert [output.name for output in store.record.outputs] == ["box", "auxiliary", "logits"]
    result = cnatool.score(store, overrides=RANGE)
    assert (result.output.name, result.output.others) == ("logits", ())
    split = store.splits["all"]
    predicted = split.outputs(2)[:].argmax(axis=1)
    assert result.splits["all"].accuracy == accuracy_score(split.labels[:], predicted)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        # Of labels 0 and 1, a number of detections could be the score.
        (
            None,
            "any of the outputs num_detections, detection_scores could contain the class scores",
        ),
        ("detection_scores", "the scores of output 'detection_scores' decrease in every sample"),
        ("detection_boxes", "output 'detection_boxes' has shape (5, 4) a sample"),
    ],
)
def test_detections_of_a_fixed_number_are_no_classes(
    output: str | None, reason: str, tmp_path: Path
) -> None:
    store = dump_heads(heads.fixed_number(5), tmp_path, 5 if output else 2)
    split = cnatool.score(store, output=output, overrides=RANGE).splits["all"]
    assert split.performance_reason.startswith(reason)
    assert (split.accuracy, split.loss) == (None, None)


@pytest.mark.parametrize("kind", ["end to end", "boxes alone", "single", "suppressed"])
def test_outputs_that_vary_in_length_are_no_scores(kind: str, tmp_path: Path) -> None:
    store = dump_heads(heads.MODELS[kind](), tmp_path)
    varying = [o.name for o in store.record.outputs if o.ragged_axis is not msgspec.UNSET]
    assert varying
    result = cnatool.score(store, overrides=RANGE)
    assert result.splits["all"].cna.value is not None
    assert result.splits["all"].accuracy is None
    assert result.output.name is None
    advised = result.splits["all"].performance_reason.partition("output=")[2]
    assert not any(name in advised for name in varying)
    for name in varying:
        split = cnatool.score(store, output=name, overrides=RANGE).splits["all"]
        assert "varies in length from sample to sample" in split.performance_reason


def dump_heads(model: onnx.ModelProto, folder: Path, classes: int = 5) -> cnatool.Store:
    x = heads.samples(40)
    np.savez(folder / "data.npz", x=x, y=np.arange(40) % classes)
    return cnatool.dump(saved(model, folder / "net.onnx"), folder / "data.npz", folder / "s.zarr")


@pytest.mark.parametrize("shape", [("n", 1), ("n",)])
@pytest.mark.parametrize("sigmoid", [True, False])
def test_one_unit_is_the_network_of_two_that_it_stands_for(
    shape: tuple[int | str, ...], sigmoid: bool, tmp_path: Path
) -> None:
    """p is the softmax of (0, z): the same network with a constant zero for class 0."""

    def one() -> onnx.ModelProto:
        b = Builder()
        tensor = b.gemm("relu2", "z", 12, 1)
        if sigmoid:
            tensor = b.node("Sigmoid", [tensor], "p")
        if len(shape) == 1:
            tensor = b.node("Squeeze", [tensor, b.constant("axis", np.array([1]))], "flat")
        return network(b, {tensor: shape})

    def two() -> onnx.ModelProto:
        b = Builder()
        b.gemm("relu2", "z", 12, 1)
        b.node("Mul", ["z", b.constant("zero", np.float32(0))], "none")
        tensor = b.node("Concat", ["none", "z"], "both", axis=1)
        if sigmoid:
            tensor = b.node("Softmax", [tensor], "probabilities", axis=1)
        return network(b, {tensor: ("n", 2)})

    results, stores = [], []
    for name, model in (("one", one()), ("two", two())):
        folder = tmp_path / name
        folder.mkdir()
        stores.append(dumped(model, folder, classes=2))
        results.append(cnatool.score(stores[-1]))
    got, truth = results
    assert got.splits["train"].outputs == ("probabilities" if sigmoid else "logits")
    for name in ("train", "test"):
        split = stores[0].splits[name]
        value = split.outputs()[:].reshape(-1).astype(np.float64)
        p = value if sigmoid else 1 / (1 + np.exp(-value))
        labels = split.labels[:]
        assert got.splits[name].accuracy == pytest.approx(accuracy_score(labels, p >= 0.5))
        assert got.splits[name].loss == pytest.approx(log_loss(labels, p), rel=1e-6)
        assert got.splits[name].loss == pytest.approx(truth.splits[name].loss, rel=1e-5)
    assert got.margin.value == pytest.approx(truth.margin.value, rel=1e-5)
    assert got.gap.value == pytest.approx(truth.gap.value)
    forms = ["mean"] if not sigmoid else []
    for form in forms:
        values = [cnatool.score(s, overrides={"margin": form}).margin.value for s in stores]
        assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_one_unit_and_labels_that_are_not_two_classes(tmp_path: Path) -> None:
    b = Builder()
    b.node("Sigmoid", [b.gemm("relu2", "z", 12, 1)], "p")
    split = cnatool.score(dumped(network(b, {"p": ("n", 1)}), tmp_path)).splits["train"]
    assert split.accuracy is None
    assert "the output scores 2 classes: labels go from 0 to 1" in split.performance_reason


def test_an_even_chance_is_class_one(tmp_path: Path) -> None:
    b = Builder()
    b.gemm("relu2", "z", 12, 1)
    b.node("Mul", ["z", b.constant("zero", np.float32(0))], "none")
    b.node("Sigmoid", ["none"], "p")
    store = dumped(network(b, {"p": ("n", 1)}), tmp_path, classes=2)
    assert set(cnatool.score_samples(store)["prediction"]) == {1}


def test_json_names_the_output_and_the_model(tmp_path: Path) -> None:
    import hashlib

    b = Builder()
    b.gemm("relu2", "logits", 12, 10)
    store = dumped(network(b, {"logits": ("n", 10)}), tmp_path)
    found = msgspec.json.decode(cnatool.score(store).to_json())
    assert found["output"] == {"number": 0, "name": "logits", "others": []}
    digest = hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
    assert found["model"] == {"name": "net.onnx", "sha256": digest}
