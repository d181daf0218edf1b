"""Labels of tokens: stored as lists, and compared with the scores of each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from msgspec import UNSET
from numpy.typing import NDArray
from support.dumps import commit_often, same_arrays
from support.notes import Notes
from support.token_models import TokenModel

import cnatool
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

SAMPLES, CLASSES = 12, 5


def literal(logits: NDArray[Any], labels: list[int]) -> tuple[float, int, int]:
    """Return loss, right predictions and number of the labels of one sample."""
    loss, correct, count = 0.0, 0, 0
    for scores, label in zip(logits.astype(np.float64), labels, strict=True):
        if label != -100:
            loss += np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label]
            correct += int(scores.argmax() == label)
            count += 1
    return loss, correct, count


def check(store: Path, logits: list[NDArray[Any]], labels: list[list[int]]) -> None:
    """Compare the scores of a store's only split with those of a loop."""
    found = np.array([literal(*pair) for pair in zip(logits, labels, strict=True)])
    [split] = cnatool.score(store).splits.values()
    assert split.tokens
    assert split.tokens.targets == "labels"
    assert split.tokens.count == found[:, 2].sum()
    assert split.loss == pytest.approx(found[:, 0].sum() / found[:, 2].sum(), rel=1e-6)
    assert split.accuracy == pytest.approx(found[:, 1].sum() / found[:, 2].sum(), abs=1e-12)
    frame = cnatool.score_samples(store)
    assert frame["tokens"].to_list() == found[:, 2].tolist()
    assert frame["label"].null_count() == len(labels)
    some = found[:, 2] > 0
    assert frame["loss"].is_null().to_list() == (~some).tolist()
    means = found[some, 0] / found[some, 2]
    assert frame["loss"].drop_nulls().to_list() == pytest.approx(means, rel=1e-6)


def labelled_tokens(
    tmp_path: Path, samples: int = SAMPLES
) -> tuple[Path, list[NDArray[Any]], list[list[int]]]:
    """Write a model of 20 words and 5 classes, and samples with labels of some tokens."""
    rng = np.random.default_rng(3)
    model = TokenModel(vocabulary=20, classes=CLASSES).save(tmp_path / "m.onnx")
    ids = rng.integers(0, 20, (samples, 7))
    labels = rng.integers(0, CLASSES, ids.shape)
    labels[rng.random(ids.shape) < 0.3] = -100
    labels[4] = -100
    np.savez(tmp_path / "d.npz", input_ids=ids, labels=labels)
    [logits] = ort.InferenceSession(model).run(["logits"], {"input_ids": ids})
    return model, list(logits), labels.tolist()


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_a_label_for_each_token(suffix: str, tmp_path: Path) -> None:
    model, logits, labels = labelled_tokens(tmp_path)
    store = tmp_path / f"s.{suffix}"
    cnatool.dump(model, tmp_path / "d.npz", store)
    [split] = cnatool.open(store).splits.values()
    assert split.labels is not None
    assert [row.tolist() for row in split.labels[:]] == labels
    check(store, logits, labels)
    assert not cnatool.verify(store).faults
    other = tmp_path / ("o.h5" if suffix == "zarr" else "o.zarr")
    cnatool.convert(store, other)
    for part in (1, 2):
        cnatool.dump(model, tmp_path / "d.npz", tmp_path / f"p{part}.zarr", part=f"{part}/2")
    for copy in (False, True):
        parts = [tmp_path / "p1.zarr", tmp_path / "p2.zarr"]
        cnatool.merge(parts, tmp_path / f"m{copy}.zarr", copy=copy)
    for same in (other, tmp_path / "mFalse.zarr", tmp_path / "mTrue.zarr"):
        check(same, logits, labels)
        assert not cnatool.verify(same).faults
        compared = cnatool.compare(store, same).splits["all"]
        assert (compared.labels, compared.same_data) == (1.0, True)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_resumed_labels(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, logits, labels = labelled_tokens(tmp_path, 150)
    store, whole = tmp_path / f"s.{suffix}", tmp_path / f"w.{suffix}"
    commit_often(monkeypatch)
    cnatool.dump(model, tmp_path / "d.npz", whole, batch_size=16)
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(model, tmp_path / "d.npz", store, batch_size=16, observer=Notes("all", 100))
    assert len(cnatool.open(store).splits["all"]) in (64, 128)
    data = dict(np.load(tmp_path / "d.npz"))
    other = tmp_path / "other" / "d.npz"
    other.parent.mkdir()
    np.savez(other, **(data | {"labels": np.where(np.arange(150) == 3, 1, data["labels"].T).T}))
    with pytest.raises(DataError, match=r"row 3 .* does not have the labels"):
        cnatool.dump(model, other, store, batch_size=16, resume=True)
    cnatool.dump(model, tmp_path / "d.npz", store, batch_size=16, resume=True)
    same_arrays(store, whole)
    check(store, logits, labels)


def test_an_offset_leaves_tokens_without_a_label(tmp_path: Path) -> None:
    model, logits, labels = labelled_tokens(tmp_path)
    data = dict(np.load(tmp_path / "d.npz"))
    data["labels"][data["labels"] >= 0] += 1
    np.savez(tmp_path / "d.npz", **data)
    cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr", label_offset=-1)
    check(tmp_path / "s.zarr", logits, labels)


def test_one_hot_labels_are_still_refused(tmp_path: Path) -> None:
    model = TokenModel(vocabulary=20, classes=CLASSES).save(tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", input_ids=np.zeros((4, 7), int), labels=np.eye(4, 5, dtype=int))
    with pytest.raises(DataError, match="argmax"):
        cnatool.dump(model, tmp_path / "d.npz", tmp_path / "s.zarr")


def record(path: Path, lengths: list[int], labels: Any) -> list[NDArray[Any]]:
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(n, CLASSES)).astype(np.float32) for n in lengths]
    ids = [rng.integers(0, 9, n) for n in lengths]
    sums = [row.sum(axis=1, keepdims=True) for row in logits]
    with cnatool.create_store(
        path,
        tensors=["fc1", "fc2", "logits"],
        outputs=["logits"],
        inputs=["input_ids"],
        ragged=["fc1", "fc2", "logits", "input_ids"],
    ) as store:
        for start in range(0, len(lengths), 3):
            part = slice(start, start + 3)
            store.append(
                "all",
                inputs=ids[part],
                outputs=logits[part],
                activations={"fc1": sums[part], "fc2": sums[part]},
                labels=None if labels is None else labels[part],
            )
    return logits


