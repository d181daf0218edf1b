from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from cnatool.store.zarr.metadata import ArrayLayout, parse_array


def layout(level: int) -> ArrayLayout:
    return ArrayLayout((100, 4), np.dtype("float32"), 10, "lz4", ("row", "x"), 10, level=level)


@pytest.mark.parametrize("level", range(10))
def test_the_level_of_blosc_is_read(level: int) -> None:
    assert parse_array(layout(level).json()) == layout(level)


def test_attributes_of_any_program_stay() -> None:
    attributes = {"long_name": "/conv1/Conv", "units": {"more": [1, None]}}
    named = dataclasses.replace(layout(5), attributes=attributes)
    assert parse_array(named.json()) == named
    metadata = json.loads(named.json())
    assert metadata["attributes"] == attributes
    del metadata["attributes"]
    assert parse_array(json.dumps(metadata).encode()) == layout(5)


@pytest.mark.parametrize("level", [-1, 10, 5.0, "5", True, None, [5]])
def test_arrays_with_a_level_that_blosc_lacks_are_not_ours(level: Any) -> None:
    metadata = json.loads(layout(5).json())
    (compressor,) = (
        codec
        for codec in metadata["codecs"][0]["configuration"]["codecs"]
        if codec["name"] == "blosc"
    )
    compressor["configuration"]["clevel"] = level
    assert parse_array(json.dumps(metadata).encode()) is None
