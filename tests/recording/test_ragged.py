"""Recording samples that differ in length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy, pearsonr

import cnatool
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.recording import recording
from cnatool.store.statistics import row_statistics


def samples(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, 3)).astype(np.float32) for length in lengths]


def record(path: Path, *, as_ragged: bool = False, keep: str = "full") -> list[np.ndarray]:
    """Record a layer of varying length, in three batches; return its samples."""
    values = samples([2, 0, 5, 5, 5, 1, 300])
    with cnatool.create_store(
        path, tensors=["h", "logits"], outputs=["logits"], keep=keep, ragged=["h", "input"]
    ) as store:
        for part in (slice(0, 2), slice(2, 5), slice(5, 7)):
            batch = values[part]
            given = batch
            if as_ragged:
                lengths = [len(sample) for sample in batch]
                given = cnatool.Ragged.from_lengths(np.concatenate(batch), lengths)
            logits = np.array([[sample.sum(), len(sample)] for sample in batch], np.float32)
            inputs = [np.arange(len(sample), dtype=np.uint8) for sample in batch]
            store.append("train", inputs=inputs, outputs=logits, activations={"h": given})
    return values


@pytest.mark.parametrize("as_ragged", [False, True])
def test_lists_and_values_with_lengths_are_stored_alike(as_ragged: bool, tmp_path: Path) -> None:
    values = record(tmp_path / "s.zarr", as_ragged=as_ragged)
    split = cnatool.open(tmp_path / "s.zarr").splits["train"]
    stored = split.activations("h")
    assert isinstance(stored, cnatool.RaggedArray)
    for sample, expected in zip(stored[:], values, strict=True):
        np.testing.assert_array_equal(sample, expected)
    assert [row.tolist() for row in split.inputs()[:3]] == [[0, 1], [], [0, 1, 2, 3, 4]]
    sums = [sample.sum(dtype=np.float64) for sample in values]
    np.testing.assert_allclose(split.statistics("sum")[:, 0], sums, rtol=1e-9)
    counts = split.statistics("count")[:]
    assert counts.T.tolist() == [[3 * len(sample) for sample in values], [2.0] * 7]
    assert cnatool.verify(tmp_path / "s.zarr").faults == ()


def test_sums_are_those_of_a_samples_own_rows(tmp_path: Path) -> None:
    values = record(tmp_path / "s.zarr")
    store = cnatool.open(tmp_path / "s.zarr")
    names = ["sum", "abs_sum", "square_sum", "positive_sum", "nonzero_count", "min", "max"]
    ragged = row_statistics(store.splits["train"].activations("h")[:], names)
    for row, sample in enumerate(values):
        alone = row_statistics(sample[None], names)
        for name in names:
            np.testing.assert_allclose(ragged[name][row], alone[name][0], rtol=1e-12)


def test_statistics_alone_need_no_rows_of_equal_length(tmp_path: Path) -> None:
    values = record(tmp_path / "s.zarr", keep="statistics")
    split = cnatool.open(tmp_path / "s.zarr").splits["train"]
    assert split.store.tensor("h").varies
    counts = split.statistics("count")[:, 0]
    assert counts.tolist() == [3.0 * len(sample) for sample in values]


def test_what_is_wrong_with_a_batch_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="ragged: 'z' is not a tensor, input or output; these are h"
    ):
        cnatool.create_store(tmp_path / "t.zarr", tensors=["h"], ragged=["z"])
    with cnatool.create_store(
        tmp_path / "s.zarr", tensors=["h", "g"], outputs=["g"], layers=[], ragged={"h": 1}
    ) as store:

        def append(h: object, g: object = np.zeros((2, 1))) -> None:
            store.append("train", inputs=np.zeros((2, 1)), outputs=g, activations={"h": h})

        append([np.zeros((3, 4)), np.zeros((3, 2))])
        with pytest.raises(DataError, match="tensor 'h': samples cannot be joined along axis 1"):
            append([np.zeros((3, 4)), np.zeros((2, 2))])
        with pytest.raises(DataError, match=r"float64 \(2, …\) per sample, but float64 \(3, …\)"):
            append([np.zeros((2, 4)), np.zeros((2, 2))])
        with pytest.raises(
            DataError, match=r"'h': its shape is \(1, 3, …\), but there are 2 samples"
        ):
            append([np.zeros((3, 4))])
        with pytest.raises(DataError, match="output 'g': .* name it in `ragged`"):
            append([np.zeros((3, 4))] * 2, [np.zeros(1), np.zeros(2)])
        with pytest.raises(DataError, match="differ along axis 0 instead of 1"):
            append(cnatool.Ragged.from_lengths(np.zeros((3, 3)), [1, 2]))


def test_alpha_is_that_of_each_sample_s_own_values(tmp_path: Path) -> None:
    """Against scipy's entropy of the counts of a sample's symbols."""
    rng = np.random.default_rng(3)
    texts = [rng.integers(0, 5, length) for length in (3, 7, 0, 7, 20, 1)]
    with cnatool.create_store(
        tmp_path / "s.zarr", tensors=["a", "b", "logits"], outputs=["logits"], ragged=["input"]
    ) as store:
        h = rng.normal(size=(6, 4)).astype(np.float32)
        store.append(
            "test",
            inputs=texts,
            labels=np.arange(6) % 3,
            outputs=rng.normal(size=(6, 3)).astype(np.float32),
            activations={"a": h, "b": 2 * h},
        )
    alpha = cnatool.score_samples(tmp_path / "s.zarr")["alpha"].to_list()
    expected = [entropy(np.unique(text, return_counts=True)[1], base=2) for text in texts]
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_allclose([alpha[i] for i in kept], [expected[i] for i in kept], atol=1e-12)
    assert alpha[2] is None or np.isnan(alpha[2])
    split = cnatool.score(tmp_path / "s.zarr").splits["test"]
    assert split.accuracy is not None
    assert split.loss is not None
    assert split.beta.mean is not None
    # The empty one is left out of α, β and CNA, and said to be.
    frame = cnatool.score_samples(tmp_path / "s.zarr")
    beta = frame["beta"].to_numpy()[kept]
    assert split.cna.value == pytest.approx(pearsonr([expected[i] for i in kept], beta)[0])
    assert split.beta.mean == pytest.approx(beta.mean())
    assert split.alpha_undefined == 1
    notes = cnatool.score(tmp_path / "s.zarr").notes
    assert any(
        "without α, because they have no values" in note and "1 of 6" in note for note in notes
    )
    layers = cnatool.score_layers(tmp_path / "s.zarr", samples=["2"]).splits["test"]
    assert layers.cna.value == pytest.approx(split.cna.value)
    assert layers.profiles[0].alpha is None
    assert layers.profiles[0].beta == pytest.approx(frame["beta"][2])


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_rows_are_committed_by_time(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a recording that fails, all rows are there, and of one that ends, the same as ever."""
    monkeypatch.setattr(recording, "_SECONDS", 0.0)
    broken, whole = tmp_path / f"broken{suffix}", tmp_path / f"whole{suffix}"
    record(whole)
    values = samples([1, 0, 4, 2])

    def fail_after_three_batches() -> None:
        with cnatool.create_store(
            broken, tensors=["h", "logits"], outputs=["logits"], ragged=["h"]
        ) as store:
            for start, stop in ((0, 1), (1, 3), (3, 4)):
                x = np.arange(start, stop, dtype=np.uint8)[:, None]
                h = values[start:stop]
                store.append("t", inputs=x, outputs=x.astype(float), activations={"h": h})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_after_three_batches()
    split = cnatool.open(broken).splits["t"]
    assert split.ids[:].tolist() == ["0", "1", "2", "3"]
    assert split.inputs()[:, 0].tolist() == [0, 1, 2, 3]
    assert split.activations("h").lengths.tolist() == [1, 0, 4, 2]
    assert cnatool.verify(broken).faults == ()
    monkeypatch.undo()
    record(tmp_path / f"other{suffix}")
    assert cnatool.compare(whole, tmp_path / f"other{suffix}", tolerance=0).same
    assert cnatool.verify(whole).faults == ()


def test_samples_that_make_no_array_are_named(tmp_path: Path) -> None:
    with cnatool.create_store(
        tmp_path / "s.zarr", tensors=["h", "logits"], outputs=["logits"], ragged=["h", "input"]
    ) as store:
        x, y = [np.zeros(2, np.uint8)] * 2, np.zeros((2, 3))
        for inputs, h, message in (
            (
                x,
                [np.zeros((2, 16)), np.zeros((3, 8))],
                r"sample 1 has shape \(3, 8\), sample 0 \(2",
            ),
            (
                ["ab c", "d"],
                samples([1, 2]),
                "sample 0 is not an array of numbers. If samples",
            ),
            (x, samples([1]), r"its shape is \(1, …, 3\), but there are 2 samples"),
        ):
            with pytest.raises(DataError, match=message):
                store.append("t", inputs=inputs, outputs=y, activations={"h": h})
        store.append("t", inputs=x, outputs=y, activations={"h": samples([1, 2])})
    split = cnatool.open(tmp_path / "s.zarr").splits["t"]
    np.testing.assert_array_equal(split.outputs("logits")[:], split.outputs(0)[:])
    with pytest.raises(MetricError, match="no output 'h'. Its outputs: 0 'logits'"):
        split.outputs("h")
