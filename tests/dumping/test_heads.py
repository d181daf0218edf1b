"""Dumps of networks with several outputs and with detections, against runs of single samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support import heads
from support.dumps import commit_often
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.records.ragged import Ragged

SAMPLES = 23
STATISTICS: Mapping[str, Callable[[np.ndarray], float]] = {
    "sum": lambda v: v.sum(dtype=np.float64),
    "abs_sum": lambda v: np.abs(v.astype(np.float64)).sum(),
    "min": lambda v: v.astype(np.float64).min(initial=np.inf),
    "max": lambda v: v.astype(np.float64).max(initial=-np.inf),
    "count": lambda v: v.size,
}


def run_alone(model: onnx.ModelProto, x: np.ndarray) -> dict[str, list[Any]]:
    """Run each sample through the plain runtime, by itself; every tensor, one value a sample."""
    names = [name for node in model.graph.node for name in node.output]
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    runs = [session.run(names, {"x": x[i : i + 1]}) for i in range(len(x))]
    return {name: [run[k] for run in runs] for k, name in enumerate(names)}


def dump(model: onnx.ModelProto, folder: Path, name: str = "s.zarr", **options: Any) -> Any:
    x = heads.samples(SAMPLES)
    np.savez(folder / "data.npz", x=x, y=np.arange(SAMPLES) % 5)
    path = saved(model, folder / "net.onnx")
    return cnatool.dump(
        path, folder / "data.npz", folder / name, overwrite=True,
        statistics=tuple(n for n in STATISTICS if n != "count"), **options,
    )  # fmt: skip


def compare(store: cnatool.Store, alone: Mapping[str, list[Any]]) -> None:
    """Compare all that a store has of each sample with what the sample gives alone."""
    split = store.splits["all"]
    for tensor in store.tensors:
        values = alone[tensor.name]
        for name, function in STATISTICS.items():
            if name not in store.record.statistics:
                continue
            expected = [function(value) for value in values]
            found = split.statistics(name)[:, tensor.number]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4, err_msg=tensor.name)
        if tensor.output is None and tensor.stored is None:
            continue
        whole = tensor.output is None
        array = split.activations(tensor.name) if whole else split.outputs(tensor.output)
        rows = array[:]
        assert isinstance(rows, Ragged) is tensor.varies
        for row, value in zip(rows, values, strict=True):
            assert row.size == value.size, tensor.name
            np.testing.assert_allclose(row, value.reshape(row.shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("keep", "batch"), [("full", None), ("full", 1), ("statistics", 5)], ids=str
)
@pytest.mark.parametrize("kind", heads.MODELS)
def test_each_sample_has_what_it_gives_alone(
    kind: str, batch: int | None, keep: str, tmp_path: Path
) -> None:
    model = heads.MODELS[kind]()
    if kind == "single":
        batch = 1
    store = dump(model, tmp_path, batch_size=batch, keep=keep)
    compare(store, run_alone(model, heads.samples(SAMPLES)))
    names = {output.name for output in store.record.outputs}
    declared = [output.name for output in model.graph.output]
    without = {"anchors"} | ({"mean", "total"} if batch != 1 else set())
    assert [name for name in declared if name not in without] == [
        output.name for output in store.record.outputs
    ], names
    assert cnatool.verify(store.path).faults == ()


def many(folder: Path) -> tuple[Path, Path]:
    """Write a detector and enough data for several commits."""
    np.savez(folder / "data.npz", x=heads.samples(200), y=np.arange(200) % 5)
    return saved(heads.end_to_end(), folder / "net.onnx"), folder / "data.npz"


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_an_interrupted_dump_of_detections_continues(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    network, data = many(tmp_path)
    cnatool.dump(network, data, tmp_path / f"whole.{suffix}")
    path = tmp_path / f"s.{suffix}"
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(network, data, path, observer=Notes(at=150))
    assert 0 < len(cnatool.open(path).splits["all"]) < 200
    cnatool.dump(network, data, path, resume=True)
    same_samples(path, tmp_path / f"whole.{suffix}")


def test_parts_of_a_dump_of_detections_are_merged(tmp_path: Path) -> None:
    network, data = many(tmp_path)
    cnatool.dump(network, data, tmp_path / "whole.zarr")
    parts = [
        cnatool.dump(network, data, tmp_path / f"part{k}.zarr", part=f"{k}/2").path for k in (1, 2)
    ]
    cnatool.merge(parts, tmp_path / "s.zarr")
    same_samples(tmp_path / "s.zarr", tmp_path / "whole.zarr")


def same_samples(path: Path, expected: Path) -> None:
    """Compare the values of all samples of two stores, bit for bit."""
    assert cnatool.verify(path).faults == ()
    found, truth = cnatool.open(path).splits["all"], cnatool.open(expected).splits["all"]
    assert len(found) == len(truth)
    for tensor in truth.store.tensors:
        if tensor.output is None:
            pair = found.activations(tensor.name)[:], truth.activations(tensor.name)[:]
        else:
            pair = found.outputs(tensor.output)[:], truth.outputs(tensor.output)[:]
        for row, other in zip(*pair, strict=True):
            np.testing.assert_array_equal(row, other)
    for name in truth.store.record.statistics:
        np.testing.assert_array_equal(found.statistics(name)[:], truth.statistics(name)[:])


def trimmed() -> onnx.ModelProto:
    """Trim a batch to its longest sample; what comes behind a sample's end is 0."""
    b = Builder(1)
    one = b.constant("one", np.array([1]))
    b.node("Sign", [b.node("Abs", ["x"], "sizes")], "there")
    b.node("ReduceSum", ["there", one], "lengths", keepdims=0)
    b.node("ReduceMax", ["lengths"], "longest", keepdims=1)
    b.node("Cast", ["longest"], "end", to=onnx.TensorProto.INT64)
    b.node("Slice", ["x", b.constant("start", np.array([0])), "end", one], "trimmed")
    b.node("Relu", ["trimmed"], "relu")
    b.gemm("x", "logits", heads.FEATURES, 5)
    shapes = {"relu": (heads.F, ["n", "t"]), "logits": (heads.F, ["n", 5])}
    return heads.model_of(b, shapes)


