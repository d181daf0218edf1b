"""Dumps that replace a store and are killed at any of their steps: one of the two is whole."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from support.dumps import make_data
from support.steps import ended_at_step, in_process, steps

import cnatool
from cnatool.errors import CnatoolError

# One in so many steps of a replacement is tried; 1 is every one.
STRIDE = int(os.environ.get("CNATOOL_STEPS", "61"))


def dump_over(place: str, form: str, resumes: str) -> None:
    """Kill a dump that replaces another store at each stride-th of its steps."""
    folder = Path(place)
    store = folder / f"s.{form}"

    def dump(limit: int, **options: bool) -> None:
        cnatool.dump(folder / "net.onnx", folder / "data", store, limit=limit, threads=1, **options)

    def prepare() -> None:
        for left in [*folder.glob("s.*"), *folder.glob(".s.*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        assert ended_at_step(lambda: dump(5), 1 << 30) == 0

    def rows(path: Path) -> int:
        try:
            splits = cnatool.open(path).splits.values()
        except CnatoolError:
            return 0
        return sum(map(len, splits)) if all(one.record.complete for one in splits) else 0

    last = partial(dump, 7, **({"resume": True} if resumes else {"overwrite": True}))
    for step in steps(lambda: dump(7, overwrite=True), prepare, STRIDE):
        for again in (False, True):
            stores = [store, folder / f".{store.name}.replaced", *folder.glob("s.previous*")]
            assert {10, 14} & set(map(rows, stores)), (step, sorted(folder.iterdir()))
            if not again:
                ended_at_step(lambda: dump(7, overwrite=True), 1 + step * 7 % 60)
        if ended_at_step(last, 1 << 30):
            # The old store has its name again, and is no beginning of the new one.
            assert resumes
            assert rows(store) == 10
            assert ended_at_step(lambda: dump(7, overwrite=True), 1 << 30) == 0
        assert rows(store) == 14
        assert not list(folder.glob(".s.*")), step


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize(("form", "resumes"), [("zarr", "resume"), ("h5", "")])
def test_killed_at_steps_of_a_replacement(form: str, resumes: str, tmp_path: Path) -> None:
    make_data(tmp_path, 20, 20)
    in_process(dump_over, tmp_path, form, resumes)
