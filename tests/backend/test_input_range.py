"""Models that rescale or normalise their input themselves are fed what they are made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.dumping.inspect import inspect_model
from cnatool.dumping.options import DumpOptions
from cnatool.dumping.preview import preview

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)


def chw(values: np.ndarray) -> np.ndarray:
    return values.reshape(3, 1, 1)


def convnet(b: Builder, tensor: str) -> None:
    b.node("Relu", [b.conv(tensor, "conv1", 3, 4, 3, bias=True)], "relu1")
    b.node("Relu", [b.conv("relu1", "conv2", 4, 4, 3, bias=True)], "relu2")
    b.node("Flatten", [b.node("GlobalAveragePool", ["relu2"], "pooled")], "flat")
    b.gemm("flat", "logits", 4, 5)


def binary(b: Builder, operator: str, tensor: str, value: object, name: str) -> str:
    b.constant(f"{name}.value", np.asarray(value, np.float32))
    return b.node(operator, [tensor, f"{name}.value"], name)


def keras(b: Builder) -> str:
    return b.node("Transpose", [binary(b, "Mul", "x", 1 / 255, "s")], "t", perm=[0, 3, 1, 2])


def keras_with_offset(b: Builder) -> str:
    scaled = binary(b, "Add", binary(b, "Mul", "x", 1 / 127.5, "s"), -1.0, "o")
    return b.node("Transpose", [scaled], "t", perm=[0, 3, 1, 2])


def keras_normalization(b: Builder) -> str:
    scaled = binary(b, "Div", binary(b, "Sub", "x", MEAN, "s"), DEVIATION, "o")
    return b.node("Transpose", [scaled], "t", perm=[0, 3, 1, 2])


def divided(b: Builder) -> str:
    return binary(b, "Div", "x", 255, "s")


def centred(b: Builder) -> str:
    return binary(b, "Div", binary(b, "Sub", "x", 127.5, "m"), 127.5, "s")


def caffe(b: Builder) -> str:
    """The mean alone, and channels from RGB to BGR."""
    b.constant("order", np.array([2, 1, 0]))
    swapped = b.node("Gather", ["x", "order"], "bgr", axis=1)
    return binary(b, "Sub", swapped, chw(MEAN[::-1]), "m")


def torchvision(b: Builder) -> str:
    scaled = binary(b, "Div", "x", 255, "s")
    return binary(
        b, "Div", binary(b, "Sub", scaled, chw(MEAN / 255), "m"), chw(DEVIATION / 255), "d"
    )


def normalised(b: Builder) -> str:
    return binary(b, "Div", binary(b, "Sub", "x", chw(MEAN), "m"), chw(DEVIATION), "d")


def batch_norm(b: Builder) -> str:
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    names = [
        b.constant(name, value)
        for name, value in (("g", ones), ("b", zeros), ("m", MEAN), ("v", DEVIATION**2))
    ]
    return b.node("BatchNormalization", ["x", *names], "bn")


def pointwise(b: Builder) -> str:
    b.constant("k", np.diag(1 / DEVIATION).reshape(3, 3, 1, 1))
    b.constant("kb", -MEAN / DEVIATION)
    return b.node("Conv", ["x", "k", "kb"], "normal")


def depthwise(b: Builder) -> str:
    b.constant("k", (1 / DEVIATION).reshape(3, 1, 1, 1))
    b.constant("kb", -MEAN / DEVIATION)
    return b.node("Conv", ["x", "k", "kb"], "normal", group=3)


def resized(b: Builder) -> str:
    b.constant("sizes", np.array([1, 1, 2, 2], np.float32))
    larger = b.node("Resize", ["x", "", "sizes"], "larger", mode="nearest")
    return binary(b, "Mul", larger, 0.0078125, "s")


def half(b: Builder) -> str:
    scaled = binary(b, "Div", "x", 255, "s")
    halved = b.node("Cast", [scaled], "h", to=TensorProto.FLOAT16)
    return b.node("Cast", [halved], "f", to=TensorProto.FLOAT)


def clipped(b: Builder) -> str:
    b.constant("low", np.float32(0))
    b.constant("high", np.float32(255))
    return binary(b, "Div", b.node("Clip", ["x", "low", "high"], "c"), 255, "s")


def codes(b: Builder) -> str:
    b.constant("step", np.float32(1))
    b.constant("zero", np.uint8(0))
    quantised = b.node("QuantizeLinear", ["x", "step", "zero"], "q")
    return binary(b, "Div", b.node("DequantizeLinear", [quantised, "step", "zero"], "dq"), 255, "s")


def plain(b: Builder) -> str:
    return "x"


def imagenet_unit(b: Builder) -> str:
    mean, deviation = chw(MEAN / 255), chw(DEVIATION / 255)
    return binary(b, "Div", binary(b, "Sub", "x", mean, "m"), deviation, "d")


def doubled(b: Builder) -> str:
    return binary(b, "Sub", binary(b, "Mul", "x", 2, "s"), 1, "m")


def times_255(b: Builder) -> str:
    return binary(b, "Sub", binary(b, "Mul", "x", 255, "s"), chw(MEAN), "m")


PIXELS = [
    keras,
    keras_with_offset,
    keras_normalization,
    divided,
    centred,
    caffe,
    torchvision,
    normalised,
    batch_norm,
    pointwise,
    depthwise,
    resized,
    half,
    clipped,
    codes,
]
UNIT = [plain, imagenet_unit, doubled, times_255]


def build(first: Callable[[Builder], str], batch: int | str = "n") -> onnx.ModelProto:
    b = Builder(3)
    convnet(b, first(b))
    shape = (batch, 8, 8, 3) if first.__name__.startswith("keras") else (batch, 3, 8, 8)
    return b.model({"x": shape}, {"logits": (batch, 5)}, opset=17)


def pictures(first: Callable[[Builder], str], rows: int = 6) -> np.ndarray:
    shape = (rows, 8, 8, 3) if first.__name__.startswith("keras") else (rows, 3, 8, 8)
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[0]
    size = size if isinstance(size, int) else 1
    parts = np.split(x, len(x) // size)
    return np.concatenate([session.run(["logits"], {"x": part})[0] for part in parts])


def dumped(folder: Path, model: onnx.ModelProto, x: np.ndarray, **options: object) -> tuple:
    np.savez(folder / "data.npz", x=x)
    notes = Notes()
    path = folder / "s.zarr"
    cnatool.dump(
        saved(model, folder / "m.onnx"), folder / "data.npz", path, observer=notes, **options
    )
    return cnatool.open(path).splits["all"].outputs()[:], "\n".join(notes.texts)


@pytest.mark.parametrize(
    ("first", "batch"),
    [(first, "n") for first in PIXELS] + [(keras, 1), (centred, 1), (batch_norm, 2)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_pixels_are_not_divided_for_a_model_that_does(
    tmp_path: Path, first: Callable[[Builder], str], batch: int | str
) -> None:
    model, x = build(first, batch), pictures(first)
    found, notes = dumped(tmp_path, model, x)
    np.testing.assert_allclose(found, outputs(model, x.astype(np.float32)), 1e-4, 1e-4)
    assert "not divided by 255, since the model itself" in notes
    assert "`scale=1/255`" in notes


@pytest.mark.parametrize("first", UNIT, ids=lambda f: f.__name__)
def test_pixels_are_divided_for_a_model_that_takes_values_up_to_1(
    tmp_path: Path, first: Callable[[Builder], str]
) -> None:
    model, x = build(first), pictures(first)
    found, notes = dumped(tmp_path, model, x)
    np.testing.assert_allclose(found, outputs(model, (x / 255).astype(np.float32)), 1e-4, 1e-4)
    assert "divided by 255" in notes
    assert "doubt" not in notes
    assert "the model" not in notes.partition("\nsplit")[0]


def test_a_scale_that_the_user_gives_holds_and_is_doubted(tmp_path: Path) -> None:
    model, x = build(divided), pictures(divided)
    found, notes = dumped(tmp_path, model, x, scale=1 / 255)
    np.testing.assert_allclose(found, outputs(model, (x / 255).astype(np.float32)), 1e-4, 1e-4)
    assert "but the model itself divides by 255 first, as for values from 0 to 255" in notes
    assert "pass `scale=1`" in notes


def test_floats_up_to_1_are_doubted_where_the_model_divides(tmp_path: Path) -> None:
    model, x = build(keras), (pictures(keras) / 255).astype(np.float32)
    found, notes = dumped(tmp_path, model, x)
    np.testing.assert_allclose(found, outputs(model, x), 1e-4, 1e-4)
    assert "pass `scale=255`" in notes
    # The advice makes it right.
    (tmp_path / "again").mkdir()
    found, notes = dumped(tmp_path / "again", model, x, scale=255.0)
    np.testing.assert_allclose(found, outputs(model, x * np.float32(255)), 1e-4, 1e-4)
    assert "`scale" not in notes


def test_floats_up_to_255_are_doubted_where_the_model_takes_less(tmp_path: Path) -> None:
    model, x = build(imagenet_unit), pictures(imagenet_unit).astype(np.float32)
    _, notes = dumped(tmp_path, model, x)
    assert "pass `scale=1/255`" in notes
    assert "subtracts 0.406 to 0.485" in notes


def test_floats_up_to_255_are_right_for_a_model_that_divides(tmp_path: Path) -> None:
    model, x = build(divided), pictures(divided).astype(np.float32)
    found, notes = dumped(tmp_path, model, x)
    np.testing.assert_allclose(found, outputs(model, x), 1e-4, 1e-4)
    assert "`scale" not in notes


def test_what_tells_neither_is_said(tmp_path: Path) -> None:
    def third(b: Builder) -> str:
        return binary(b, "Div", "x", 3, "s")

    model, x = build(third), pictures(third)
    found, notes = dumped(tmp_path, model, x)
    np.testing.assert_allclose(found, outputs(model, (x / 255).astype(np.float32)), 1e-4, 1e-4)
    assert "in doubt, since the model itself divides by 3 first: `scale=1` " in notes


def test_inspect_and_preview_say_what_the_model_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(build(torchvision), tmp_path / "m.onnx")
    np.savez(tmp_path / "data.npz", x=pictures(torchvision))
    found = inspect_model(path, (3, 8, 8)).ranges["x"]
    assert found.expects == "pixels"
    assert str(found) == (
        "itself subtracts 103.5 to 123.7 and divides by 57.12 to 58.4 first, as for values from 0 "
        "to 255"
    )
    shown = preview(path, tmp_path / "data.npz", DumpOptions())
    assert "not divided by 255, since the model itself subtracts" in shown.notes[0]
    assert shown.values["x"].max() > 200
