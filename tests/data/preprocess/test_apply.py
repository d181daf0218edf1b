from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnatool.backend.inputs import ModelInput
from cnatool.data.preprocess.apply import (
    PreprocessOptions,
    apply_preprocessing,
    plan_preprocessing,
)
from cnatool.data.source import InputSpec
from cnatool.errors import DataError, UsageError

Shape = tuple[int, ...]
Target = tuple[int | None, ...]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def spec(shape: Shape, dtype: str = "u1", layout: Any = None) -> InputSpec:
    return InputSpec("images", np.dtype(dtype), shape, layout)


def model(shape: Target, dtype: str = "f4") -> ModelInput:
    return ModelInput("x", np.dtype(dtype), ("n", *shape))


def run(block: np.ndarray[Any, Any], target: ModelInput, **options: Any) -> np.ndarray[Any, Any]:
    source = InputSpec("images", block.dtype, block.shape[1:], options.pop("known", None))
    made, _ = plan_preprocessing(source, target, PreprocessOptions(**options))
    out = apply_preprocessing(block, made)
    assert out.flags.c_contiguous
    assert out.dtype == target.dtype
    assert out.shape == (len(block), *made.shape)
    return out


# --- arithmetic ---------------------------------------------------------------------------------


def test_every_byte_is_divided_by_255_as_training_code_does() -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    # The correctly rounded quotient; times float32(1/255) would miss it for some bytes.
    exact = (np.arange(256) / 255).astype(np.float32)
    np.testing.assert_array_equal(run(values, model((256,)))[0], exact)
    assert (np.arange(256, dtype=np.float32) * np.float32(1 / 255) != exact).any()


def test_a_scale_multiplies() -> None:
    block = np.array([[1, 2, 250]], np.uint8)
    assert run(block, model((3,)), scale=2.0).tolist() == [[2, 4, 500]]
    assert run(block, model((3,)), scale=-0.5).tolist() == [[-0.5, -1, -125]]
    assert run(block, model((3,)), scale=1.0).tolist() == [[1, 2, 250]]
    np.testing.assert_array_equal(
        run(block, model((3,)), scale=0.3), block.astype(np.float32) * np.float32(0.3)
    )
    np.testing.assert_array_equal(
        run(block.astype(np.uint16), model((3,)), scale=1 / 65535),
        block.astype(np.float32) / np.float32(65535),
    )


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("wanted", ["f2", "f4", "f8"])
def test_others_are_cast_without_a_scale(dtype: str, wanted: str) -> None:
    block = np.array([[0, 1, 100]]).astype(dtype)
    np.testing.assert_array_equal(run(block, model((3,), wanted)), block.astype(wanted))


def test_half_and_double_precision() -> None:
    block = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(run(block, model((256,), "f8"))[0], np.arange(256) / 255)
    half = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float16)
    np.testing.assert_array_equal(run(block, model((256,), "f2"))[0], half)


def test_integers_into_integers_as_is() -> None:
    block = np.array([[0, 127]], np.uint8)
    assert run(block, model((2,), "i8")).tolist() == [[0, 127]]
    assert run(block, model((2,), "i1")).tolist() == [[0, 127]]
    with pytest.raises(DataError, match=r"values from 0 to 128 do not fit input 'x', .* int8"):
        run(block + (block > 0).astype(np.uint8), model((2,), "i1"))
    assert run(block > 0, model((2,), "?")).tolist() == [[False, True]]


def test_nothing_to_do_costs_nothing() -> None:
    block = RNG.random((4, 3, 5)).astype(np.float32)
    out = run(block, model((3, 5)))
    assert np.shares_memory(out, block)


