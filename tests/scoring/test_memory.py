"""Scoring holds a few numbers of each sample, and everything else a block at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.stores import forget_checksums

import cnatool
from cnatool.errors import StoreDamagedError
from cnatool.metrics.convention import Convention
from cnatool.scoring import beta as scored_sums
from cnatool.scoring.beta import read_z
from cnatool.scoring.layer_selection import select_layers
from cnatool.scoring.samples import sample_schema, write_frames
from cnatool.scoring.score import score_store
from cnatool.store import stored_array

_FEW, _MANY = 15_000, 60_000
_NO_RESAMPLES = {"resamples": 0, "area_resamples": 0, "permutations": 0}
_UNRESAMPLED = Convention.named("paper").without_resamples()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be small, so that the memory they take is there with few samples already."""
    monkeypatch.setattr(stored_array, "BLOCK_BYTES", 1 << 18)


def write_store(path: Path, rows: int, *, ids: bool = False, seed: int = 0) -> Path:
    """Write a store of statistics with splits train and test."""
    rng = np.random.default_rng(seed)
    names = ["first", "second", "third"]
    with cnatool.create_store(
        path,
        tensors=[*names, "logits"],
        outputs=["logits"],
        keep="statistics",
        shapes=dict.fromkeys(names, (8,)),
        overwrite=True,
    ) as store:
        for split in ("train", "test"):
            for start in range(0, rows // 2, 4096):
                n = min(4096, rows // 2 - start)
                logits = rng.normal(size=(n, 4)).astype(np.float32)
                sums = {name: rng.normal(size=n) for name in names}
                store.append(
                    split,
                    inputs=rng.integers(0, 256, (n, 16), np.uint8),
                    labels=rng.integers(0, 4, n),
                    outputs=logits,
                    statistics={"sum": sums | {"logits": logits.sum(axis=1, dtype=np.float64)}},
                    ids=[f"{split} {start + i}, α" for i in range(n)] if ids else None,
                )
    return path


def slope(call: Callable[[Path], object], tmp_path: Path) -> float:
    """Give the bytes of peak memory a sample that a call takes, from few to many samples."""
    peaks = []
    for rows in (2000, _FEW, _MANY):  # the first one loads what is loaded once
        path = write_store(tmp_path / f"{rows}.zarr", rows)
        tracemalloc.start()
        try:
            call(path)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return (peaks[2] - peaks[1]) / (_MANY - _FEW)


def test_score_takes_few_bytes_of_each_sample(tmp_path: Path) -> None:
    # α, β, loss, margin: 8 each; label and prediction: 1 each; as much again while curves are made.
    found = slope(lambda path: cnatool.score(path, overrides=_NO_RESAMPLES), tmp_path)
    assert 34 < found < 100


def test_compare_takes_few_bytes_of_each_sample(tmp_path: Path) -> None:
    # It draws no resamples, whatever the convention says, and so takes no more than a score.
    assert slope(lambda path: cnatool.compare(path, path), tmp_path) < 130


@pytest.mark.parametrize("name", ["samples.parquet"])
def test_a_table_of_samples_is_written_in_bounded_memory(name: str, tmp_path: Path) -> None:
    scored = {}
    # Enough for a writer of Parquet to have as many rows at hand as it ever has.
    few, many = 2 * _MANY, 6 * _MANY
    for rows in (few, many):
        path = write_store(tmp_path / f"{rows}.zarr", rows)
        scored[path] = score_store(path, None, _UNRESAMPLED)
    peaks = []
    for one in (*scored.values(), *scored.values()):
        tracemalloc.start()
        write_frames(one.frames(), sample_schema(), tmp_path / name, convention="paper")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Of each sample held, an id alone would take 70.
    assert (peaks[3] - peaks[2]) / (many - few) < 20


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_ids_are_read_few_at_a_time(kind: str, tmp_path: Path) -> None:
    split = cnatool.open(write_store(tmp_path / f"s.{kind}", 20_000)).splits["train"]
    blocks = list(split.ids.blocks())
    assert len(blocks) > 1
    chunk = split.ids.chunk_rows
    assert all(len(rows) <= max(chunk, (1 << 18) // 128) for _, rows in blocks)
    assert [name for _, rows in blocks for name in rows] == [str(i) for i in range(10_000)]


@pytest.mark.parametrize("kind", ["zarr", "h5"])
@pytest.mark.parametrize("name", ["samples.csv", "samples.parquet"])
def test_a_table_in_blocks_is_that_of_all_samples(kind: str, name: str, tmp_path: Path) -> None:
    path = write_store(tmp_path / f"s.{kind}", 20_000, ids=True)
    scored = score_store(path, None, _UNRESAMPLED)
    assert sum(1 for _ in scored.frames()) == 4
    target = tmp_path / name
    write_frames(scored.frames(), sample_schema(), target, convention="paper")
    store = cnatool.open(path)
    parts = []
    for split_name, split in store.splits.items():
        logits, labels = split.outputs()[:].astype(float), split.labels[:]
        pixels = split.inputs()[:]
        z = split.statistics("sum")[:, :3]
        true = logits[np.arange(len(labels)), labels]
        exps = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = exps / exps.sum(axis=1, keepdims=True)
        true = shares[np.arange(len(labels)), labels].copy()
        shares[np.arange(len(labels)), labels] = -1
        counts = [np.unique(row, return_counts=True)[1] / 16 for row in pixels[:50]]
        alpha = [-(p * np.log2(p)).sum() for p in counts]
        parts.append(
            pl.DataFrame(
                {
                    "split": split_name,
                    "id": list(split.ids[:]),
                    "label": labels,
                    "prediction": logits.argmax(axis=1),
                    "alpha": [*alpha, *[None] * (len(labels) - 50)],
                    "beta": (z[:, 2] - z[:, 0]) / 2,
                    "margin": true - shares.max(axis=1),
                    "length": pl.Series([None] * len(labels), dtype=pl.Int64),
                }
            )
        )
    expected = pl.concat(parts)
    found = pl.read_csv(target) if name.endswith("csv") else pl.read_parquet(target)
    assert found.columns == [*expected.columns, *(["convention"] if name.endswith("csv") else [])]
    for column in ("split", "id", "label", "prediction"):
        assert found[column].to_list() == expected[column].to_list()
    for column in ("alpha", "beta", "margin"):
        known = expected[column].is_not_null().to_numpy()
        np.testing.assert_allclose(
            found[column].to_numpy()[known], expected[column].to_numpy()[known], atol=1e-13
        )
    assert scored.frame().equals(pl.concat(scored.frames()))
    if name.endswith("csv"):
        whole = scored.frame().with_columns(pl.lit("paper").alias("convention"))
        assert target.read_bytes() == whole.write_csv().encode()
    else:
        assert pl.read_parquet_metadata(target)["cnatool.convention"] == "paper"


@pytest.mark.parametrize("name", ["samples.csv", "samples.parquet"])
def test_an_id_that_cannot_be_read_leaves_no_table(name: str, tmp_path: Path) -> None:
    scored = score_store(write_store(tmp_path / "s.zarr", 20_000), None, _UNRESAMPLED)

    def broken() -> Any:
        yield next(scored.frames())
        raise StoreDamagedError("rows 8192 to 9999 of array ids are damaged.")

    with pytest.raises(StoreDamagedError, match="rows 8192"):
        write_frames(broken(), sample_schema(), tmp_path / name, convention="paper")
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize("rows_held", [100, 4096, 10**6])
def test_sums_of_whole_activations_are_made_few_rows_at_a_time(
    rows_held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rows, widths = 9000, (3, 50, 7)
    values = [rng.normal(size=(rows, width)).astype(np.float32) for width in widths]
    names = ["a", "b", "logits"]
    path = tmp_path / "s.zarr"
    with cnatool.create_store(path, tensors=names, outputs=["logits"]) as writer:
        for start in range(0, rows, 1000):
            part = [value[start : start + 1000] for value in values]
            writer.append(
                "test",
                inputs=np.zeros((1000, 2), np.uint8),
                outputs=part[2],
                activations=dict(zip(names[:2], part, strict=False)),
            )
    forget_checksums(path)
    split = cnatool.open(path).splits["test"]
    monkeypatch.setattr(type(split), "has_statistic", lambda self, name: False)
    monkeypatch.setattr(scored_sums, "_SUM_BYTES", rows_held * 24)
    fields = Convention.named("paper", {"layers": "all", "include_output": True}).fields
    layers = select_layers(split.store, fields)
    blocks = list(read_z(split, layers, fields))
    assert [start for start, _ in blocks] == list(np.cumsum([0, *(len(z) for _, z in blocks[:-1])]))
    assert max(len(z) for _, z in blocks) <= rows_held
    numbers = [names.index(layer.tensor.name) for layer in layers]
    expected = np.stack([values[i].sum(axis=1, dtype=np.float64) for i in numbers], axis=1)
    np.testing.assert_array_equal(np.concatenate([z for _, z in blocks]), expected)
