"""Stores recorded from Keras, against Keras itself and against dumps of exported models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.peers import keras_of_tests
from support.recorded import write_levels

import cnatool
from cnatool.errors import DataError, UsageError

ROWS = {"train": 80, "test": 60}

# What exporters warn of is theirs; what comes out is compared.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def keras() -> Any:
    return keras_of_tests()


def mlp(keras: Any) -> Any:
    use = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            use.Flatten(),
            use.Dense(24, activation="relu", name="fc1"),
            use.Dense(16, activation="relu", name="fc2"),
            use.Dense(5, name="fc3"),
        ]
    )


def resnet(keras: Any) -> Any:
    use = keras.layers
    image = keras.Input((8, 8))
    x = use.Reshape((8, 8, 1))(image)
    x = use.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(x)
    x = use.ReLU()(use.BatchNormalization(name="stem_bn")(x))
    y = use.Conv2D(6, 3, 2, padding="same", name="a")(x)
    y = use.ReLU()(use.BatchNormalization(name="a_bn")(y))
    y = use.BatchNormalization(name="b_bn")(use.Conv2D(6, 3, padding="same", name="b")(y))
    down = use.BatchNormalization(name="down_bn")(use.Conv2D(6, 1, 2, name="down")(x))
    x = use.GlobalAveragePooling2D()(use.ReLU()(use.Add()([y, down])))
    return keras.Model(image, use.Dense(5, activation="softmax", name="fc")(x))


def transformer(keras: Any) -> Any:
    use = keras.layers
    tokens = keras.Input((8, 8))
    x = use.Dense(12, name="embedding")(tokens)
    mixed = use.MultiHeadAttention(2, 6, name="attention")(x, x)
    x = use.LayerNormalization()(use.Add()([x, mixed]))
    y = use.Dense(12, name="down")(use.Dense(20, activation="relu", name="up")(x))
    x = use.LayerNormalization()(use.Add()([x, y]))
    return keras.Model(tokens, use.Dense(5, name="head")(use.GlobalAveragePooling1D()(x)))


MODELS = {"mlp": mlp, "resnet": resnet, "transformer": transformer}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return write_levels(tmp_path / "data", ROWS)


def varied(model: Any) -> Any:
    rng = np.random.default_rng(1)
    for weight in model.weights:
        offset = 0.0 if weight.name in ("beta", "bias", "moving_mean") else 1.0
        if weight.name in ("beta", "bias", "gamma", "moving_mean", "moving_variance"):
            weight.assign(np.abs(offset + rng.normal(0, 0.3, weight.shape)))
    return model


def batches(data: Any, size: int = 32) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    return {
        split: [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
        for split, (x, y) in data.items()
    }


def prepared(raw: np.ndarray) -> np.ndarray:
    return raw.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("exporter", ["keras", "tf2onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_export(
    keras: Any, name: str, exporter: str, data: Any, tmp_path: Path
) -> None:
    from cnatool.recorders.keras import record

    tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    model = varied(MODELS[name](keras))
    record(
        model,
        tmp_path / "kept.zarr",
        batches(data),
        prepare=prepared,
        keep="activations",
        weights=True,
    )
    path = tmp_path / "model.onnx"
    if exporter == "keras":
        model.export(str(path), format="onnx", verbose=False)
    else:
        import tensorflow as tf

        spec = [tf.TensorSpec((None, 8, 8), tf.float32, name="x")]
        tf2onnx.convert.from_function(
            tf.function(lambda x: model(x, training=False), input_signature=spec),
            spec,
            output_path=str(path),
        )
    cnatool.dump(path, tmp_path / "data", tmp_path / "dump.zarr")
    # An exporter may put parallel branches into another order than they run in.
    by_path = {"depth": "path"}
    found = cnatool.compare(tmp_path / "kept.zarr", tmp_path / "dump.zarr", overrides=by_path)
    assert found.same, found.differences
    kept, dump = (cnatool.open(tmp_path / f"{n}.zarr") for n in ("kept", "dump"))
    names = {(t.name, t.name2) for t in found.splits["train"].tensors}
    for one in kept.layers:
        (two,) = [two for two in dump.layers if (one.preactivation, two.preactivation) in names]
        assert (one.path, one.output, one.shortcut) == (two.path, two.output, two.shortcut)
    a, b = (cnatool.score(store, overrides=by_path) for store in (kept, dump))
    for split in ROWS:
        assert a.splits[split].cna.value == pytest.approx(b.splits[split].cna.value, rel=1e-4)
        assert a.splits[split].beta.mean == pytest.approx(b.splits[split].beta.mean, rel=1e-4)
    for what in ("cna_area", "margin", "cna_margin"):
        assert getattr(a, what).value == pytest.approx(getattr(b, what).value, rel=1e-4)
    if name != "transformer":  # whose attention has kernels of another form
        for what in ("l2", "spectral", "parameter_norm"):
            one, two = (getattr(result.baselines, what) for result in (a, b))
            assert one.value == pytest.approx(two.value, rel=1e-4), what
    assert cnatool.verify(tmp_path / "kept.zarr").faults == ()


def test_statistics_are_those_of_intermediate_models(keras: Any, data: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import record

    model = varied(resnet(keras))
    record(
        model,
        tmp_path / "s.h5",
        batches(data),
        prepare=prepared,
        modules="all",
        statistics="all",
    )
    store = cnatool.open(tmp_path / "s.h5")
    named = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    named += [layer for layer in model.layers if layer.name.endswith("_bn")]
    seen = keras.Model(model.input, [layer.output for layer in named])(prepared(data["train"][0]))
    statistics = store.splits["train"].statistics
    for layer, tensor in zip(named, seen, strict=True):
        values = tensor.numpy().astype(np.float64).reshape(ROWS["train"], -1)
        column = store.tensor(layer.name).number
        for statistic, expected in (
            ("sum", values.sum(1)),
            ("abs_sum", np.abs(values).sum(1)),
            ("square_sum", (values**2).sum(1)),
            ("positive_sum", values.clip(min=0).sum(1)),
            ("nonzero_count", (values != 0).sum(1)),
            ("min", values.min(1)),
            ("max", values.max(1)),
        ):
            off = np.abs(statistics(statistic)[:][:, column] - expected)
            assert (off <= 1e-5 * np.abs(values).sum(1)).all(), (layer.name, statistic)


def test_kernels_of_every_form(keras: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import Recorder

    use = keras.layers
    picture = keras.Input((8, 8, 4))
    x = use.Conv2D(6, 3, groups=2, name="conv", activation="relu")(picture)
    x = use.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise", activation="relu")(x)
    x = use.Conv2DTranspose(5, 2, name="transposed", activation="relu")(x)
    model = keras.Model(picture, use.Dense(3, name="dense")(use.Flatten()(x)))
    with Recorder(model, tmp_path / "s.zarr", weights=True) as recorder:
        recorder.batch("all", np.random.default_rng(0).random((5, 8, 8, 4), np.float32))
    layers = cnatool.open(tmp_path / "s.zarr").record.weights.layers
    for name, layer in zip(("conv", "depthwise", "transposed", "dense"), layers, strict=True):
        kernel = np.array(model.get_layer(name).kernel, np.float64)
        assert layer.frobenius == pytest.approx(np.sqrt((kernel**2).sum()), rel=1e-6)
    conv = np.array(model.get_layer("conv").kernel, np.float64).reshape(-1, 2, 3)
    parts = [np.linalg.norm(conv[:, group], 2) for group in range(2)]
    assert layers[0].spectral == pytest.approx(max(parts), rel=1e-5)
    depthwise = np.array(model.get_layer("depthwise").kernel, np.float64)
    parts = [np.linalg.norm(depthwise[:, :, c].reshape(9, 2), 2) for c in range(6)]
    assert layers[1].spectral == pytest.approx(max(parts), rel=1e-5)


def test_layers_by_name_and_by_type(keras: Any, data: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import record

    model = transformer(keras)
    for number, (modules, expected) in enumerate(
        [
            (["up", "down"], ["up", "down"]),
            (keras.layers.Dense, ["embedding", "up", "down", "head"]),
            ("attention.*_*", ["attention.attention_output"]),
        ]
    ):
        path = tmp_path / f"{number}.zarr"
        record(model, path, batches(data), prepare=prepared, modules=modules)
        names = [layer.linear for layer in cnatool.open(path).layers]
        assert names == expected


def test_a_model_written_as_a_class_in_mixed_precision(
    keras: Any, data: Any, tmp_path: Path
) -> None:
    from cnatool.recorders.keras import Recorder

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(dtype="mixed_float16")
            self.flat = keras.layers.Flatten()
            self.fc1 = keras.layers.Dense(9, activation="relu", name="fc1", dtype="mixed_float16")
            self.fc2 = keras.layers.Dense(5, name="fc2", dtype="float32")

        def call(self, x: Any) -> Any:
            return self.fc2(self.fc1(self.fc1.activation(self.flat(x))))

    model = Net()
    with Recorder(model, tmp_path / "s.zarr", keep="activations") as recorder:
        for raw, labels in batches(data)["train"]:
            outputs = recorder.batch("train", prepared(raw), inputs=raw, labels=labels)
    (output,) = outputs.values()
    np.testing.assert_allclose(output, model(prepared(raw)), rtol=1e-4, atol=1e-5)
    store = cnatool.open(tmp_path / "s.zarr")
    assert [layer.preactivation for layer in store.layers] == ["fc1/MatMul", "fc2"]
    assert store.splits["train"].activations("fc1/MatMul").dtype == np.float16


def test_the_callback(keras: Any, data: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import store_callback

    model = mlp(keras)
    model.compile("sgd", "sparse_categorical_crossentropy")
    probe = batches(data)
    for unit, every, counts in (("epoch", 1, [0, 1, 2]), ("step", 2, [0, 2, 4])):
        folder = tmp_path / unit
        callback = store_callback(
            folder, probe, unit=unit, every=every, prepare=prepared, tags={"a": "b"}, weights=True
        )
        x, y = data["train"]
        model.fit(prepared(x), y, batch_size=40, epochs=2, verbose=0, callbacks=[callback])
        stores = sorted(folder.iterdir())
        tags = [cnatool.open(path).record.tags for path in stores]
        assert [int(tag[unit]) for tag in tags] == counts
        assert {tag["a"] for tag in tags} == {"b"}
        distances = [cnatool.score(path).baselines.distance.value for path in stores]
        assert distances[0] == 0
        assert distances[-1] > 0
        outputs = cnatool.open(stores[-1]).splits["test"].outputs()[:]
        np.testing.assert_allclose(outputs, model(prepared(data["test"][0])), rtol=1e-4, atol=1e-5)


def test_a_training_is_the_same_with_the_callback(keras: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import store_callback

    use, rng = keras.layers, np.random.default_rng(0)
    x, y = rng.random((64, 4), np.float32), rng.integers(0, 3, 64)

    def trained(callbacks: list[Any]) -> Any:
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                use.Dense(8),
                use.BatchNormalization(),
                use.Dropout(0.5),
                use.Dense(3, activation="softmax"),
            ]
        )
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=callbacks)
        return model.get_weights()

    callback = store_callback(tmp_path, {"all": [(x, y)]}, every=2, unit="step", weights=True)
    for one, two in zip(trained([]), trained([callback]), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(list(tmp_path.iterdir())) == 5


def test_several_inputs_and_outputs(keras: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import Recorder

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = keras.layers.Dense(6, name="a"), keras.layers.Dense(3, name="b")

        def call(self, given: Any) -> Any:
            scores = self.b(keras.ops.relu(self.a(given["left"] + given["right"])))
            return {"mean": keras.ops.mean(scores), "scores": scores}

    model, rng = Net(), np.random.default_rng(0)
    given = {name: rng.random((6, 4), np.float32) for name in ("left", "right")}
    with Recorder(model, tmp_path / "s.zarr") as recorder:
        outputs = recorder.batch("all", given)
        with pytest.raises(DataError, match="called with 3 arrays, and with 2 in the first batch"):
            recorder.batch("all", given | {"more": given["left"]})
        with pytest.raises(DataError, match="a batch without samples"):
            recorder.batch("all", {name: array[:0] for name, array in given.items()})
    assert recorder.left_out == {"output mean": "its result has no axis for samples only"}
    store = cnatool.open(tmp_path / "s.zarr")
    assert [one.name for one in store.record.inputs] == ["left", "right"]
    (scores,) = outputs.values()
    np.testing.assert_allclose(scores, model(given)["scores"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(store.splits["all"].outputs(0)[:], scores)


def test_errors(keras: Any, tmp_path: Path) -> None:
    from cnatool.recorders.keras import Recorder

    with pytest.raises(UsageError, match="keep='all': use 'statistics' or 'activations'"):
        Recorder(mlp(keras), tmp_path / "s.zarr", keep="all")
    with (
        pytest.raises(UsageError, match="modules: 'conv' matches no module that runs"),
        Recorder(mlp(keras), tmp_path / "s.zarr", modules="conv") as recorder,
    ):
        recorder.batch("all", np.zeros((3, 8, 8), np.float32))
