"""Texts through language models: every value is that of the text run alone, without padding."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto
from support.dumps import commit_often, same_arrays
from support.language import Decoder, Encoder, export, run_alone, torch
from support.networks import Builder, saved
from support.tokenizers import doc_lines, make_tokenizer, save_tokenizer

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.records.run import TokenizerRecord

LABELS = [0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 1, 2]


def short(count: int, most: int = 60) -> list[str]:
    """List texts with few tokens; some have equally many."""
    encode = make_tokenizer("bpe").encode
    fitting = [text for text in doc_lines() if 1 <= len(encode(text).ids) <= most]
    return (["a", "the model", *fitting[: count - 4], "the data", "x"])[:count]


TEXTS = short(12)


class Notes:
    """Keeps what a dump notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("networks")
    made: dict[str, tuple[Any, Path]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kind in (("encoder", Encoder), ("decoder", Decoder)):
            torch.manual_seed(0)
            model = kind(400)
            made[name] = model, export(model, folder / f"{name}.onnx", dynamo=name == "decoder")
    return made


def tokenizer_of(name: str, folder: Path) -> Path:
    return save_tokenizer(folder, "bert" if name == "encoder" else "bpe").parent


def written(folder: Path, texts: list[str] = TEXTS) -> Path:
    rows = zip(texts, LABELS, strict=False)
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows))
    return path


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_values_are_those_of_each_text_alone(
    tmp_path: Path, networks: dict[str, tuple[Any, Path]], name: str, suffix: str
) -> None:
    model, path = networks[name]
    notes = Notes()
    folder = tokenizer_of(name, tmp_path / "tok")
    store = cnatool.dump(
        path, written(tmp_path), tmp_path / f"s{suffix}", tokenizer=folder, observer=notes
    )
    split = store.splits["all"]
    encoded = make_tokenizer("bert" if name == "encoder" else "bpe").encode_batch(TEXTS)
    alone = [run_alone(model, part.ids) for part in encoded]
    found: dict[str, str] = {}
    kept = [tensor for tensor in store.record.tensors if tensor.kept == "full"]
    values = {tensor.name: list(split.activations(tensor.name)[:]) for tensor in kept}
    for module in alone[0]:
        if module == "logits":
            continue
        for tensor in kept:
            if all(
                stored.shape == ran[module].shape[1:]
                and np.allclose(stored, ran[module][0], 1e-4, 1e-5)
                for stored, ran in zip(values[tensor.name], alone, strict=True)
            ):
                found[module] = tensor.name
    # A table of positions has no row for each sample.
    assert set(alone[0]) - {"logits", "places", "head"} == set(found) - {"head", "places"}
    for row, ran in enumerate(alone):
        # Scores of each next token are not stored.
        if name == "encoder":
            np.testing.assert_allclose(split.outputs(0)[row], ran["logits"][0], 1e-4, 1e-5)
        assert split.inputs(1)[row].tolist() == encoded[row].ids
        assert split.inputs(0)[row].tobytes().decode() == TEXTS[row]
    sums = split.statistics("sum")[:]
    numbers = {tensor.name: tensor.number for tensor in store.record.tensors}
    for module, tensor_name in found.items():
        expected = [ran[module].astype(float).sum() for ran in alone]
        least = max(1e-5 * np.abs(ran[module]).sum() for ran in alone)
        np.testing.assert_allclose(sums[:, numbers[tensor_name]], expected, 1e-4, least)
    assert split.labels is not None
    assert split.labels[:].tolist() == LABELS
    lengths = [len(part.ids) for part in encoded]
    assert (
        f"split all: {len(TEXTS)} texts of {min(lengths)} to {max(lengths)} tokens, "
        f"{sum(lengths)} in all"
    ) in notes.lines
    assert cnatool.verify(store.path).faults == ()


def test_the_store_names_the_tokenizer(
    tmp_path: Path, networks: dict[str, tuple[Any, Path]]
) -> None:
    folder = tokenizer_of("encoder", tmp_path / "tok")
    store = cnatool.dump(
        networks["encoder"][1],
        written(tmp_path),
        tmp_path / "s.zarr",
        tokenizer=folder,
        max_length=6,
        keep="statistics",
    )
    text, ids = store.record.inputs
    assert (text.kind, ids.kind, ids.special) == ("text", "tokens", (0, 2, 3, 4))
    [step] = store.record.preprocessing
    assert isinstance(step.tokenizer, TokenizerRecord)
    assert (step.tokenizer.name, step.tokenizer.max_length) == ("tok", 6)
    assert store.splits["all"].inputs(1)[:].lengths.max() == 6


class _StopError(Exception):
    pass


class _Stopping(Notes):
    """Ends a dump behind some rows."""

    def progress(self, *done: Any) -> None:
        if done[1] >= 130:
            raise _StopError


