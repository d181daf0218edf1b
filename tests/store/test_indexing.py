"""Indexing a stored array gives what NumPy gives of the whole array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support.dumps import commit_often, make_data

import cnatool
from cnatool.store.indexing import RowReader, index_rows


def reader(whole: np.ndarray[Any, Any], step: int = 3) -> RowReader:
    return RowReader(whole.shape, whole.dtype, lambda first, last: whole[first:last].copy(), step)


def same(whole: np.ndarray[Any, Any], index: Any, step: int = 3) -> None:
    try:
        expected = whole[index]
    except IndexError:
        with pytest.raises(IndexError):
            index_rows(reader(whole, step), index)
        return
    found = index_rows(reader(whole, step), index)
    assert type(found) is type(expected)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


def counted(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape)).reshape(shape)


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), shape=SHAPES, step=st.integers(1, 9))
def test_basic_indices(data: st.DataObject, shape: tuple[int, ...], step: int) -> None:
    index = data.draw(arrays.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    same(counted(shape), index, step)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), shape=SHAPES, step=st.integers(1, 9))
def test_arrays_of_rows(data: st.DataObject, shape: tuple[int, ...], step: int) -> None:
    rows = shape[0]
    one = st.integers(-rows - 1, rows)
    index: Any = data.draw(
        st.one_of(
            st.lists(one, max_size=12),
            arrays.arrays(np.int64, arrays.array_shapes(max_dims=3, max_side=4), elements=one),
            arrays.arrays(bool, rows),
            arrays.arrays(bool, shape),
            arrays.arrays(bool, rows + 1),
        )
    )
    same(counted(shape), index, step)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), step=st.integers(1, 9))
def test_arrays_beside_other_indices(data: st.DataObject, step: int) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6))
    common = st.integers(0, min(shape) - 1)
    many = st.lists(common, min_size=2, max_size=2)
    part = st.one_of(common, many, st.just(slice(None)), st.slices(min(shape)), st.none())
    index = tuple(data.draw(st.lists(part, min_size=1, max_size=len(shape))))
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(index)))
        index = (*index[:place], ..., *index[place:])
    same(counted(shape), index, step)


@pytest.mark.parametrize(
    "index",
    [(), ..., [], [[]], True, False, np.array(2), np.int8(-1), np.uint8([3, 3, 0]), (..., None)],
)
def test_indices_that_are_easily_forgotten(index: Any) -> None:
    same(counted((5, 3)), index)
    same(counted((5,)), index)


@pytest.mark.parametrize("index", [1.0, "a", [0.5], np.zeros(2), (..., ...), (0, 0, 0), 5, -6])
def test_what_is_no_index_is_refused_as_by_numpy(index: Any) -> None:
    with pytest.raises(IndexError):
        counted((5, 3))[index]
    with pytest.raises(IndexError):
        index_rows(reader(counted((5, 3))), index)


def test_memory_is_that_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = counted((1000, 4))
    reads = []

    def read(first: int, last: int) -> np.ndarray[Any, Any]:
        reads.append(last - first)
        return whole[first:last]

    array = RowReader(whole.shape, whole.dtype, read, 10)
    np.testing.assert_array_equal(index_rows(array, [999, 0, 999]), whole[[999, 0, 999]])
    assert reads == [1, 1]
    reads.clear()
    np.testing.assert_array_equal(index_rows(array, (slice(None), 2)), whole[:, 2])
    np.testing.assert_array_equal(index_rows(array, np.s_[::-7]), whole[::-7])
    assert max(reads) <= 10


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_in_several_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    commit_often(monkeypatch)
    make_data(tmp_path, 150, 20)
    path = tmp_path / f"s{suffix}"
    cnatool.dump(tmp_path / "net.onnx", tmp_path / "data", path)
    split = cnatool.open(path).splits["train"]
    labels = split.labels
    assert labels is not None
    acts = split.activations("relu1")
    whole = acts[:]
    np.testing.assert_array_equal(acts[labels[:] == 3], whole[labels[:] == 3])
    np.testing.assert_array_equal(acts[[140, 3, 3, -1]], whole[[140, 3, 3, -1]])
    np.testing.assert_array_equal(acts[5:140:9, [1, 0]], whole[5:140:9, [1, 0]])
    assert split.ids[[149, 0]].tolist() == [split.ids[:][149], split.ids[:][0]]
