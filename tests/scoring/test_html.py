"""What notebooks show of scores are their numbers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.markup import EVIL, shown
from support.recorded import record_network

import cnatool


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    record_network(path, {"train": 120, "test": 60})
    return path


def test_a_score(store: Path) -> None:
    score = cnatool.score(store)
    page = shown(score)
    for row, (name, split) in zip(page.tables[0][1:], score.splits.items(), strict=True):
        expected = (split.accuracy, split.loss, split.alpha.mean)
        assert row[:5] == [name, str(split.samples), *(f"{value:.4f}" for value in expected)]
        assert row[6] == f"{split.cna.value:.4f}"
        assert row[7] == " … ".join(f"{bound:.4f}" for bound in split.cna.interval)
    values = {row[0]: row[1] for row in page.tables[1][1:]}
    assert values["CNA-A"] == f"{score.cna_area.value:.4f}"
    by_chance = {row[0]: row[3] for row in page.tables[1][1:]}
    assert by_chance["CNA-A"] == f"{score.cna_area_by_chance.mean:.4f}"
    assert by_chance["CNA-M"] == ""
    assert values["generalisation gap"] == f"{score.gap.value:.4f}"
    chance = f"{score.cna_area_by_chance.mean:.4f}"
    assert [row[3] for row in page.tables[1][1:]] == ["", chance, "", ""]
    assert f"({chance} by chance), gap {score.gap.value:.4f}" in repr(score)
    shown_split = f"accuracy {split.accuracy:.4f}, CNA {split.cna.value:.4f}"
    assert repr(split) == f"<scores of {split.samples} samples: {shown_split}>"
    assert len(repr(score.baselines)) < 100
    evil = msgspec.structs.replace(score, store=EVIL, notes=(EVIL,), splits={EVIL: split})
    assert shown(evil).text.count(EVIL) >= 3


def test_one_split_has_dashes_with_reasons(tmp_path: Path) -> None:
    record_network(tmp_path / "s.zarr", {"test": 40})
    score = cnatool.score(tmp_path / "s.zarr")
    page = shown(score)
    assert [row[1] for row in page.tables[1][1:]] == ["–", "–", "–", "–"]
    assert score.gap.reason is not None
    assert f'title="{score.gap.reason}"' in score._repr_html_().replace("&#x27;", "'")


def test_layers(store: Path) -> None:
    scores = cnatool.score_layers(store)
    (rows,) = shown(scores).tables
    names, total, *rows = rows
    assert names[:3] == ["depth", "layer", "CNA train"]
    assert total[2] == f"{scores.splits['train'].cna.value:.4f}"
    for place, (row, layer) in enumerate(zip(rows, scores.layers, strict=True)):
        train, test = (split.layers[place] for split in scores.splits.values())
        assert row[:2] == [str(layer.depth), layer.name]
        assert row[2::3] == [f"{train.cna:.4f}", f"{test.cna:.4f}"]
        assert row[4::3] == [f"{train.mean:z.3f}", f"{test.mean:z.3f}"]
    layers = tuple(msgspec.structs.replace(layer, name=EVIL) for layer in scores.layers)
    assert EVIL in shown(msgspec.structs.replace(scores, layers=layers)).text