@pytest.mark.parametrize("equal", [False, True])
def test_a_length_that_is_the_longest_of_a_batch_is_noted(equal: bool, tmp_path: Path) -> None:
    """Also where all samples of the probe have one length."""
    x = heads.samples(SAMPLES)
    lengths = np.where(np.arange(SAMPLES) < 12 * equal, 12, np.arange(SAMPLES) % 12 + 1)
    x[np.arange(heads.FEATURES) >= lengths[:, None]] = 0
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(SAMPLES) % 5)
    path = saved(trimmed(), tmp_path / "net.onnx")
    notes = Notes()
    cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", observer=notes)
    assert any("'trimmed', depend on the other samples of a batch" in n for n in notes.texts)
    alone = cnatool.dump(path, tmp_path / "data.npz", tmp_path / "a.zarr", batch_size=1)
    np.testing.assert_array_equal(alone.splits["all"].activations("trimmed").lengths, lengths)


def test_outputs_that_are_not_stored_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", heads.samples(4))
    model, notes = saved(heads.without_samples(), tmp_path / "net.onnx"), Notes()
    cnatool.dump(model, tmp_path / "data.npy", tmp_path / "s.zarr", observer=notes)
    [text] = [text for text in notes.texts if "outputs of the model are not stored" in text]
    assert text.startswith("3 outputs")
    assert all(repr(name) in text for name in ("mean", "total", "anchors"))
    assert "logits" not in text


def test_an_output_of_which_only_sums_are_kept_is_named(tmp_path: Path) -> None:
    """Of one that is as long as a sample along two axes, there are no whole values."""
    b = Builder(1)
    b.nodes.extend(trimmed().graph.node)
    b.weights.extend(trimmed().graph.initializer)
    b.node("Unsqueeze", ["trimmed", b.constant("last", np.array([2]))], "column")
    b.node("Unsqueeze", ["trimmed", b.constant("middle", np.array([1]))], "line")
    b.node("MatMul", ["column", "line"], "pairs")
    model = heads.model_of(b, {"pairs": (heads.F, ["n", "t", "t"]), "logits": (heads.F, ["n", 5])})
    x = heads.samples(SAMPLES)
    x[np.arange(heads.FEATURES) >= (np.arange(SAMPLES) % 12 + 1)[:, None]] = 0
    np.save(tmp_path / "data.npy", x)
    path, notes = saved(model, tmp_path / "net.onnx"), Notes()
    cnatool.dump(path, tmp_path / "data.npy", tmp_path / "s.zarr", batch_size=1, observer=notes)
    [text] = [text for text in notes.texts if "of the model is not stored" in text]
    assert text.endswith("'pairs' (only its sums are kept, since its shape depends on the data)")


def test_tensors_that_are_not_chosen_need_no_care(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", heads.samples(4))
    model, notes = saved(trimmed(), tmp_path / "net.onnx"), Notes()
    cnatool.dump(
        model, tmp_path / "data.npy", tmp_path / "s.zarr", tensors=["logits"], observer=notes
    )
    assert not any("other samples of a batch" in text for text in notes.texts)
