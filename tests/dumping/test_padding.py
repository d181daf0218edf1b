"""Padding does not count: every number is that of the sample alone, without padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved
from support.notes import Notes
from support.padded import Attention, make_texts, run_alone, save_texts

import cnatool
from cnatool.errors import DataError, UsageError

NETWORKS = {
    "free": Attention(),
    "free, tokens, -inf": Attention(fill=-np.inf, pooled="none"),
    "free, half": Attention(half=True, pooled="none"),
    "fixed": Attention(length=10),
    "fixed, tokens, causal, -inf": Attention(length=10, fill=-np.inf, pooled="none", causal=True),
    # As long as the tokens are wide.
    "fixed, square": Attention(length=8, pooled="none"),
    "fixed, half": Attention(length=10, half=True),
}


def expected(values: np.ndarray) -> dict[str, float]:
    wide = values.astype(np.float64)
    return {
        "sum": wide.sum(),
        "abs_sum": np.abs(wide).sum(),
        "square_sum": np.square(wide).sum(),
        "positive_sum": np.maximum(wide, 0).sum(),
        "nonzero_count": np.count_nonzero(wide),
        "min": wide.min(),
        "max": wide.max(),
        "count": wide.size,
    }


def one_sample(tensor: Any, value: np.ndarray) -> np.ndarray:
    """Leave the sample axis out of the values of a single sample."""
    return value if tensor.merged else np.take(value, 0, tensor.batch_axis)


def compare(store: cnatool.Store, model: Any, data: dict[str, np.ndarray], share: float) -> None:
    """Compare statistics, activations and outputs with runs of each sample alone."""
    (split,) = store.splits.values()
    names = [tensor.name for tensor in store.tensors]
    stored = {name: split.statistics(name)[:] for name in store.record.statistics}
    real = data["attention_mask"] == 1
    for row, kept in enumerate(real):
        alone = run_alone(model, names, {n: v[row : row + 1, kept] for n, v in data.items()})
        for tensor in store.tensors:
            values = one_sample(tensor, alone[tensor.name])
            of_sample = expected(values)
            scale = max(of_sample["abs_sum"], 1e-9)
            for name, number in of_sample.items():
                found = stored[name][row, tensor.number]
                where = f"{name} of {tensor.name}, sample {row}"
                assert found == number or abs(found - number) <= share * scale, where
            key = f"activations/{tensor.number}"
            if tensor.output is not None:
                key = f"outputs/{tensor.output}"
            elif tensor.stored is None:
                continue
            np.testing.assert_allclose(
                split.array(key)[row], values, rtol=100 * share, atol=100 * share, err_msg=key
            )


@pytest.mark.parametrize(
    ("name", "left"),
    [*((name, False) for name in NETWORKS), ("free, tokens, -inf", True), ("fixed, half", True)],
)
def test_every_number_is_that_of_the_sample_alone(name: str, left: bool, tmp_path: Path) -> None:
    network = NETWORKS[name]
    length = network.length if isinstance(network.length, int) else 10
    data = make_texts(length, left=left)
    model, free = network.model(), replace(network, length="t", causal=False).model()
    path = saved(model, tmp_path / "m.onnx")
    notes = Notes()
    store = cnatool.dump(
        path,
        save_texts(data, tmp_path / "d.npz"),
        tmp_path / "s.zarr",
        statistics="all",
        # The first of left-padded texts is at another place for each.
        tensors=["all", "!pooled", "!logits"] if left and network.pooled == "first" else "all",
        observer=notes,
    )
    store = cnatool.open(tmp_path / "s.zarr")
    assert any("padding does not count" in line for line in notes.texts)
    names = {t.name: t for t in store.tensors}
    assert names["attention"].positions == (1, 2)
    assert names["embedded"].positions == names["flat"].positions == names["bent"].positions == (0,)
    assert (names["bent"].batch_axis, names["flat"].merged) == (1, "NT")
    if network.causal:
        _check_causal(store, network, data)
        return
    assert not any(tensor.padding for tensor in store.tensors)
    compare(store, free, data, 2e-3 if network.half else 1e-5)
    assert cnatool.verify(tmp_path / "s.zarr")


def _check_causal(store: cnatool.Store, network: Attention, data: dict[str, np.ndarray]) -> None:
    """Compare with the network that is exported for the length of each sample."""
    for row, count in enumerate(data["attention_mask"].sum(axis=1)):
        model = replace(network, length=int(count)).model()
        one = {name: value[row : row + 1, :count] for name, value in data.items()}
        (split,) = store.splits.values()
        alone = run_alone(model, [tensor.name for tensor in store.tensors], one)
        sums, sizes = split.statistics("sum")[row], split.statistics("count")[row]
        for tensor in store.tensors:
            value = alone[tensor.name].astype(np.float64)
            scale, found = np.abs(value).sum(), sums[tensor.number]
            assert found == value.sum() or abs(found - value.sum()) <= 1e-5 * scale, tensor.name
            assert sizes[tensor.number] == value.size


def test_inputs_are_stored_without_padding(tmp_path: Path) -> None:
    data = make_texts(10)
    path = saved(Attention().model(), tmp_path / "m.onnx")
    source = save_texts(data, tmp_path / "d.npz")
    cnatool.dump(path, source, tmp_path / "s.zarr")
    store = cnatool.open(tmp_path / "s.zarr")
    (split,) = store.splits.values()
    real = data["attention_mask"] == 1
    for row, ids in enumerate(split.inputs(0)[:]):
        np.testing.assert_array_equal(ids, data["input_ids"][row, real[row]])
    np.testing.assert_array_equal(split.inputs(1)[:], data["attention_mask"])
    # α of the first text, whose ids are not padded, is the same as with padding.
    counted = cnatool.dump(path, source, tmp_path / "t.zarr", mask="none")
    assert counted.record.inputs[0].ragged_axis is not store.record.inputs[0].ragged_axis
    # The same data again: compared, referred to, resumed.
    cnatool.dump(path, source, tmp_path / "u.zarr", inputs_from=tmp_path / "s.zarr")
    again = cnatool.dump(path, source, tmp_path / "s.zarr", resume=True)
    assert again.record.complete
    compared = cnatool.compare(tmp_path / "s.zarr", tmp_path / "u.zarr")
    assert all(split.same_data for split in compared.splits.values())


@pytest.mark.parametrize(
    ("network", "first"),
    [
        (Attention(uses_mask=False), "attention"),
        (Attention(pooled="mean"), "pooled"),
        (Attention(length=10, pooled="mean"), "pooled"),
        (Attention(length=10, uses_mask=False), "attention"),
    ],
)
def test_models_that_mix_padding_in_are_found(
    network: Attention, first: str, tmp_path: Path
) -> None:
    notes = Notes()
    path = saved(network.model(), tmp_path / "m.onnx")
    source = save_texts(make_texts(10), tmp_path / "d.npz")
    store = cnatool.dump(path, source, tmp_path / "s.zarr", observer=notes)
    (line,) = [line for line in notes.texts if "mixes padding into real positions" in line]
    assert f"first {first!r}" in line
    mixed = [tensor.name for tensor in store.tensors if tensor.padding == "mixed"]
    assert mixed[0] == first
    assert "logits" in mixed
    assert "embedded" not in mixed


def frames(*, stride: int = 1, masked: bool = True) -> Any:
    """A convolution over frames, which are 0 at padding, and another over its result."""
    b = Builder(0)
    b.constant("last", np.array([2]))
    kept = b.node("Cast", ["mask"], "kept", to=1)
    kept = b.node("Unsqueeze", [kept, "last"], "column")
    b.node("Cast", [kept], "where", to=9)
    x = b.node("Where", ["where", "x", b.constant("zero", np.float32([0]))], "clean")
    x = b.node("Transpose", [x], "turned", perm=[0, 2, 1])
    kept = b.node("Transpose", [kept], "row", perm=[0, 2, 1])
    for number, width in enumerate((5, 4)):
        w = b.weight(f"w{number}", 4, width, 3)
        bias = b.weight(f"b{number}", 4)
        strides = [stride if number else 1]
        x = b.node("Conv", [x, w, bias], f"conv{number}", pads=[1, 1], strides=strides)
        x = b.node("Relu", [x], f"relu{number}")
        if masked and not number:
            x = b.node("Mul", [x, kept], f"masked{number}")
    b.node("ReduceSum", [x, "last"], "y", keepdims=0)
    model = b.model({"x": ("n", "t", 5)}, {"y": ("n", 4)})
    mask = helper.make_tensor_value_info("mask", TensorProto.INT64, ("n", "t"))
    model.graph.input.append(mask)
    return model


@pytest.mark.parametrize("junk", [0.0, np.nan, -3e38, np.inf])
def test_padding_may_hold_anything(junk: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = np.arange(12) < rng.integers(3, 12, 6)[:, None]
    x = np.where(real[:, :, None], rng.normal(size=(6, 12, 5)), junk).astype(np.float32)
    model = frames()
    path = saved(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=x, mask=real.astype(np.int64))
    cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", tensors=["all", "!relu1", "!y"])
    (split,) = cnatool.open(tmp_path / "s.zarr").splits.values()
    tensors = split.store.tensors
    assert not any(tensor.padding for tensor in tensors)
    for row, kept in enumerate(real):
        feeds = {"x": x[row : row + 1, kept], "mask": np.ones((1, kept.sum()), np.int64)}
        alone = run_alone(model, [tensor.name for tensor in tensors], feeds)
        for tensor in tensors:
            value = alone[tensor.name].astype(np.float64)
            found = split.statistics("sum")[row, tensor.number]
            assert abs(found - value.sum()) <= 1e-5 * np.abs(value).sum(), tensor.name


def test_convolutions_over_padding_and_thinned_positions_are_said(tmp_path: Path) -> None:
    real = np.arange(12) < np.array([12, 7, 5, 4])[:, None]
    x = np.where(real[:, :, None], np.random.default_rng(0).normal(size=(4, 12, 5)), 0)
    np.savez(tmp_path / "d.npz", x=x.astype(np.float32), mask=real.astype(np.int64))
    notes = Notes()
    path = saved(frames(masked=False), tmp_path / "m.onnx")
    store = cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", observer=notes)
    assert [t.name for t in store.tensors if t.padding] == ["conv1", "relu1", "y"]
    path = saved(frames(stride=2), tmp_path / "m.onnx")
    store = cnatool.dump(path, tmp_path / "d.npz", tmp_path / "t.zarr", observer=notes)
    padding = {t.name: t.padding for t in store.tensors if t.padding}
    assert padding == {"conv1": "counted", "relu1": "counted", "y": "mixed"}
    assert any("padding counts in 2 tensors, first 'conv1' (Conv)" in n for n in notes.texts)


def test_lengths_say_where_padding_is(tmp_path: Path) -> None:
    b = Builder(0)
    x = b.node("Gather", [b.weight("table", 50, 6), "ids"], "embedded")
    x = b.node("Transpose", [x], "turned", perm=[1, 0, 2])
    b.node("Cast", ["lengths"], "counts", to=6)
    parts = [b.weight("w", 1, 9, 6), b.weight("r", 1, 9, 3), b.weight("b", 1, 18)]
    gru = helper.make_node("GRU", [x, *parts, "counts"], ["y", "h"], hidden_size=3)
    b.nodes.append(gru)
    b.constant("direction", np.array([0]))
    b.node("Squeeze", ["h", "direction"], "state")
    model = b.model({}, {"state": ("n", 3)})
    for name, shape in (("ids", ("n", "t")), ("lengths", ("n",))):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
    path = saved(model, tmp_path / "m.onnx")
    data = make_texts(10)
    counts = data["attention_mask"].sum(axis=1)
    np.savez(tmp_path / "d.npz", ids=data["input_ids"], lengths=counts)
    cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr")
    store = cnatool.open(tmp_path / "s.zarr")
    assert store.record.mask.kind == "lengths"
    assert not any(tensor.padding for tensor in store.tensors)
    (split,) = store.splits.values()
    sums = split.statistics("sum")[:]
    for row, count in enumerate(counts):
        feeds = {"ids": data["input_ids"][row : row + 1, :count], "lengths": counts[row : row + 1]}
        alone = run_alone(model, [tensor.name for tensor in store.tensors], feeds)
        for tensor in store.tensors:
            value = alone[tensor.name].astype(np.float64)
            assert abs(sums[row, tensor.number] - value.sum()) <= 1e-5 * np.abs(value).sum()


def test_the_first_padding_of_all_may_come_late(tmp_path: Path) -> None:
    data = make_texts(10, count=400)
    data = {name: np.concatenate([value[:1]] * 300 + [value]) for name, value in data.items()}
    path = saved(Attention().model(), tmp_path / "m.onnx")
    source = save_texts(data, tmp_path / "d.npz")
    with pytest.raises(DataError, match=r"sample 301 is padded, .*`mask='attention_mask'`"):
        cnatool.dump(path, source, tmp_path / "s.zarr")
    store = cnatool.dump(
        path, source, tmp_path / "t.zarr", mask="attention_mask", keep="statistics"
    )
    assert store.record.mask.input == "attention_mask"


def test_two_masks_are_asked_about(tmp_path: Path) -> None:
    b = Builder(0)
    for name in ("a", "b"):
        kept = b.node("Cast", [f"{name}_mask"], f"kept {name}", to=1)
        x = b.node("Cast", [f"{name}_ids"], f"ids {name}", to=1)
        b.node("Mul", [x, kept], f"{name}")
    b.node("Add", ["a", "b"], "y")
    model = b.model({}, {"y": ("n", 10)})
    first, second = make_texts(10), make_texts(10, seed=1)
    data = {}
    for name, texts in (("a", first), ("b", second)):
        data |= {f"{name}_ids": texts["input_ids"], f"{name}_mask": texts["attention_mask"]}
    for name in data:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, ("n", 10)))
    path = saved(model, tmp_path / "m.onnx")
    source = save_texts(data, tmp_path / "d.npz")
    with pytest.raises(UsageError, match=r"`mask='a_mask'`, `mask='b_mask'`, or `mask='none'`"):
        cnatool.dump(path, source, tmp_path / "s.zarr")
    assert not cnatool.dump(path, source, tmp_path / "s.zarr", mask="none").record.mask


def test_samples_are_padded_to_a_fixed_length(tmp_path: Path) -> None:
    data, network = make_texts(10), Attention(length=10, pooled="none")
    rows = [ids[ids != 0].tolist() for ids in data["input_ids"]]
    pl.DataFrame({"input_ids": rows}).write_parquet(tmp_path / "d.parquet")
    path = saved(network.model(), tmp_path / "m.onnx")
    notes = Notes()
    cnatool.dump(
        path, tmp_path / "d.parquet", tmp_path / "s.zarr", statistics="all", observer=notes
    )
    assert any("as 'attention_mask' says" in line for line in notes.texts)
    store = cnatool.open(tmp_path / "s.zarr")
    assert not any(tensor.padding for tensor in store.tensors)
    compare(store, replace(network, length="t").model(), data, 1e-5)


def test_an_interrupted_dump_is_resumed(tmp_path: Path) -> None:
    path = saved(Attention().model(), tmp_path / "m.onnx")
    source = save_texts(make_texts(10, count=300), tmp_path / "d.npz")
    options: Any = {"keep": "statistics", "batch_size": 8}
    whole = cnatool.dump(path, source, tmp_path / "s.zarr", **options)
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(path, source, tmp_path / "t.zarr", observer=Notes("all", at=100), **options)
    resumed = cnatool.dump(path, source, tmp_path / "t.zarr", resume=True, **options)
    assert resumed.splits["all"].fingerprint == whole.splits["all"].fingerprint
    np.testing.assert_array_equal(
        resumed.splits["all"].statistics()[:], whole.splits["all"].statistics()[:]
    )