@pytest.mark.parametrize("form", ["lists", "arrays", "ragged"])
def test_recorded_lists(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = [4, 0, 7, 1, 3, 3, 2]
    labels = [rng.integers(0, CLASSES, n).tolist() for n in lengths]
    labels[2][1:3] = [-100, -100]
    given: Any = labels
    if form == "arrays":
        given = [np.array(row, np.int32) for row in labels]
    if form == "ragged":
        given = Ragged.join([np.array(row, np.int64) for row in labels])
    logits = record(tmp_path / "s.zarr", lengths, given)
    check(tmp_path / "s.zarr", logits, labels)
    assert not cnatool.verify(tmp_path / "s.zarr").faults
    dataset = cnatool.open(tmp_path / "s.zarr").splits["all"].to_xarray()
    assert dataset["label"].values.tolist() == [label for row in labels for label in row]
    assert dataset["label_length"].values.tolist() == lengths


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda labels: labels[3].append(1), "sample row 3 has 2 labels and scores for 1 token"),
        (lambda labels: labels[2].__setitem__(4, 5), "sample row 2 has the label 5"),
        (lambda labels: labels[2].__setitem__(4, -1), "sample row 2 has the label -1"),
    ],
)
def test_labels_that_do_not_fit(change: Any, reason: str, tmp_path: Path) -> None:
    lengths = [4, 0, 7, 1, 3]
    labels = [[0] * n for n in lengths]
    change(labels)
    record(tmp_path / "s.zarr", lengths, labels)
    split = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert (split.accuracy, split.loss) == (None, None)
    assert reason in (split.performance_reason or "")


def test_no_token_has_a_label(tmp_path: Path) -> None:
    record(tmp_path / "s.zarr", [2, 3], [[-100, -100], [-100] * 3])
    split = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert split.performance_reason == "no token has a label (other than -100)"


def test_named_scores_of_a_recorded_store_are_of_the_next_token(tmp_path: Path) -> None:
    lengths = [4, 0, 7, 1, 3]
    record(tmp_path / "s.zarr", lengths, None)
    store = cnatool.open(tmp_path / "s.zarr").splits["all"]
    ids, logits = (list(array[:]) for array in (store.inputs(), store.outputs()))
    if any(max(row, default=0) >= CLASSES for row in ids):
        split = cnatool.score(tmp_path / "s.zarr", output="logits").splits["all"]
        assert "and the output scores 5 classes" in (split.performance_reason or "")
    assert cnatool.score(tmp_path / "s.zarr").splits["all"].tokens is UNSET
    assert len(ids) == len(logits)


def test_single_labels_and_lists_are_not_mixed(tmp_path: Path) -> None:
    one: Any = [[1, 2], 3]
    with pytest.raises(DataError, match="labels"):
        record(tmp_path / "a.zarr", [2, 1], one)
    with pytest.raises(DataError, match="expected 2 integers, or a list of integers for each"):
        record(tmp_path / "b.zarr", [2, 2], np.zeros((2, 2), int))


def test_lists_without_scores_for_each(tmp_path: Path) -> None:
    with cnatool.create_store(
        tmp_path / "s.zarr", tensors=["fc1", "logits"], outputs=["logits"]
    ) as store:
        store.append(
            "all",
            inputs=np.ones((2, 3)),
            outputs=np.ones((2, 4), np.float32),
            activations={"fc1": np.ones((2, 2), np.float32)},
            labels=[[1, 2], [3]],
        )
    split = cnatool.score(tmp_path / "s.zarr").splits["all"]
    assert split.performance_reason == (
        "a sample has a list of labels, and output 'logits' does not have scores for each of them"
    )
