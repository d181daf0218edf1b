"""The numbers of a score as columns: what is undefined has its reason."""

from __future__ import annotations

from pathlib import Path

from support.parts import Parts

import cnatool
from cnatool.studying.columns import list_measures


def test_a_split_without_samples_has_no_mean(tmp_path: Path) -> None:
    part = Parts(tmp_path).dump("p.zarr", part=(1, 3))
    assert not len(part.splits["test"])
    reasons = {name: reason for name, _, reason in list_measures(cnatool.score(part))}
    for measure in ("alpha", "beta"):
        for number in ("mean", "std"):
            assert reasons[f"test.{measure}.{number}"] == "no samples"
            assert reasons[f"train.{measure}.{number}"] is None