def test_another_tokenizer_does_not_resume(
    tmp_path: Path, networks: dict[str, tuple[Any, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    path, texts = networks["encoder"][1], [f"{TEXTS[i % 12]} {i}" for i in range(200)]
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(texts))
    folder = tokenizer_of("encoder", tmp_path / "tok")
    whole = cnatool.dump(path, data, tmp_path / "whole.zarr", tokenizer=folder)
    store = tmp_path / "s.zarr"
    with pytest.raises(_StopError):
        cnatool.dump(path, data, store, tokenizer=folder, observer=_Stopping())
    assert 0 < len(cnatool.open(store).splits["all"]) < 200
    for options, text in (
        ({"tokenizer": save_tokenizer(tmp_path / "other", "bert", 390).parent}, "sha256"),
        ({"tokenizer": folder, "max_length": 7}, "max length"),
    ):
        with pytest.raises(UsageError, match=text):
            cnatool.dump(path, data, store, resume=True, **options)
    again = cnatool.dump(path, data, store, tokenizer=folder, resume=True)
    same_arrays(again.path, whole.path)


def test_texts_that_are_too_long_are_refused_before_any_runs(
    tmp_path: Path, networks: dict[str, tuple[Any, Path]]
) -> None:
    path = networks["decoder"][1]
    folder = tokenizer_of("decoder", tmp_path / "tok")
    data = tmp_path / "texts.txt"
    data.write_text("a\n" + "the model and its data " * 40 + "\nb\n")
    with pytest.raises(
        DataError, match=r"1 of 3 texts has more tokens than the 64 .*places.*max_length=64"
    ):
        cnatool.dump(path, data, tmp_path / "s.zarr", tokenizer=folder)
    assert not (tmp_path / "s.zarr").exists()
    with pytest.raises(UsageError, match="`max_length=65`: the model takes 64 tokens at most"):
        cnatool.dump(path, data, tmp_path / "s.zarr", tokenizer=folder, max_length=65)
    notes = Notes()
    store = cnatool.dump(
        path, data, tmp_path / "s.zarr", tokenizer=folder, max_length=64, observer=notes
    )
    whole = make_tokenizer("bpe").encode(data.read_text().splitlines()[1]).ids
    assert store.splits["all"].inputs(1)[1].tolist() == whole[:64]
    assert any(
        f"1 truncated to 64 tokens, which costs {len(whole) - 64} tokens" in line
        for line in notes.lines
    )
    settings = tmp_path / "tok" / "tokenizer_config.json"
    settings.write_text(json.dumps({"model_max_length": 5}))
    with pytest.raises(DataError, match="the 5 that the model takes .model_max_length in"):
        cnatool.dump(path, data, tmp_path / "t.zarr", tokenizer=folder)


def test_splits_and_classes_of_folders(
    tmp_path: Path, networks: dict[str, tuple[Any, Path]]
) -> None:
    for number, text in enumerate(TEXTS):
        part = ("train", "test")[number % 2]
        file = tmp_path / "data" / part / "abc"[number % 3] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    folder = tokenizer_of("encoder", tmp_path / "tok")
    store = cnatool.dump(
        networks["encoder"][1],
        tmp_path / "data",
        tmp_path / "s.zarr",
        tokenizer=folder,
        keep="statistics",
    )
    assert list(store.splits) == ["train", "test"]
    assert store.splits["test"].record.classes == ("a", "b", "c")
    assert store.splits["test"].ids[0].startswith("a/")


def test_a_tokenizer_of_another_model(
    tmp_path: Path, networks: dict[str, tuple[Any, Path]]
) -> None:
    data = written(tmp_path)
    larger = save_tokenizer(tmp_path / "larger", "bert", 450)
    with pytest.raises(DataError, match="450 token ids, and .* has 400 rows for them"):
        cnatool.dump(networks["encoder"][1], data, tmp_path / "s.zarr", tokenizer=larger)
    notes = Notes()
    smaller = save_tokenizer(tmp_path / "smaller", "bert", 390)
    cnatool.dump(
        networks["encoder"][1],
        data,
        tmp_path / "s.zarr",
        tokenizer=smaller,
        observer=notes,
        keep="statistics",
    )
    assert any("390 ids, but the model has 400 rows" in line for line in notes.lines)


def test_texts_need_a_tokenizer(tmp_path: Path, networks: dict[str, tuple[Any, Path]]) -> None:
    path = networks["encoder"][1]
    frame = pl.DataFrame({"review": TEXTS, "label": LABELS})
    frame.write_parquet(tmp_path / "d.parquet")
    frame.write_csv(tmp_path / "d.csv")
    (tmp_path / "d.txt").write_text("\n".join(TEXTS))
    for data in ("d.parquet", "d.csv", "d.txt", written(tmp_path).name):
        with pytest.raises(DataError, match="takes token ids .* give the model's"):
            cnatool.dump(path, tmp_path / data, tmp_path / "s.zarr")
    with pytest.raises(UsageError, match="pass the model's `tokenizer` too"):
        cnatool.dump(path, tmp_path / "d.txt", tmp_path / "s.zarr", max_length=9)


def test_ids_that_an_input_does_not_hold(tmp_path: Path) -> None:
    b = Builder(0)
    whole = b.node("Cast", ["ids"], "whole", to=TensorProto.INT64)
    rows = b.node("Gather", [b.weight("table", 400, 4), whole], "rows")
    b.node("ReduceMean", [rows], "mean", axes=[1], keepdims=0)
    model = b.model({"ids": ("n", "t")}, {"mean": ("n", 4)})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    path = saved(model, tmp_path / "m.onnx")
    tokenizer = save_tokenizer(tmp_path / "tok")
    message = "400 token ids, and input 'ids' of .* is uint8, takes none above 255"
    with pytest.raises(DataError, match=message):
        cnatool.dump(path, written(tmp_path), tmp_path / "s.zarr", tokenizer=tokenizer)


def test_a_tokenizer_needs_ids(tmp_path: Path) -> None:
    b = Builder(0)
    b.gemm("x", "fc", 4, 2)
    path = saved(b.model({"x": ("n", 4)}, {"fc": ("n", 2)}), tmp_path / "m.onnx")
    tokenizer = save_tokenizer(tmp_path / "tok")
    with pytest.raises(UsageError, match="has no input of integers"):
        cnatool.dump(path, written(tmp_path), tmp_path / "s.zarr", tokenizer=tokenizer)
