"""What notebooks show of studies and series are their numbers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.families import make_pictures
from support.markup import EVIL, shown
from support.networks import mlp, saved
from support.notes import Notes

import cnatool


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stores")
    data = make_pictures(folder / "data")
    made = []
    for seed in range(4):
        saved(mlp(seed=seed), folder / f"{seed}.onnx")
        store = folder / f"{seed}.zarr"
        tags = {"epoch": str(seed)}
        made.append(cnatool.dump(folder / f"{seed}.onnx", data, store, tags=tags, observer=Notes()))
    return [store.path for store in made]


def test_a_study(stores: list[Path]) -> None:
    study = cnatool.study(stores, resamples=0)
    page = shown(study)
    correlations = {
        (each.target, each.measure): each for each in study.result.correlations if not each.group
    }
    assert len(page.tables) == 2
    for table in page.tables:
        target = table[0][0].removeprefix("with ")
        for measure, networks, pearson, _, kendall, _ in table[1:]:
            each = correlations[target, measure]
            assert int(networks) == each.networks
            assert pearson == f"{each.pearson.value:z.4f}"
            assert kendall == f"{each.kendall_b.value:z.4f}"
    assert "test.accuracy by " in page.text
    assert " by " not in shown(study.result).text.replace("tag whose value they share", "")
    assert repr(study) == repr(study.result)
    assert repr(study).startswith("<cnatool study of 4 networks: ")
    assert repr(study).endswith(" measures of test.accuracy and gap>")
    evil = msgspec.structs.replace(study.result, notes=(EVIL,))
    assert EVIL in shown(evil).text


def test_a_trajectory(stores: list[Path]) -> None:
    trajectory = cnatool.trajectory(stores)
    page = shown(trajectory)
    (run,) = trajectory.result.runs
    last = run.steps[-1]
    ((_, row),) = page.tables
    values = (last.splits["test"].accuracy, last.splits["test"].cna.value, last.cna_area.value)
    assert row == ["", "4", "3", *(f"{value:z.4f}" for value in (*values, last.gap.value))]
    evil = msgspec.structs.replace(trajectory.result, by=EVIL, order=EVIL)
    assert EVIL in shown(evil).text


def test_a_landscape(stores: list[Path]) -> None:
    landscape = cnatool.landscape(stores, samples=20, grid=3)
    (rows,) = shown(landscape).tables
    for row, point in zip(rows[1:], landscape.result.points, strict=True):
        values = (point.cna.value, point.cna_projected.value)
        assert row == ["", f"{point.step:g}", *(f"{value:z.4f}" for value in values)]
    assert repr(landscape) == "<cnatool landscape of 4 checkpoints: 3 × 3 grid>"
