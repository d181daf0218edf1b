"""Dumps of language models from token ids alone: what else they take is filled in by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.decoders import decode, decoder

import cnatool
from cnatool._util.observer import Silent
from cnatool.dumping.inspect import inspect_model
from cnatool.errors import DataError, UsageError

_ROWS, _LENGTH = 7, 5


class _Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def _ids() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(1, 20, (_ROWS, _LENGTH))


def _save(folder: Path, model: onnx.ModelProto, **arrays: Any) -> tuple[Path, Path]:
    onnx.save(model, folder / "decoder.onnx")
    np.savez(folder / "data.npz", **(arrays or {"input_ids": _ids()}))
    return folder / "decoder.onnx", folder / "data.npz"


@pytest.mark.parametrize(
    "model",
    [decoder(), decoder(merged=True), decoder(batch=1), decoder(batch=3)],
    ids=["past", "merged", "batch of 1", "batch of 3"],
)
def test_a_decoder_with_a_past_equals_its_formula(model: onnx.ModelProto, tmp_path: Path) -> None:
    notes = _Notes()
    store = cnatool.dump(*_save(tmp_path, model), tmp_path / "s.zarr", observer=notes)
    expected = np.stack([decode(row) for row in _ids()])
    split = store.splits["all"]
    np.testing.assert_allclose(split.outputs("hidden")[:], expected, rtol=1e-5, atol=1e-5)
    assert split.outputs("present.0.key").shape == (_ROWS, 1, _LENGTH, 6)
    assert store.record.derived
    assert [(each.input, each.rule) for each in store.record.derived][:4] == [
        ("attention_mask", "mask"),
        ("position_ids", "positions"),
        ("past_key_values.0.key", "empty"),
        ("past_key_values.0.value", "empty"),
    ]
    [line] = [line for line in notes.lines if "by rule" in line]
    assert "attention_mask (1 at each token), position_ids (0, 1, 2, …), " in line
    if len(store.record.derived) == 5:
        assert "use_cache_branch (false)" in line
        assert store.record.runtime
        assert store.record.runtime.branches == {"merged": "else_branch"}
        assert len(store.layers) == 4


def test_what_the_data_give_wins(tmp_path: Path) -> None:
    mask = np.ones((_ROWS, _LENGTH), np.int64)
    mask[::2, 3:] = 0
    paths = _save(tmp_path, decoder(), input_ids=_ids(), attention_mask=mask)
    store = cnatool.dump(*paths, tmp_path / "s.zarr")
    hidden = store.splits["all"].outputs("hidden")[0]
    np.testing.assert_allclose(hidden[:3], decode(_ids()[0][:3]), rtol=1e-5, atol=1e-5)
    assert [each.input for each in store.record.derived or ()][:2] == [
        "position_ids",
        "past_key_values.0.key",
    ]


def test_what_the_user_sets_wins(tmp_path: Path) -> None:
    ones = np.ones((1, _LENGTH))
    store = cnatool.dump(
        *_save(tmp_path, decoder()), tmp_path / "s.zarr", constants={"attention_mask": ones}
    )
    assert [each.input for each in store.record.constants] == ["attention_mask"]
    assert "attention_mask" not in {each.input for each in store.record.derived or ()}


def test_a_mask_of_another_name_is_asked_about(tmp_path: Path) -> None:
    mask = np.ones((_ROWS, _LENGTH), np.int64)
    paths = _save(tmp_path, decoder(), input_ids=_ids(), mask=mask)
    with pytest.raises(DataError, match=r"holds mask, but no array for the input 'attention_mask'"):
        cnatool.dump(*paths, tmp_path / "s.zarr")
    store = cnatool.dump(*paths, tmp_path / "s.zarr", inputs={"attention_mask": "mask"})
    assert "attention_mask" not in {each.input for each in store.record.derived or ()}


def test_padded_tokens_need_their_mask(tmp_path: Path) -> None:
    ids = _ids()
    for row, length in enumerate((5, 3, 2, 3, 5, 2, 3)):
        ids[row, length:] = 0
    paths = _save(tmp_path, decoder(), input_ids=ids)
    with pytest.raises(DataError, match=r"rows of 'input_ids' end in 0.*no 'attention_mask'"):
        cnatool.dump(*paths, tmp_path / "s.zarr")
    ones = np.ones((1, _LENGTH))
    cnatool.dump(*paths, tmp_path / "s.zarr", constants={"attention_mask": ones})


def test_a_past_in_the_data_leaves_the_mask_to_them(tmp_path: Path) -> None:
    past = np.zeros((_ROWS, 1, 2, 6), np.float32)
    arrays = {f"past_key_values.0.{name}": past for name in ("key", "value")}
    paths = _save(tmp_path, decoder(), input_ids=_ids(), **arrays)
    with pytest.raises(DataError, match="'position_ids'.*, which follow from no rule beside these"):
        cnatool.dump(*paths, tmp_path / "s.zarr")
    given = {"attention_mask": np.ones((_ROWS, _LENGTH), np.int64), "position_ids": _ids()}
    paths = _save(tmp_path, decoder(merged=True), input_ids=_ids(), **arrays, **given)
    with pytest.raises(DataError, match="'use_cache_branch'.*if it is false, it ignores that"):
        cnatool.dump(*paths, tmp_path / "s.zarr")


def test_a_dump_is_resumed_only_with_the_same_rules(tmp_path: Path) -> None:
    paths, store = _save(tmp_path, decoder()), tmp_path / "s.zarr"
    cnatool.dump(*paths, store)
    cnatool.dump(*paths, store, resume=True)
    ones = {"attention_mask": np.ones((1, _LENGTH))}
    with pytest.raises(UsageError, match="derived"):
        cnatool.dump(*paths, store, resume=True, constants=ones)


def test_inspect_needs_the_length_of_the_tokens_alone(tmp_path: Path) -> None:
    onnx.save(decoder(merged=True), tmp_path / "decoder.onnx")
    path = tmp_path / "decoder.onnx"
    result = inspect_model(path, (8,)).document(path)
    rules = {each.name: each.rule for each in result.inputs}
    assert rules["attention_mask"] == "mask"
    assert rules["use_cache_branch"] == "false"
    [hidden] = [tensor for tensor in result.tensors if tensor.name == "hidden"]
    assert hidden.shape == (8, 6)


def test_positions_that_begin_behind_padding_are_asked_for(tmp_path: Path) -> None:
    model = decoder()
    [table] = [tensor for tensor in model.graph.initializer if tensor.name == "places"]
    rows = onnx.numpy_helper.to_array(table).copy()
    rows[1] = 0  # as PyTorch's Embedding keeps it for padding
    table.CopyFrom(onnx.numpy_helper.from_array(rows, "places"))
    paths = _save(tmp_path, model)
    with pytest.raises(DataError, match=r"position_ids.*begin at 2, as in RoBERTa"):
        cnatool.dump(*paths, tmp_path / "s.zarr")
    positions = np.tile(np.arange(2, _LENGTH + 2), (_ROWS, 1))
    paths = _save(tmp_path, model, input_ids=_ids(), position_ids=positions)
    store = cnatool.dump(*paths, tmp_path / "s.zarr")
    assert "position_ids" not in {each.input for each in store.record.derived or ()}
