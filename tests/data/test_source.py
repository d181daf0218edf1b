from __future__ import annotations

import numpy as np
import pytest

from cnatool._util.text import printable
from cnatool.data.file_names import IMAGES
from cnatool.data.source import check_sample, row_ranges
from cnatool.errors import DataError, UsageError


def test_spans_cover_the_rows_and_stop_at_the_limit() -> None:
    assert list(row_ranges(10, 4, None)) == [(0, 4), (4, 8), (8, 10)]
    assert list(row_ranges(10, 4, 6)) == [(0, 4), (4, 6)]
    assert list(row_ranges(10, 4, 99)) == [(0, 4), (4, 8), (8, 10)]
    assert list(row_ranges(10, 4, 0)) == []
    assert list(row_ranges(10, 4, None, 3)) == [(3, 7), (7, 10)]
    assert list(row_ranges(10, 4, 5, 3)) == [(3, 7), (7, 8)]
    assert list(row_ranges(10, 4, None, 10)) == []


def test_spans_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="blocks of 0 samples cannot be read: ask for at least 1"):
        list(row_ranges(10, 0, None))
    with pytest.raises(UsageError, match="a limit of -1 samples is negative"):
        list(row_ranges(10, 1, -1))


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", ">f4", "f8"])
def test_plain_numbers_pass(dtype: str) -> None:
    check_sample("f", np.dtype(dtype), (3,))


@pytest.mark.parametrize("dtype", ["c8", "U3", "S3", "M8[s]", "m8[s]", "V2", [("a", "f4")]])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(DataError, match=r"^f has dtype .* is not supported: save (it as|numbers)"):
        check_sample("f", np.dtype(dtype), (3,))


def test_objects_empty_and_huge_samples_are_refused() -> None:
    with pytest.raises(DataError, match="never unpickled: save it as a numeric array"):
        check_sample("f", np.dtype(object), ())
    with pytest.raises(DataError, match=r"shape \(3, 0\), which hold no value"):
        check_sample("f", np.dtype("u1"), (3, 0))
    with pytest.raises(DataError, match="the limit is 1073741824"):
        check_sample("f", np.dtype("f4"), (2**28 + 1,))
    check_sample("f", np.dtype("f4"), (2**28,))


def test_names() -> None:
    assert printable("a b") == "a b"
    assert printable("a\x1b[31m") == r"'a\x1b[31m'"
    assert IMAGES.matches("a.PNG")
    assert not IMAGES.matches("a.txt")
