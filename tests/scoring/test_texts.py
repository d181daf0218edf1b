"""Scores of texts and of sound, whose samples differ in length."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy.stats import entropy, pearsonr
from support.texts import IDS, START, TEXTS, record_texts

import cnatool
from cnatool.errors import DataError, MetricError, UsageError
from cnatool.metrics.convention import Convention
from cnatool.records.run import Preprocessing
from cnatool.scoring.alpha_notes import alpha_notes

FAST = {"resamples": 0, "area_resamples": 0, "permutations": 0}


def by_scipy(symbols: Any) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    return float(entropy(counts, base=2)) if len(symbols) else np.nan


@pytest.fixture(scope="module", params=[".zarr", ".h5"])
def store(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / f"s{request.param}"
    kinds = {"text": "text", "ids": "tokens"}
    return record_texts(path, {"text": TEXTS, "ids": IDS}, kinds=kinds, special=[START])


def alphas(path: Path, **overrides: Any) -> np.ndarray[Any, Any]:
    frame = cnatool.score_samples(path, overrides=overrides)
    return frame["alpha"].cast(pl.Float64).to_numpy()


def test_symbols_of_texts(store: Path) -> None:
    encoded = [np.frombuffer(text.encode(), np.uint8) for text in TEXTS]
    by_bytes = [by_scipy(text) for text in encoded]
    np.testing.assert_allclose(alphas(store), by_bytes, atol=1e-12)
    np.testing.assert_allclose(alphas(store, alpha_symbols="bytes", bins=7), by_bytes, atol=1e-12)
    by_tokens = [by_scipy(row[row != START]) for row in IDS]
    np.testing.assert_allclose(alphas(store, alpha_symbols="tokens"), by_tokens, atol=1e-12)
    ratios = [len(zlib.compress(t, 9)) / len(t) if len(t) else np.nan for t in encoded]
    np.testing.assert_allclose(alphas(store, alpha="compression"), ratios, atol=1e-12)
    result = cnatool.score(store, overrides=FAST | {"alpha_symbols": "tokens"})
    assert result.alpha_input == "ids of the tokens of 'ids' without special ones (0)"
    assert cnatool.score(store, overrides=FAST).alpha_input == "bytes of 'text' in UTF-8"


def test_rates_of_texts(store: Path) -> None:
    encoded = [np.frombuffer(text.encode(), np.uint8) for text in TEXTS]
    cut = [[t[k : k + 20] for k in range(0, len(t) - 19, 20)] for t in encoded]
    rates = [np.mean([by_scipy(w) for w in windows]) if windows else np.nan for windows in cut]
    got = alphas(store, alpha="entropy-rate", alpha_window=20)
    np.testing.assert_allclose(got, rates, atol=1e-12)
    ratios = [np.mean([len(zlib.compress(w, 9)) / 20 for w in c]) if c else np.nan for c in cut]
    got = alphas(store, alpha="compression-rate", alpha_window=20)
    np.testing.assert_allclose(got, ratios, atol=1e-12)
    fields = FAST | {"alpha": "entropy-rate", "alpha_window": 20}
    result = cnatool.score(store, overrides=fields)
    few = int(np.isnan(rates[:40]).sum())
    assert result.splits["train"].alpha_undefined == few > 1
    assert f"{few} of 40 samples of train" in str(result.notes)
    assert result.alpha_input == "windows of 20 bytes of 'text' in UTF-8"
    result = cnatool.score(store, overrides=fields | {"alpha_window": 10_000})
    assert "no sample has an α: they are shorter than" in result.splits["train"].cna.reason


def test_length_is_part_of_cna(store: Path) -> None:
    result = cnatool.score(store, overrides=FAST)
    frame = cnatool.score_samples(store).filter(split="train").drop_nulls("alpha")
    encoded = [len(text.encode()) for text in TEXTS[:40] if text]
    assert frame["length"].to_list() == encoded
    length = result.splits["train"].length
    assert length.unit == "bytes"
    assert (length.samples.min, length.samples.max) == (min(encoded), max(encoded))
    assert length.alpha.value == pytest.approx(pearsonr(frame["alpha"], encoded)[0])
    assert length.beta.value == pytest.approx(pearsonr(frame["beta"], encoded)[0])
    design = np.column_stack([np.ones(39), encoded, np.log2(encoded)])
    residuals = [
        values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        for values in (frame["alpha"].to_numpy(), frame["beta"].to_numpy())
    ]
    assert length.cna.value == pytest.approx(pearsonr(*residuals)[0], abs=1e-9)
    [note] = [note for note in result.notes if "the length of samples contributes to CNA" in note]
    assert "`alpha='entropy-rate'` and `aggregate='mean'` do not grow with length" in note
    rate = cnatool.score(store, overrides=FAST | {"alpha": "entropy-rate", "aggregate": "mean"})
    assert abs(rate.splits["train"].length.beta.value) < 0.3 < length.beta.value
    assert not any("contributes to CNA" in note for note in rate.notes)
    tokens = cnatool.score(store, overrides=FAST | {"alpha_symbols": "tokens", "cna": "kendall"})
    assert tokens.splits["train"].length.unit == "tokens"
    assert tokens.splits["train"].length.samples.max == max(len(row) for row in IDS[:40]) - 1


def test_texts_are_returned(store: Path) -> None:
    split = cnatool.open(store).splits["test"]
    assert split.texts() == TEXTS[40:]
    assert cnatool.open(store).splits["train"].texts([4, 3]) == [TEXTS[4], TEXTS[3]]
    assert split.texts(np.arange(20) == 7) == [TEXTS[47]]


def test_texts_in_xarray(store: Path) -> None:
    pytest.importorskip("xarray")
    data = cnatool.open(store).splits["test"].to_xarray()
    assert data.text_string.values.tolist() == TEXTS[40:]
    assert data.text_string[3:5].values.tolist() == TEXTS[43:45]
    assert str(data.text_string[2].values) == TEXTS[42]
    assert data.text_length.values.tolist() == [len(text.encode()) for text in TEXTS[40:]]


def test_ids_alone(tmp_path: Path) -> None:
    """Of uint16, which without a kind would be grey levels; rectangular ones with padding too."""
    table = np.zeros((60, 80), np.uint16)
    for row, ids in enumerate(IDS):
        table[row, : len(ids)] = ids
    path = record_texts(
        tmp_path / "s.zarr", {"table": table}, kinds={"table": "tokens"}, special=[START]
    )
    expected = [by_scipy(row[row != START]) for row in IDS]
    np.testing.assert_allclose(alphas(path), expected, atol=1e-12)
    length = cnatool.score(path, overrides=FAST).splits["train"].length
    assert (length.unit, length.samples.min) == ("tokens", 1)
    with pytest.raises(MetricError, match="no raw input of the store holds text"):
        cnatool.score(path, overrides={"alpha_symbols": "bytes"})
    with pytest.raises(MetricError, match="symbols have no density"):
        cnatool.score(path, convention="reference")
    with pytest.raises(MetricError, match="no raw input holds texts"):
        cnatool.open(path).splits["train"].texts()


@pytest.mark.parametrize("dtype", ["f4", "i2", "u1", "i4"])
def test_sound(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    waves = [rng.uniform(-1, 1, rng.integers(0, 3000)).astype(np.float32) for _ in range(60)]
    if dtype == "f4":
        given = waves
    else:
        bits = np.iinfo(dtype).bits
        shift = 2 ** (bits - 1) if dtype[0] == "u" else 0
        given = [(wave * (2.0 ** (bits - 1) - 1) + shift).astype(dtype) for wave in waves]
        waves = [(wave.astype(np.float64) - shift) / 2 ** (bits - 1) for wave in given]
    path = record_texts(tmp_path / "s.zarr", {"wave": given}, kinds={"wave": "sound"})
    expected = [
        entropy(np.histogram(wave, 32, (-1, 1))[0], base=2) if len(wave) else np.nan
        for wave in waves
    ]
    np.testing.assert_allclose(alphas(path, bins=32), expected, atol=1e-9)
    result = cnatool.score(path, overrides=FAST)
    assert result.alpha_input == "amplitudes of 'wave' from -1 to 1"
    assert result.splits["train"].length.unit == "amplitudes"
    with pytest.raises(UsageError, match=r"no effect on sound.*`sound_range='-2:2'`"):
        cnatool.score(path, overrides={"range": "-2:2"})
    with pytest.raises(
        DataError, match=r"outside the range 0:0.5: use `overrides={'sound_range': 'LO:HI'}`"
    ):
        cnatool.score(path, overrides={"sound_range": "0:0.5"})


def test_amplitudes_beyond_full_scale_are_named(tmp_path: Path) -> None:
    waves = [np.linspace(-1, 1 + k / 100, 9).astype(np.float32) for k in range(60)]
    path = record_texts(tmp_path / "s.zarr", {"wave": waves}, kinds={"wave": "sound"})
    with pytest.raises(
        DataError, match=r"row 1 holds 1.01.*`overrides=\{'sound_range': '-1:1.6'\}` includes"
    ):
        cnatool.score(path)
    assert cnatool.score(path, overrides=FAST | {"out_of_range": "clip"}).alpha_input


def test_kinds_that_do_not_fit(tmp_path: Path) -> None:
    def create(**described: Any) -> Any:
        return cnatool.create_store(
            tmp_path / "s.zarr", tensors=["h"], inputs=["x"], outputs=["y"], **described
        )

    with pytest.raises(UsageError, match="kinds: 'z' is not one of the inputs x"):
        create(kinds={"z": "text"})
    with pytest.raises(UsageError, match="'poem' of input 'x' is none of text, tokens, sound"):
        create(kinds={"x": "poem"})
    with pytest.raises(UsageError, match="special: no input holds tokens"):
        create(special=[1])
    for kind, values, text in (
        ("text", "one text", "pass a list of texts"),
        ("text", [1, 2], "sample 0 is not a text"),
        ("text", ["\ud800"], "text 0 cannot be encoded as UTF-8"),
        ("tokens", np.zeros((2, 3)), "float64 is not a type of tokens"),
        ("sound", np.zeros((2, 3), bool), "bool is not a type of sound"),
    ):
        h = np.eye(2)
        with pytest.raises(DataError, match=text), create(kinds={"x": kind}) as store:
            store.append("test", inputs=values, outputs=h, activations={"h": h})


def test_a_store_that_refers_to_texts(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "second.zarr"
    with cnatool.create_store(
        path, tensors=["a", "b", "logits"], outputs=["logits"], inputs_from=store
    ) as second:
        for split, count in (("train", 40), ("test", 20)):
            h = np.random.default_rng(3).normal(size=(count, 4))
            second.append(split, outputs=h[:, :3], activations={"a": h, "b": 2 * h})
    np.testing.assert_array_equal(alphas(path), alphas(store))
    assert cnatool.open(path).splits["test"].texts() == TEXTS[40:]
    assert cnatool.score(path, overrides=FAST).splits["train"].length.unit == "bytes"


@pytest.mark.parametrize(("dtype", "noted"), [(np.uint16, True), (np.int64, False)])
def test_ids_that_are_counted_as_levels_are_noted(dtype: Any, noted: bool, tmp_path: Path) -> None:
    """Of a store that says nothing of its inputs, but that the model receives whole numbers."""
    path = tmp_path / "s.zarr"
    h = np.random.default_rng(0).normal(size=(9, 3))
    with cnatool.create_store(path, tensors=["a", "b", "y"], outputs=["y"]) as store:
        ids = np.arange(45, dtype=dtype).reshape(9, 5)
        store.append("test", inputs=ids, outputs=h, activations={"a": h, "b": h})
    record = cnatool.open(path).record
    step = Preprocessing(
        input="input",
        source_dtype=np.dtype(dtype).name,
        source_shape=(5,),
        dtype="int64",
        shape=(5,),
        layout="as is",
    )
    record = msgspec.structs.replace(record, preprocessing=(step,))
    fields = Convention.named("paper").fields
    notes = list(alpha_notes(record, fields, [], {}, {}))
    assert bool(notes) == noted
    assert not noted or "dump them as int64, so that each has its own bin" in notes[0]
