"""Rows of varying length in memory: what they are made of, and which are selected."""

from __future__ import annotations

import numpy as np
import pytest

from cnatool.records.ragged import Ragged
from cnatool.store.shared_inputs import compare_rows


@pytest.mark.parametrize(
    "lengths", [[1.5, 2.5], [[1, 2]], [np.nan, 3], ["1", "2"], [4, -1], [3, 1]]
)
def test_lengths_that_do_not_divide_the_values_are_refused(lengths: object) -> None:
    with pytest.raises(ValueError, match="whole numbers along one axis|do not ascend"):
        Ragged.from_lengths(np.arange(3.0), lengths)  # type: ignore[arg-type]


@pytest.mark.parametrize("offsets", [[0, 1.7, 3], [0, 2, 1, 3], [1, 3], [], [0, 4], 3])
def test_offsets_that_do_not_divide_the_values_are_refused(offsets: object) -> None:
    with pytest.raises(ValueError, match="offsets"):
        Ragged(np.arange(3.0), offsets)  # type: ignore[arg-type]


def test_whole_numbers_of_any_type_are_lengths() -> None:
    for dtype in (np.uint8, np.float32, np.int64):
        rows = Ragged.from_lengths(np.arange(3.0), np.array([1, 0, 2], dtype))
        assert rows.offsets.tolist() == [0, 1, 1, 3]
        assert rows.offsets.dtype == np.int64
    assert len(Ragged.from_lengths(np.zeros((0, 4)), [])) == 0


@pytest.mark.parametrize(
    ("index", "lengths"),
    [
        (slice(1, 3), [0, 2]),
        (slice(None, None, -1), [4, 2, 0, 1]),
        (slice(3, 1), []),
        ([2, 0, 2], [2, 1, 2]),
        ([], []),
        ([-1], [4]),
        (np.array([True, False, False, True]), [1, 4]),
    ],
)
def test_samples_are_selected_as_those_of_a_list(index: object, lengths: list[int]) -> None:
    samples = [np.full((size, 2), size) for size in (1, 0, 2, 4)]
    chosen = Ragged.join(samples)[index]  # type: ignore[call-overload]
    assert [len(sample) for sample in chosen] == lengths
    assert all((sample == len(sample)).all() for sample in chosen)


@pytest.mark.parametrize("index", [[[0, 1]], [4], [0.0], [True, False]])
def test_what_selects_no_samples_is_an_index_error(index: object) -> None:
    with pytest.raises(IndexError):
        Ragged.join([np.zeros(2), np.zeros(1), np.zeros(0), np.zeros(3)])[index]  # type: ignore[call-overload]


def test_samples_without_elements_differ_by_length() -> None:
    rows = [Ragged.from_lengths(np.zeros((3, 0)), lengths) for lengths in ([1, 2], [2, 1])]
    assert compare_rows(*rows).tolist() == [True, True]
