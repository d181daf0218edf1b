from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def spec(shape: Shape, dtype: str = "u1", layout: Any = None) -> InputSpec:
    return InputSpec("images", np.dtype(dtype), shape, layout)


def model(shape: Target) -> ModelInput:
    return ModelInput("x", np.dtype("f4"), ("n", *shape))


@pytest.mark.parametrize(
    ("shape", "known", "target", "made", "layout"),
    [
        ((28, 28), None, (28, 28), (28, 28), "as is"),
        ((28, 28), None, (None, None), (28, 28), "as is"),
        ((28, 28), None, (784,), (784,), "reshape"),
        ((28, 28), None, (None,), (784,), "reshape"),
        ((28, 28), None, (1, 784), (1, 784), "reshape"),
        ((28, 28), None, (1, 28, 28), (1, 28, 28), "reshape"),
        ((28, 28), None, (28, 28, 1), (28, 28, 1), "reshape"),
        ((28, 28), None, (1, None, None), (1, 28, 28), "reshape"),
        ((28, 28), None, (None, None, 1), (28, 28, 1), "reshape"),
        ((28, 28, 1), None, (1, 28, 28), (1, 28, 28), "reshape"),
        ((1, 28, 28), None, (28, 28, 1), (28, 28, 1), "reshape"),
        ((1, 28, 28), None, (28, 28), (28, 28), "reshape"),
        ((1, 4, 4), None, (16,), (16,), "reshape"),
        ((784,), None, (1, 28, 28), (1, 28, 28), "reshape"),
        ((784,), None, (28, 28), (28, 28), "reshape"),
        ((784,), None, (1, 28, None), (1, 28, 28), "reshape"),
        ((784,), None, (None,), (784,), "as is"),
        ((), None, (1,), (1,), "reshape"),
        ((), None, (), (), "as is"),
        ((3, 32, 32), None, (3, 32, 32), (3, 32, 32), "as is"),
        ((3, 32, 32), None, (3, None, None), (3, 32, 32), "as is"),
        ((32, 32, 3), "hwc", (3, 32, 32), (3, 32, 32), "hwc->chw"),
        ((32, 32, 3), None, (3, 32, 32), (3, 32, 32), "hwc->chw"),
        ((32, 32, 3), None, (3, None, None), (3, 32, 32), "hwc->chw"),
        ((64, 64, 13), None, (13, 64, 64), (13, 64, 64), "hwc->chw"),
        ((3, 32, 32), None, (None, None, 3), (32, 32, 3), "chw->hwc"),
        ((32, 32, 3), "hwc", (32, 32, 3), (32, 32, 3), "as is"),
        ((10, 10, 10), None, (10, 10, 10), (10, 10, 10), "as is"),
        ((2, 3, 4, 5), None, (2, 3, 4, 5), (2, 3, 4, 5), "as is"),
        ((7, 5), None, (7, 5), (7, 5), "as is"),
    ],
)
def test_what_is_certain(
    shape: Shape, known: str | None, target: Target, made: Shape, layout: str
) -> None:
    got, _ = plan_preprocessing(spec(shape, layout=known), model(target), PreprocessOptions())
    assert (got.shape, got.layout) == (made, layout)
    block = RNG.integers(0, 256, (2, *shape), dtype=np.uint8)
    axes = {"hwc->chw": (0, 3, 1, 2), "chw->hwc": (0, 2, 3, 1)}.get(layout)
    expected = (block.transpose(axes) if axes else block).reshape(2, *made) / np.float32(255)
    np.testing.assert_array_equal(apply_preprocessing(block, got), expected)


@pytest.mark.parametrize(
    ("shape", "known", "target", "ways"),
    [
        ((32, 32, 3), "hwc", (3072,), ["hwc->flat-chw", "hwc->flat-hwc"]),
        ((32, 32, 3), None, (3072,), ["hwc->flat-chw", "hwc->flat-hwc"]),
        ((3, 32, 32), None, (None,), ["chw->flat-chw", "chw->flat-hwc"]),
        ((32, 32, 3), None, (1, 3072), ["hwc->flat-chw", "hwc->flat-hwc"]),
        ((3072,), None, (3, 32, 32), ["flat-chw->chw", "flat-hwc->chw"]),
        ((3072,), None, (32, None, 3), ["flat-chw->hwc", "flat-hwc->hwc"]),
        ((28, 28), None, (None, None, None), ["chw", "hwc"]),
        ((1, 28, 28), None, (None, None, None), ["chw->chw", "chw->hwc"]),
        ((32, 32, 3), "hwc", (None, None, None), ["hwc->chw", "hwc->hwc"]),
        ((3, 3, 3), "hwc", (3, 3, 3), ["hwc->chw", "hwc->hwc"]),
        ((3, 3, 3), None, (3, 3, 3), ["chw->chw", "chw->hwc", "hwc->chw"]),
    ],
)
def test_what_is_in_doubt_names_the_ways_out(
    shape: Shape, known: str | None, target: Target, ways: list[str]
) -> None:
    with pytest.raises(DataError, match="the order of its elements is ambiguous") as caught:
        plan_preprocessing(spec(shape, layout=known), model(target), PreprocessOptions())
    said = str(caught.value)
    assert str(shape) in said
    assert sorted(said.split("Choose ")[1].rstrip(".").split(" or ")) == [
        f"`layout={way}`" for way in ways
    ]
    results = set()
    for way in ways:
        made, note = plan_preprocessing(
            spec(shape, layout=known), model(target), PreprocessOptions(layout=way)
        )
        block = np.arange(np.prod(shape), dtype=np.uint8).reshape(1, *shape)
        results.add((made.shape, apply_preprocessing(block, made).tobytes()))
        assert "arranged" not in note or way.split("->")[0][-3:] != way[-3:]
    assert len(results) == len(ways)


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((32, 32), (1, 28, 28)),
        ((32, 32, 3), (3, 28, 28)),
        ((784,), (1, 28, 27)),
        ((28, 28), (3, 28, 28)),
        ((784,), (None, 27, 1)),
        ((28, 28), (14, 56)),
        ((4,), ()),
    ],
)
def test_what_does_not_fit(shape: Shape, target: Target) -> None:
    with pytest.raises(DataError, match=r"no layout converts one to the other\. ") as caught:
        plan_preprocessing(spec(shape), model(target), PreprocessOptions())
    assert str(shape) in str(caught.value)
    assert str(target).replace("None", "?") in str(caught.value)