@pytest.mark.parametrize(
    ("source", "wanted", "options", "error", "text"),
    [
        ("f4", "i8", {}, DataError, "float32 would be truncated to int64. Store the data as int64"),
        ("u1", "?", {}, DataError, "uint8 would be truncated to bool"),
        ("u1", "O", {}, DataError, "an input of object cannot be read"),
        ("u1", "i4", {"scale": 2.0}, UsageError, "takes int32, and `scale`, `mean` and `std` are"),
        ("u1", "i4", {"mean": (1.0,)}, UsageError, "leave them out"),
        ("u1", "f4", {"scale": 0.0}, UsageError, "`scale` 0: .* other than 0"),
        ("u1", "f4", {"scale": 1e-320}, UsageError, "`scale` .*: give finite"),
        ("u1", "f4", {"scale": float("nan")}, UsageError, "`scale` nan: give finite"),
        ("u1", "f4", {"mean": (float("inf"),)}, UsageError, "`mean` inf: give finite"),
        ("u1", "f4", {"std": (1.0, 0.0)}, UsageError, "`std` 1 0: .*other than 0"),
        ("u1", "f4", {"std": (float("nan"),)}, UsageError, "`std` nan: give finite"),
        ("u1", "f4", {"layout": "cwh"}, UsageError, "`layout` 'cwh' is not a layout: give TARG"),
        ("u1", "f4", {"layout": "chw->"}, UsageError, "`layout` 'chw->' is not a layout"),
    ],
)
def test_what_cannot_be_meant(
    source: str, wanted: str, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        plan_preprocessing(spec((3,), source), model((3,), wanted), PreprocessOptions(**options))


def test_values_that_do_not_fit_the_float() -> None:
    with pytest.raises(DataError, match="a value does not fit input 'x', which takes float32"):
        run(np.array([[1e300]]), model((1,)))
    with pytest.raises(DataError, match="a value does not fit input 'x', which takes float16"):
        run(np.array([[70000]]), model((1,), "f2"))


def test_a_block_that_was_not_planned_for() -> None:
    made, _ = plan_preprocessing(spec((28, 28)), model((784,)), PreprocessOptions())
    with pytest.raises(
        DataError, match=r"shape \(28, 27\) and dtype uint8 do not match \(28, 28\)"
    ):
        apply_preprocessing(np.zeros((1, 28, 27), np.uint8), made)
    with pytest.raises(DataError, match="dtype float32 do not match"):
        apply_preprocessing(np.zeros((1, 28, 28), np.float32), made)
    assert apply_preprocessing(np.zeros((0, 28, 28), np.uint8), made).shape == (0, 784)


# --- mean and std -------------------------------------------------------------------------------

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
# What a data loader does: divide, subtract, divide, each in single precision, channels last.
NORMAL = (PIXELS / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
FIRST = NORMAL.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("block", "target", "layout", "expected"),
    [
        (PIXELS, (3, 6, 7), None, FIRST),
        (PIXELS, (6, 7, 3), None, NORMAL),
        (PIXELS, (126,), "flat-chw", FIRST.reshape(5, 126)),
        (PIXELS, (126,), "hwc->flat-hwc", NORMAL.reshape(5, 126)),
        (PIXELS.reshape(5, 126), (3, 6, 7), "flat-hwc->chw", FIRST),
        (PIXELS.reshape(5, 126), (6, 7, 3), "flat-hwc->hwc", NORMAL),
        (PIXELS.reshape(5, 126), (126,), "flat-hwc", NORMAL.reshape(5, 126)),
        (PIXELS.transpose(0, 3, 1, 2).copy(), (3, 6, 7), None, FIRST),
        (PIXELS.transpose(0, 3, 1, 2).copy(), (6, 7, 3), None, NORMAL),
        (PIXELS.transpose(0, 3, 1, 2).copy(), (126,), "flat-hwc", NORMAL.reshape(5, 126)),
        (PIXELS.transpose(0, 3, 1, 2).reshape(5, 126), (3, 6, 7), "flat-chw->chw", FIRST),
        (PIXELS.transpose(0, 3, 1, 2).reshape(5, 126), (6, 7, 3), "flat-chw->NHWC", NORMAL),
        (PIXELS.transpose(0, 3, 1, 2).reshape(5, 126), (126,), "flat-chw", FIRST.reshape(5, 126)),
    ],
)
def test_mean_and_std_follow_the_channels(
    block: np.ndarray[Any, Any], target: Target, layout: str | None, expected: Any
) -> None:
    out = run(block, model(target), mean=MEAN, std=STD, layout=layout)
    np.testing.assert_array_equal(out, expected)


def test_one_value_is_for_all() -> None:
    expected = (PIXELS / np.float32(255) - np.float32(0.5)) / np.float32(0.25)
    out = run(PIXELS, model((6, 7, 3)), mean=(0.5,), std=(0.25,))
    np.testing.assert_array_equal(out, expected)
    out = run(PIXELS, model((6, 7, 3)), mean=(0.5,), std=STD)
    np.testing.assert_array_equal(
        out, (PIXELS / np.float32(255) - np.float32(0.5)) / np.float32(STD)
    )
    grey = run(PIXELS[..., 0], model((42,)), mean=(0.5,))
    np.testing.assert_array_equal(grey, PIXELS[..., 0].reshape(5, 42) / np.float32(255) - 0.5)


def test_one_value_a_feature() -> None:
    block = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    out = run(block, model((3,)), mean=(1.0, 2.0, 3.0), std=(1.0, 3.0, 3.0))
    assert out.tolist() == [[0, 0, 0], [3, 1, 1]]


@pytest.mark.parametrize(
    ("shape", "target", "mean", "std", "text"),
    [
        ((6, 7, 3), (3, 6, 7), (1.0, 1.0), (), "`mean` has 2 and `std` 0 values, .* has 3 channel"),
        (
            (6, 7, 3),
            (3, 6, 7),
            (1.0, 1.0, 1.0),
            (1.0, 1.0),
            "`mean` has 3 and `std` 2 values: give",
        ),
        ((28, 28), (784,), (), (1.0, 1.0), "`std` 2 values, and a sample of images has 1 channels"),
        ((28, 28), (1, 28, 28), (1.0, 1.0, 1.0), (), "has 1 channels"),
        (
            (126,),
            (126,),
            (1.0, 1.0, 1.0),
            (),
            "choose `layout=flat-chw->flat-chw` or `layout=flat-hwc->flat-",
        ),
        (
            (9, 9, 9),
            (9, 9, 9),
            (1.0,) * 9,
            (),
            "is ambiguous: choose `layout=chw->chw` or `layout=hwc->hwc`",
        ),
    ],
)
def test_wrong_counts(
    shape: Shape, target: Target, mean: tuple[float, ...], std: tuple[float, ...], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        plan_preprocessing(spec(shape), model(target), PreprocessOptions(mean=mean, std=std))


def test_the_record_alone_says_where_channels_are() -> None:
    made, _ = plan_preprocessing(spec((3, 6, 7)), model((3, 6, 7)), PreprocessOptions(mean=MEAN))
    assert made.layout == "chw->chw"
    block = np.full((1, 9, 9, 9), 255, np.uint8)
    mean = tuple(float(i) for i in range(9))
    first = run(block, model((9, 9, 9)), mean=mean, layout="chw->chw")
    assert first[0, :, 0, 0].tolist() == [1 - i for i in range(9)]
    last = run(block, model((9, 9, 9)), mean=mean, layout="hwc->hwc")
    assert last[0, 0, 0, :].tolist() == [1 - i for i in range(9)]


# --- what the user is told ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "options", "note"),
    [
        (
            spec((28, 28)),
            model((784,)),
            {},
            "images (28, 28) uint8 -> input 'x' (784,) float32: flattened, divided by 255",
        ),
        (
            spec((6, 7, 3)),
            model((3, None, None)),
            {},
            "images (6, 7, 3) uint8 -> input 'x' (3, 6, 7) float32: arranged hwc->chw, "
            "divided by 255",
        ),
        (
            spec((28, 28), "f8"),
            model((1, 28, 28)),
            {},
            "images (28, 28) float64 -> input 'x' (1, 28, 28) float32: reshaped, cast to float32",
        ),
        (
            spec((4,), "f4"),
            model((4,)),
            {},
            "images (4,) float32 -> input 'x' (4,) float32: as it is",
        ),
        (
            spec((4,), "u1"),
            model((4,)),
            {"scale": 0.1},
            "images (4,) uint8 -> input 'x' (4,) float32: times 0.1",
        ),
        (
            spec((6, 7, 3)),
            model((3, 6, 7)),
            {"layout": "chw", "mean": (0.5,), "std": (0.1, 0.2, 0.3)},
            "images (6, 7, 3) uint8 -> input 'x' (3, 6, 7) float32: arranged hwc->chw, "
            "divided by 255, minus 0.5, over 0.1 0.2 0.3",
        ),
    ],
)
def test_note(source: InputSpec, target: ModelInput, options: dict[str, Any], note: str) -> None:
    assert plan_preprocessing(source, target, PreprocessOptions(**options))[1] == note


def test_record() -> None:
    made, _ = plan_preprocessing(
        spec((6, 7, 3)), model((3, 6, 7)), PreprocessOptions(mean=MEAN, std=STD)
    )
    assert made.input == "x"
    assert (made.source_dtype, made.source_shape) == ("uint8", (6, 7, 3))
    assert (made.dtype, made.shape, made.layout) == ("float32", (3, 6, 7), "hwc->chw")
    assert (made.scale, made.mean, made.std) == (1 / 255, MEAN, STD)
