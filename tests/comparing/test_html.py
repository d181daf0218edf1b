"""What notebooks show of a comparison are its numbers and its verdict."""

from __future__ import annotations

from pathlib import Path

import msgspec
from support.markup import EVIL, shown
from support.recorded import record_network

import cnatool


def test_a_comparison(tmp_path: Path) -> None:
    record_network(tmp_path / "a.zarr", {"train": 60, "test": 40})
    record_network(tmp_path / "b.zarr", {"train": 60, "test": 20})
    same = cnatool.compare(tmp_path / "a.zarr", tmp_path / "a.zarr")
    assert "are the same" in shown(same).text
    assert repr(same).endswith("the same within 0.0001>")
    other = cnatool.compare(tmp_path / "a.zarr", tmp_path / "b.zarr")
    page = shown(other)
    assert "are not the same" in page.text
    scores, *tensors = page.tables
    assert [row[0] for row in scores[1:]] == [score.name for score in other.scores]
    assert len(tensors) == len(other.splits)
    names = [tensor.name for tensor in other.splits["train"].tensors]
    assert [row[1] for row in tensors[0][1:]] == names
    evil = msgspec.structs.replace(other, store=EVIL, differences=(EVIL,), largest_of=EVIL)
    assert shown(evil).text.count(EVIL) == 3