def test_doubt_that_no_layout_settles() -> None:
    with pytest.raises(DataError, match=r"order of its axes is ambiguous\. Export"):
        plan_preprocessing(spec((5,)), model((None, None)), PreprocessOptions())
    with pytest.raises(DataError, match="order of its axes is ambiguous"):
        plan_preprocessing(spec((784,)), model((None, None, 1)), PreprocessOptions())


@pytest.mark.parametrize(
    ("shape", "target", "asked", "layout"),
    [
        ((32, 32, 3), (3, 32, 32), "NCHW", "hwc->chw"),
        ((32, 32, 3), (3, 32, 32), " HWC -> CHW ", "hwc->chw"),
        ((32, 32, 3), (3072,), "flat", "reshape"),
        ((3072,), (3, 32, 32), "flat->chw", "reshape"),
        ((3072,), (3, 32, 32), "flat-hwc->chw", "flat-hwc->chw"),
        ((32, 32, 3), (3072,), "flat-hwc", "hwc->flat-hwc"),
        ((32, 32, 3), (3072,), "flat-chw", "hwc->flat-chw"),
        ((28, 28), (784,), "flat-chw", "reshape"),
        ((9, 9, 9), (9, 9, 9), "hwc->chw", "hwc->chw"),
    ],
)
def test_layout_settles(shape: Shape, target: Target, asked: str, layout: str) -> None:
    made, _ = plan_preprocessing(spec(shape), model(target), PreprocessOptions(layout=asked))
    assert (made.layout, len(made.shape)) == (layout, len(target))


@pytest.mark.parametrize(
    ("shape", "target", "asked"),
    [
        ((32, 32, 3), (3, 32, 32), "hwc"),
        ((32, 32, 3), (3, 32, 32), "chw->hwc"),
        ((28, 28), (784,), "chw"),
        ((2, 3, 4, 5), (120,), "flat-chw"),
    ],
)
def test_layout_that_does_not_lead_there(shape: Shape, target: Target, asked: str) -> None:
    with pytest.raises(UsageError, match=f"`layout={asked}` does not convert one to the other"):
        plan_preprocessing(spec(shape), model(target), PreprocessOptions(layout=asked))


def test_a_target_alone_can_leave_doubt() -> None:
    with pytest.raises(DataError, match="`layout=flat-chw->chw` or `layout=flat-hwc->chw`"):
        plan_preprocessing(spec((3072,)), model((3, 32, 32)), PreprocessOptions(layout="chw"))


@settings(deadline=None)
@given(
    dims=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    rows=st.integers(1, 4),
    source=st.sampled_from(["chw", "hwc", "flat-chw", "flat-hwc"]),
    target=st.sampled_from(["chw", "hwc", "flat-chw", "flat-hwc"]),
)
def test_named_arrangements_put_each_pixel_where_it_belongs(
    dims: tuple[int, int, int], rows: int, source: str, target: str
) -> None:
    c, h, w = dims
    first = np.arange(rows * c * h * w, dtype=np.float32).reshape(rows, c, h, w)
    views = {"chw": first, "hwc": np.moveaxis(first, 1, 3)}
    block = np.ascontiguousarray(views[source[-3:]])
    expected = np.ascontiguousarray(views[target[-3:]])
    block = block.reshape(rows, -1) if source.startswith("flat") else block
    expected = expected.reshape(rows, -1) if target.startswith("flat") else expected
    if source.startswith("flat") and target.startswith("flat") and source != target:
        return  # how many channels there are is not known
    options = PreprocessOptions(layout=f"{source}->{target}")
    made, _ = plan_preprocessing(spec(block.shape[1:], "f4"), model(expected.shape[1:]), options)
    out = apply_preprocessing(block, made)
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, expected)
