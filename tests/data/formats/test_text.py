"""Models that take strings are fed texts; α is the entropy over the bytes of their UTF-8."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from support.networks import Builder, saved

import cnatool
from cnatool.errors import CnatoolError, DataError, ModelError

WORDS = ["good", "bad", "film", "plot"]
RNG = np.random.default_rng(0)
TEXTS = [str(word) for word in RNG.choice([*WORDS, "übel", "x y z", "日本"], 40)]
LABELS = RNG.integers(0, 2, 40)


def network(*shape: int, most: int = -1) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Make a network that looks words up itself, of ``most`` texts a run; also its weights."""
    b = Builder(1)
    keys = {"keys_strings": WORDS, "values_int64s": [1, 2, 3, 4], "default_int64": 0}
    b.node("LabelEncoder", ["text"], "number", domain="ai.onnx.ml", **keys)
    b.constant("flat", np.array([most]))
    b.node("Reshape", ["number", "flat"], "flat_number")
    b.node("Gather", [b.weight("table", 5, 6), "flat_number"], "embedded")
    b.node("Relu", [b.gemm("embedded", "fc1", 6, 5)], "relu1")
    b.node("Relu", [b.gemm("relu1", "fc2", 5, 4)], "relu2")
    b.gemm("relu2", "logits", 4, 2)
    model = b.model({}, {"logits": ("n", 2)})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    taken = helper.make_tensor_value_info("text", TensorProto.STRING, ["n", *shape])
    model.graph.input.append(taken)
    return model, {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def entropy(text: str) -> float:
    counts = np.array(list(Counter(text.encode()).values()))
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def written(folder: Path, form: str) -> Path:
    path = folder / f"data.{form.rpartition('.')[2]}"
    frame = pl.DataFrame({"text": TEXTS, "label": LABELS})
    if form == "npz":
        np.savez(path, text=np.array(TEXTS), y=LABELS)
    elif form == "npy":
        np.save(path, np.array(TEXTS)[:, None])
    elif form == "csv":
        frame.write_csv(path)
    elif form == "tsv":
        frame.write_csv(path, separator="\t")
    elif form == "parquet":
        frame.write_parquet(path)
    elif form == "named.parquet":
        names = [["neg", "pos"][label] for label in LABELS]
        pl.DataFrame({"sentence": TEXTS, "label": names}).write_parquet(path)
    else:
        path.write_text("\n".join(TEXTS), "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("form", ["npz", "npy", "csv", "tsv", "parquet", "named.parquet", "txt"])
def test_texts_of_every_form(tmp_path: Path, form: str, suffix: str) -> None:
    if suffix == ".h5" and form != "npz":
        form = "csv"
    model, weights = network(*(() if form == "tsv" else (1,)))
    store = tmp_path / f"s{suffix}"
    cnatool.dump(saved(model, tmp_path / "m.onnx"), written(tmp_path, form), store)
    split = cnatool.open(store).splits["all"]
    numbers = [WORDS.index(text) + 1 if text in WORDS else 0 for text in TEXTS]
    expected = weights["table"][numbers] @ weights["fc1.weight"].T + weights["fc1.bias"]
    np.testing.assert_allclose(split.activations("fc1")[:], expected, 1e-5, 1e-6)
    frame = cnatool.score_samples(store)
    np.testing.assert_allclose(frame["alpha"], [entropy(text) for text in TEXTS], 1e-9, 1e-12)
    if form not in ("npy", "txt"):
        assert split.labels is not None
        assert split.labels[:].tolist() == LABELS.tolist()
    assert split.record.classes == (("neg", "pos") if form == "named.parquet" else None)
    assert cnatool.verify(store).faults == ()


def test_a_graph_that_takes_one_text_a_run(tmp_path: Path) -> None:
    model, weights = network(most=1)
    path = written(tmp_path, "npz")
    store = cnatool.dump(saved(model, tmp_path / "m.onnx"), path, tmp_path / "s.zarr")
    numbers = [WORDS.index(text) + 1 if text in WORDS else 0 for text in TEXTS]
    expected = weights["table"][numbers]
    np.testing.assert_array_equal(store.splits["all"].activations("embedded")[:], expected)


def test_splits_of_texts(tmp_path: Path) -> None:
    model, _ = network(1)
    (tmp_path / "data").mkdir()
    for name in ("train", "test"):
        pl.DataFrame({"text": TEXTS, "label": LABELS}).write_csv(tmp_path / f"data/{name}.csv")
    cnatool.dump(saved(model, tmp_path / "m.onnx"), tmp_path / "data", tmp_path / "s.zarr")
    assert list(cnatool.open(tmp_path / "s.zarr").splits) == ["train", "test"]


@pytest.mark.parametrize("written_as", ["{}", "{}.0", " {}", "+{}"])
def test_labels_beside_texts_are_the_numbers_that_they_say(tmp_path: Path, written_as: str) -> None:
    model, _ = network(1)
    labels = [written_as.format(9 + label) for label in LABELS]
    pl.DataFrame({"text": TEXTS, "label": labels}).write_parquet(tmp_path / "d.parquet")
    store = cnatool.dump(
        saved(model, tmp_path / "m.onnx"), tmp_path / "d.parquet", tmp_path / "s.zarr"
    )
    assert store.splits["all"].labels is not None
    assert store.splits["all"].labels[:].tolist() == (9 + LABELS).tolist()


def test_texts_whose_splits_name_other_classes_are_refused(tmp_path: Path) -> None:
    model, _ = network(1)
    (tmp_path / "data").mkdir()
    for name, classes in (("train", ["a", "b"]), ("test", ["b", "c"])):
        labels = [classes[label] for label in LABELS]
        frame = pl.DataFrame({"text": TEXTS, "label": labels})
        frame.write_csv(tmp_path / f"data/{name}.csv")
    with pytest.raises(DataError, match="class"):
        cnatool.dump(saved(model, tmp_path / "m.onnx"), tmp_path / "data", tmp_path / "s.zarr")


def test_compression_says_why_not(tmp_path: Path) -> None:
    model, _ = network(1)
    cnatool.dump(saved(model, tmp_path / "m.onnx"), written(tmp_path, "csv"), tmp_path / "s.zarr")
    with pytest.raises(CnatoolError, match="depends on their order"):
        cnatool.score(tmp_path / "s.zarr", overrides={"alpha": "compression"})


def test_what_is_no_text(tmp_path: Path) -> None:
    model, _ = network(1)
    path = saved(model, tmp_path / "m.onnx")
    pl.DataFrame({"text": ["a", None, "b"]}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match="column 'text', row 1, is missing"):
        cnatool.dump(path, tmp_path / "d.parquet", tmp_path / "s.zarr")
    np.savez(tmp_path / "d.npz", text=np.array(["a", "b"], object))
    with pytest.raises(DataError, match="Save texts as arrays of strings"):
        cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr")
    (tmp_path / "pictures").mkdir()
    np.savez(tmp_path / "d.npz", text=np.zeros((3, 1)))
    with pytest.raises(DataError, match="row 0: the model takes one text"):
        cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr")
    with pytest.raises(ModelError, match="one can be fed"):
        cnatool.dump(
            saved(network(3)[0], tmp_path / "three.onnx"), tmp_path / "d.npz", tmp_path / "s.zarr"
        )


@pytest.mark.parametrize(
    ("written_as", "meant"),
    [
        (["10", "9", "2", "10"], [10, 9, 2, 10]),
        (["1.0", " 0", "01", "0 "], [1, 0, 1, 0]),
        (["pos", "neg ", " pos", "neg"], [1, 0, 1, 0]),
        (["false", "True", "true", "False"], [0, 1, 1, 0]),
    ],
)
@pytest.mark.parametrize("form", ["npz", "csv", "tsv", "semicolons", "utf-16", "parquet"])
def test_labels_of_texts_mean_what_they_do_in_tables(
    tmp_path: Path, form: str, written_as: list[str], meant: list[int]
) -> None:
    path = tmp_path / f"data.{form if form in ('npz', 'tsv', 'parquet') else 'csv'}"
    frame = pl.DataFrame({"sentence": TEXTS[:4], "label": written_as})
    if form == "npz":
        np.savez(path, text=np.array(TEXTS[:4]), label=np.array(written_as))
    elif form == "parquet":
        frame.write_parquet(path)
    else:
        mark = {"tsv": "\t", "semicolons": ";"}.get(form, ",")
        text = frame.write_csv(separator=mark)
        path.write_text(text, "utf-16" if form == "utf-16" else "utf-8")
    store = cnatool.dump(saved(network()[0], tmp_path / "m.onnx"), path, tmp_path / "s.zarr")
    labels = store.splits["all"].labels
    assert labels is not None
    assert labels[:].tolist() == meant


@pytest.mark.parametrize(
    ("label", "text"),
    [("0.5", "real numbers"), ("", "row 1, has no label"), ("nan", "row 1, has the label 'nan'")],
)
def test_what_is_no_label_of_a_text(tmp_path: Path, label: str, text: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,label\ngood,1\nbad,{label}\n")
    with pytest.raises(DataError, match=text):
        cnatool.dump(saved(network()[0], tmp_path / "m.onnx"), path, tmp_path / "s.zarr")
