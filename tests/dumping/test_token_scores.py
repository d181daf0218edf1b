"""Loss and accuracy of the next token, computed in the graph and from stored scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
from msgspec import UNSET
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support.notes import Notes
from support.token_models import TokenModel

import cnatool
from cnatool.errors import DataError, MetricError
from cnatool.records.choices import Kept

SAMPLES = 12


def draw(length: int, vocabulary: int = 11, seed: int = 1) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, vocabulary, (SAMPLES, length))


def run(model: Path, **feeds: NDArray[Any]) -> NDArray[Any]:
    [logits] = ort.InferenceSession(model).run(["logits"], feeds)
    return logits


def literal(
    logits: NDArray[Any], targets: Sequence[int], *, softmax: bool = False
) -> tuple[float, int]:
    """Return the loss and the right predictions of one sample, token by token."""
    loss, correct = 0.0, 0
    for scores, target in zip(logits.astype(np.longdouble), targets, strict=True):
        if softmax:
            loss -= float(np.log(max(scores[target], np.finfo(np.float32).smallest_subnormal)))
        else:
            top = scores.max()
            loss += float(np.log(np.exp(scores - top).sum()) + top - scores[target])
        correct += int(np.flatnonzero(scores == scores.max())[0] == target)
    return loss, correct


def check(
    store: Path, model: Path, ids: NDArray[Any], mask: NDArray[Any] | None = None, **kind: bool
) -> None:
    feeds = {"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}
    logits = run(model, **feeds)
    logits = logits.reshape(*ids.shape, -1)
    [split] = cnatool.open(store).splits.values()
    numbers = {name: split.token_scores(name)[:] for name in ("loss", "correct", "count")}
    for row in range(len(ids)):
        real = np.flatnonzero(np.ones(ids.shape[1]) if mask is None else mask[row])
        loss, correct = literal(logits[row, real[:-1]], ids[row, real[1:]].tolist(), **kind)
        assert numbers["loss"][row] == pytest.approx(loss, rel=2e-6, abs=1e-5)
        assert numbers["correct"][row] == correct
        assert numbers["count"][row] == max(0, len(real) - 1)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 7),
        ({}, 11),  # as many tokens as there are words
        ({}, 2),
        ({"scale": 1e4}, 7),
        ({"dtype": "float16", "scale": 30}, 7),
        ({"dtype": "float64"}, 7),
        ({"softmax": True, "scale": 3}, 7),
        ({"merged": True}, 7),
        ({"vocabulary": 1}, 3),
    ],
)
def test_numbers_in_the_graph(options: dict[str, Any], length: int, tmp_path: Path) -> None:
    network = TokenModel(**options)
    model = network.save(tmp_path / "m.onnx")
    ids = draw(length, network.vocabulary)
    np.savez(tmp_path / "d.npz", input_ids=ids)
    store = tmp_path / "s.zarr"
    if network.vocabulary == 1:
        cnatool.dump(model, tmp_path / "d.npz", store)
        assert not cnatool.open(store).record.tokens  # one word is no choice
        return
    cnatool.dump(model, tmp_path / "d.npz", store)
    record = cnatool.open(store).record
    assert record.tokens
    assert (record.tokens.output, record.tokens.input) == ("logits", "input_ids")
    assert not record.outputs
    assert not any(t.stored for t in record.tensors if t.shape[-1] == network.classes != 8)
    check(store, model, ids, softmax=network.softmax)
    assert not cnatool.verify(store).faults


def test_stored_scores_give_the_same(tmp_path: Path) -> None:
    model = TokenModel().save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=draw(7))
    for name, tensors in (("a", ["all"]), ("b", ["all", "logits"])):
        cnatool.dump(model, tmp_path / "d.npz", tmp_path / f"{name}.zarr", tensors=tensors)
    assert [o.name for o in cnatool.open(tmp_path / "b.zarr").record.outputs] == ["logits"]
    first, second = (cnatool.score(tmp_path / f"{name}.zarr") for name in "ab")
    assert first.splits["all"].tokens == second.splits["all"].tokens
    assert first.splits["all"].loss == second.splits["all"].loss
    compared = cnatool.compare(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert compared.splits["all"].same_data


def test_padding_does_not_count(tmp_path: Path) -> None:
    model = TokenModel(masked=True).save(tmp_path / "m.onnx")
    ids = draw(7)
    lengths = np.arange(SAMPLES) % 7 + 1
    mask = (np.arange(7) < lengths[:, None]).astype(np.int64)
    for name, real in (("right", mask), ("left", mask[:, ::-1].copy())):
        np.savez(tmp_path / "d.npz", input_ids=ids * real, attention_mask=real)
        store = tmp_path / f"{name}.zarr"
        cnatool.dump(model, tmp_path / "d.npz", store)
        tokens = cnatool.open(store).record.tokens
        assert tokens
        assert tokens.mask == "attention_mask"
        check(store, model, ids * real, real)


def test_padding_that_is_said_to_be_none(tmp_path: Path) -> None:
    model = TokenModel(masked=True).save(tmp_path / "m.onnx")
    mask = np.ones((SAMPLES, 7), np.int64)
    mask[::2, 4:] = 0
    np.savez(tmp_path / "d.npz", input_ids=draw(7), attention_mask=mask)
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr", mask="none")
    store = cnatool.open(tmp_path / "s.zarr")
    assert store.record.tokens
    assert store.record.tokens.mask is None
    assert (store.splits["all"].token_scores("count")[:] == 6).all()


def test_scores_of_tokens_of_any_length_as_rows(tmp_path: Path) -> None:
    network = TokenModel(merged=True)
    model = network.save(tmp_path / "m.onnx")
    rows = [draw(length)[0] for length in (2, 5, 5, 9, 3, 7)]
    frame = pl.DataFrame({"input_ids": [row.tolist() for row in rows]})
    frame.write_parquet(tmp_path / "d.parquet")
    cnatool.dump(model, tmp_path / "d.parquet", tmp_path / "s.zarr")
    [split] = cnatool.open(tmp_path / "s.zarr").splits.values()
    for place, row in enumerate(rows):
        loss, correct = literal(network.logits(row)[:-1], row[1:].tolist())
        assert split.token_scores("loss")[place] == pytest.approx(loss, rel=1e-5)
        assert split.token_scores("correct")[place] == correct


def test_several_outputs_that_score_tokens(tmp_path: Path) -> None:
    model = TokenModel(heads=3).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=draw(7))
    notes = Notes()
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr", observer=notes)
    check(tmp_path / "s.zarr", model, draw(7))
    expected = "'logits1' and 'logits2' score the same tokens, and nothing is computed from them"
    assert any(line.endswith(expected) for line in notes.texts)


def test_a_model_that_reads_both_ways(tmp_path: Path) -> None:
    model = TokenModel(causal=False).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=draw(7))
    notes = Notes()
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr", observer=notes)
    record = cnatool.open(tmp_path / "s.zarr").record
    assert not record.tokens
    assert [o.name for o in record.outputs] == ["logits"]
    assert any("also depend on later tokens" in line for line in notes.texts)
    split = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert (split.accuracy, split.loss, split.tokens) == (None, None, UNSET)


def test_classes_of_tokens_are_no_vocabulary(tmp_path: Path) -> None:
    model = TokenModel(vocabulary=20, classes=5).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=draw(7, 5))
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr")
    assert not cnatool.open(tmp_path / "s.zarr").record.tokens


def test_samples_of_one_token(tmp_path: Path) -> None:
    model = TokenModel().save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=np.arange(11)[:, None])
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr")
    split = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert (split.accuracy, split.loss) == (None, None)
    assert split.performance_reason


def test_scores(tmp_path: Path) -> None:
    model = TokenModel().save(tmp_path / "m.onnx")
    data = {"train": draw(7), "test": draw(7, seed=2)}
    for name, ids in data.items():
        np.savez(tmp_path / f"{name}.npz", input_ids=ids)
    store = tmp_path / "s.zarr"
    cnatool.dump(model, None, store, splits={name: tmp_path / f"{name}.npz" for name in data})
    result = cnatool.score(store)
    losses, shares = {}, {}
    for name, ids in data.items():
        logits = run(model, input_ids=ids)
        found = [literal(logits[i, :-1], ids[i, 1:].tolist()) for i in range(SAMPLES)]
        losses[name] = sum(loss for loss, _ in found) / (6 * SAMPLES)
        shares[name] = sum(correct for _, correct in found) / (6 * SAMPLES)
        split = result.splits[name]
        assert split.tokens
        assert split.loss == pytest.approx(losses[name], rel=1e-6)
        assert split.accuracy == pytest.approx(shares[name], abs=1e-12)
        assert split.tokens.count == 6 * SAMPLES
        assert split.tokens.perplexity == pytest.approx(np.exp(losses[name]), rel=1e-5)
        groups = [group for group in split.alpha_groups if group.samples]
        mean = sum(group.samples * (group.loss or 0) for group in groups) / SAMPLES
        assert mean == pytest.approx(losses[name], rel=1e-6)
    assert result.gap_loss.value == pytest.approx(abs(losses["train"] - losses["test"]), rel=1e-5)
    assert result.gap_accuracy.value == pytest.approx(shares["train"] - shares["test"], abs=1e-12)
    assert result.margin.value is None
    assert "scores of each next token" in (result.margin.reason or "")
    frame = cnatool.score_samples(store)
    assert frame.columns[-2:] == ["tokens", "loss"]
    assert frame["tokens"].to_list() == [6] * 2 * SAMPLES
    assert (frame["loss"] * frame["tokens"]).sum() / (6 * 2 * SAMPLES) == pytest.approx(
        (losses["train"] + losses["test"]) / 2, rel=1e-6
    )


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_stores_keep_the_numbers(suffix: str, tmp_path: Path) -> None:
    model = TokenModel().save(tmp_path / "m.onnx")
    ids = draw(7)
    np.savez(tmp_path / "d.npz", input_ids=ids)
    first = tmp_path / f"a.{suffix}"
    cnatool.dump(model, tmp_path / "d.npz", first)
    other = tmp_path / ("b.h5" if suffix == "zarr" else "b.zarr")
    cnatool.convert(first, other)
    for part in (1, 2):
        cnatool.dump(model, tmp_path / "d.npz", tmp_path / f"p{part}.zarr", part=f"{part}/2")
    for copy in (False, True):
        parts = [tmp_path / "p1.zarr", tmp_path / "p2.zarr"]
        cnatool.merge(parts, tmp_path / f"m{copy}.zarr", copy=copy)
    for store in (first, other, tmp_path / "mFalse.zarr", tmp_path / "mTrue.zarr"):
        check(store, model, ids)
        assert not cnatool.verify(store).faults


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"classes": 5, "masked": True},
        {"causal": False, "masked": True},
        {"masked": True},
        {"vocabulary": 1200, "causal": False},
    ],
)
def test_labels_of_tokens(options: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    network = TokenModel(**({"vocabulary": 20} | options))
    model = network.save(tmp_path / "m.onnx")
    rng = np.random.default_rng(5)
    ids = rng.integers(0, network.vocabulary, (SAMPLES, 7))
    mask = np.arange(7) < np.arange(SAMPLES)[:, None] % 7 + 1
    if not network.masked:
        mask[:] = True
    # Whatever padding is labelled with, it does not count.
    labels = rng.integers(0, network.classes, ids.shape)
    labels[mask & (rng.random(ids.shape) < 0.4)] = -100
    feeds = {"input_ids": ids}
    if network.masked:
        feeds["attention_mask"] = mask.astype(np.int64)
    np.savez(tmp_path / "d.npz", label=labels, **feeds)
    store = tmp_path / "s.zarr"
    cnatool.dump(model, tmp_path / "d.npz", store, tensors=["all", "logits"] if kept else ["all"])
    record = cnatool.open(store).record
    in_graph = not kept and network.classes == network.vocabulary
    assert bool(record.tokens) == in_graph
    assert bool(record.outputs) != in_graph
    chosen = mask & (labels != -100)
    logits = run(model, **feeds)
    loss, correct = literal(logits[chosen], labels[chosen].tolist())
    split = cnatool.score(store).splits["all"]
    assert split.tokens
    assert (split.tokens.targets, split.tokens.count) == ("labels", chosen.sum())
    assert split.loss == pytest.approx(loss / chosen.sum(), rel=1e-6)
    assert split.accuracy == pytest.approx(correct / chosen.sum(), abs=1e-12)
    assert not cnatool.verify(store).faults


@pytest.mark.parametrize("keep", ["full", "statistics"])
def test_scores_that_a_dump_leaves_out_are_stored_as_the_error_says(
    keep: Kept, tmp_path: Path
) -> None:
    network = TokenModel(vocabulary=20)
    model = network.save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=draw(7))
    store = tmp_path / "s.zarr"
    split = cnatool.dump(model, tmp_path / "d.npz", store, keep=keep).splits["all"]
    with pytest.raises(MetricError, match="dump again and add 'logits' to `tensors`"):
        split.activations("logits")
    stored = cnatool.dump(
        model, tmp_path / "d.npz", store, keep=keep, tensors=["all", "logits"], overwrite=True
    )
    assert len(stored.splits["all"].activations("logits")) == SAMPLES


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_labels_belong_to_real_tokens(left: bool, padding: bool, tmp_path: Path) -> None:
    model = TokenModel(masked=True).save(tmp_path / "m.onnx")
    ids, labels = draw(7), draw(7, seed=2)
    mask = np.arange(7) < np.arange(SAMPLES)[:, None] % 7 + 1
    mask = mask[:, ::-1] if left else mask
    feeds = {"input_ids": ids * mask, "attention_mask": mask.astype(np.int64)}
    given = [
        row.tolist() if padding else row[real].tolist()
        for row, real in zip(labels, mask, strict=True)
    ]
    columns = {
        name: pl.Series(value.tolist(), dtype=pl.Array(pl.Int64, 7))
        for name, value in feeds.items()
    }
    pl.DataFrame({**columns, "label": given}).write_parquet(tmp_path / "d.parquet")
    store = cnatool.dump(model, tmp_path / "d.parquet", tmp_path / "s.zarr", keep="statistics")
    split, logits = store.splits["all"], run(model, **feeds)
    for row, real in enumerate(mask):
        loss, correct = literal(logits[row, real], labels[row, real].tolist())
        assert split.token_scores("loss")[row] == pytest.approx(loss, rel=2e-6, abs=1e-5)
        assert split.token_scores("correct")[row] == correct
        assert split.token_scores("count")[row] == real.sum()


@pytest.mark.parametrize(
    ("change", "text"),
    [(lambda row: row[:-1], "has 4 labels and 5 tokens"), (lambda row: [20, *row[1:]], "label 20")],
)
def test_labels_that_do_not_fit_are_refused(change: Any, text: str, tmp_path: Path) -> None:
    model = TokenModel(vocabulary=20, causal=False).save(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 20, n).tolist() for n in (3, 4, 5, 6)]
    labels = [list(row) for row in ids]
    labels[2] = change(labels[2])
    pl.DataFrame({"input_ids": ids, "label": labels}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=text):
        cnatool.dump(model, tmp_path / "d.parquet", tmp_path / "s.zarr")


def test_scores_of_a_vocabulary_are_not_stored_unasked(tmp_path: Path) -> None:
    model = TokenModel(vocabulary=1200, causal=False).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=draw(7, 1200))
    notes = Notes()
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr", observer=notes)
    record = cnatool.open(tmp_path / "s.zarr").record
    assert not record.outputs
    assert not any(t.stored for t in record.tensors if t.shape[-1] == 1200)
    assert any("masked language model" in line for line in notes.texts)
    reason = cnatool.score(tmp_path / "s.zarr").splits["all"].performance_reason
    assert reason


def test_samples_of_any_length(tmp_path: Path) -> None:
    network = TokenModel()
    model = network.save(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 11, n) for n in (3, 1, 7, 7, 2, 9, 3)]
    pl.DataFrame({"input_ids": [row.tolist() for row in ids]}).write_parquet(tmp_path / "d.parquet")
    for name, tensors in (("a", ["all"]), ("b", ["all", "logits"])):
        store = tmp_path / f"{name}.zarr"
        cnatool.dump(model, tmp_path / "d.parquet", store, tensors=tensors)
        [split] = cnatool.open(store).splits.values()
        for row, sample in enumerate(ids):
            logits = run(model, input_ids=sample[None])[0]
            loss, correct = literal(logits[:-1], sample[1:].tolist())
            assert split.token_scores("loss")[row] == pytest.approx(loss, rel=2e-6, abs=1e-5)
            assert split.token_scores("correct")[row] == correct
            assert split.token_scores("count")[row] == len(sample) - 1
        assert not cnatool.verify(store).faults


def test_the_mask_of_an_encoder_is_none_of_the_decoder(tmp_path: Path) -> None:
    rng, length = np.random.default_rng(0), 6
    weights = {
        "table": rng.normal(size=(11, 8)).astype(np.float32),
        "words": rng.normal(size=(11, 8)).astype(np.float32),
        "head": rng.normal(size=(8, 11)).astype(np.float32),
        "one": np.array([1]),
        "two": np.array([2]),
        "axis": np.array(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["read"]),
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real", "two"], ["column"]),
        helper.make_node("Mul", ["read", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["context"], keepdims=1),
        helper.make_node("Gather", ["words", "decoder_input_ids"], ["written"]),
        helper.make_node("CumSum", ["written", "axis"], ["so far"]),
        helper.make_node("Add", ["so far", "context"], ["stream"]),
        helper.make_node("MatMul", ["stream", "head"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", size])
        for name, size in (("input_ids", "s"), ("attention_mask", "s"), ("decoder_input_ids", "t"))
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "t", 11])
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "both", inputs, [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    real = (np.arange(length) < rng.integers(2, length + 1, SAMPLES)[:, None]).astype(np.int64)
    ids = {
        "input_ids": rng.integers(1, 11, (SAMPLES, length)) * real,
        "decoder_input_ids": rng.integers(1, 11, (SAMPLES, length)),
    }
    np.savez(tmp_path / "d.npz", attention_mask=real, **ids)
    notes = Notes()
    store = cnatool.dump(
        tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "s.zarr", observer=notes
    )
    assert store.record.mask
    assert store.record.tokens
    assert (store.record.tokens.input, store.record.tokens.mask) == ("decoder_input_ids", None)
    counts = store.splits["all"].token_scores("count")[:]
    assert counts.tolist() == [length - 1] * SAMPLES
    assert any(
        "padding of 'decoder_input_ids', if there is any, counts" in line for line in notes.texts
    )


@pytest.mark.parametrize("headless", [False, True])
def test_a_hidden_state_as_wide_as_the_vocabulary_is_no_score(
    headless: bool, tmp_path: Path
) -> None:
    path = TokenModel(vocabulary=8, width=8).save(tmp_path / "m.onnx")
    model = onnx.load(path)
    stream = helper.make_tensor_value_info("stream", TensorProto.FLOAT, ["batch", "length", 8])
    model.graph.output.insert(0, stream)
    if headless:
        del model.graph.output[1]
    onnx.save(model, path)
    np.savez(tmp_path / "d.npz", input_ids=draw(6, 8))
    record = cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr").record
    assert (record.tokens.output if record.tokens else None) == (None if headless else "logits")
