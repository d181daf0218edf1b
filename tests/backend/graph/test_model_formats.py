"""What is given as a model and is none in ONNX: said what it is, and what to do."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.networks import Builder, mlp, saved

import cnatool
from cnatool.backend.graph.graph import load_graph
from cnatool.backend.inputs import Samples
from cnatool.backend.network import open_network
from cnatool.backend.session import RunOptions
from cnatool.errors import ModelError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 98765432\n"


def archive(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), b"\x80\x02}q\x00.")
    return made.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.parametrize(
    ("name", "content", "what", "way"),
    [
        ("net.onnx", POINTER, "Git LFS pointer", "git lfs pull"),
        ("net.onnx", b"", "is empty", "anew"),
        ("net.onnx", b"<!DOCTYPE html><html>", "web page", "raw file"),
        ("net.onnx", b"\n\n<html>", "not an ONNX model", ""),
        (
            "net.pt",
            archive("net/data.pkl", "net/data/0"),
            "PyTorch checkpoint",
            "torch.onnx.export",
        ),
        ("net.pth", archive("net/data.pkl"), "PyTorch checkpoint", "onnx.export"),
        (
            "net.pt",
            archive("net/constants.pkl", "net/data.pkl"),
            "TorchScript",
            "torch.onnx.export",
        ),
        ("net.pt2", archive("p/archive_format", "p/data"), "torch.export", "onnx.export"),
        ("net.pkl", pickle.dumps({"w": 1}), "a pickle", "skl2onnx"),
        ("net.safetensors", safetensors(), "safetensors", "onnx.export"),
        ("net.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite", "--tflite"),
        ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5", "model.export"),
        ("net.keras", archive("config.json", "model.weights.h5"), "Keras model", "model.export"),
        ("saved_model.pb", b"\x08\x01\x12\x02\x0a\0", "SavedModel", "tf2onnx"),
        ("net.zip", archive("a/net.onnx"), "holds 'a/net.onnx'", "Unpack"),
        ("net.zip", archive("a")[:30], "cut short or damaged", ""),
        ("data.npz", archive("x.npy"), "arrays", "model first"),
        ("net.onnx.gz", b"\x1f\x8b\x08" + bytes(20), "gzip", "gunzip"),
        ("net.gguf", b"GGUF" + bytes(20), "GGUF", "ONNX"),
    ],
)
def test_files(name: str, content: bytes, what: str, way: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_graph(path)
    assert what in str(caught.value)
    assert way in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Linear(2, 2)
    for old in (False, True):
        torch.save(
            network.state_dict(), tmp_path / "net.pt", _use_new_zipfile_serialization=not old
        )
        with pytest.raises(ModelError, match="a pickle" if old else "a PyTorch checkpoint"):
            load_graph(tmp_path / "net.pt")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder\. Name the \.onnx file"):
        load_graph(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(safetensors())
    with pytest.raises(ModelError, match=r"weights and no \.onnx file"):
        load_graph(tmp_path)
    saved(mlp(), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"Give a file in it: net\.onnx\."):
        load_graph(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match=f"SavedModel.*--saved-model {tmp_path}"):
        load_graph(tmp_path)


@pytest.mark.parametrize("name", ["net.zarr", "net.h5"])
def test_a_store_is_no_model(name: str, tmp_path: Path) -> None:
    """Also where the path of the store that a dump would write is by default the same."""
    values = np.zeros((2, 3), np.float32)
    with cnatool.create_store(tmp_path / name, tensors=["fc"]) as store:
        store.append("train", inputs=values, outputs=values, activations={"fc": values})
    for call in (cnatool.dump, cnatool.preflight, lambda model, _: load_graph(model)):
        with pytest.raises(ModelError, match=f"{name} is a store, not a model.*cnatool inspect"):
            call(tmp_path / name, tmp_path / "data.npz")
    assert not cnatool.verify(tmp_path / name).faults


def test_external_weights_that_were_not_downloaded(tmp_path: Path) -> None:
    onnx.save(
        mlp(), tmp_path / "net.onnx", save_as_external_data=True, location="net.data",
        size_threshold=0,
    )  # fmt: skip
    (tmp_path / "net.data").write_bytes(POINTER)
    with pytest.raises(ModelError, match="'net.data' beside the model.* Git LFS pointer"):
        load_graph(tmp_path / "net.onnx")


@pytest.mark.parametrize("imported", [True, False])
def test_custom_operator_without_its_library(imported: bool, tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "hidden")
    b.nodes.append(onnx.helper.make_node("Blur", ["hidden"], ["y"], domain="my.ops"))
    model = b.model({"x": ("n", 4)}, {"y": ("n", 4)})
    if imported:
        model.opset_import.append(onnx.helper.make_opsetid("my.ops", 1))
    network = open_network(saved(model, tmp_path / "net.onnx"))
    samples = Samples({"x": np.zeros((3, 4), np.float32)})
    with pytest.raises(ModelError, match=r"Blur.*name its library with `custom_ops=\[FILE\]`\."):
        network.probe(samples, bound=None, run=RunOptions())


def test_operator_of_a_known_domain_that_is_not_imported(tmp_path: Path) -> None:
    b = Builder()
    b.nodes.append(onnx.helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"))
    model = b.model({"x": ("n", 4)}, {"y": ("n", 4)})
    del model.opset_import[1:]
    graph = load_graph(saved(model, tmp_path / "net.onnx"))
    assert {o.domain: o.version for o in graph.model.opset_import} == {"": 17, "com.microsoft": 1}
