"""Splits by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stores import write_store

import cnatool
from cnatool.errors import MissingSplitError


def test_a_missing_split_is_an_error_that_lists_the_others(tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr")
    splits = cnatool.open(tmp_path / "s.zarr").splits
    with pytest.raises(MissingSplitError) as caught:
        splits["val"]
    assert str(caught.value) == f"{tmp_path / 's.zarr'}: no split 'val'; it has train."
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, cnatool.MetricError)
    assert "val" not in splits
    assert splits.get("val") is None
