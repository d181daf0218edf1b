"""Models in other formats than ONNX: how they are recognised, and how to export them."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from cnatool._util.local_paths import LFS_ADVICE, LFS_SIGNATURE
from cnatool._util.text import quote_for_shell
from cnatool._util.urls import ObjectURL
from cnatool.errors import ModelError
from cnatool.store.format_table import holds_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TORCH = (
    "Build the network, load its weights, and export it: torch.onnx.export(network.eval(), "
    "(example,), 'model.onnx', dynamo=True)"
)
_TORCH_PROGRAM = "Load it and export it: torch.onnx.export(program, (example,), 'model.onnx')"
_KERAS = (
    "Load it with keras.models.load_model and export it: model.export('model.onnx', format='onnx')"
)
_TENSORFLOW = (
    "Convert it with tf2onnx: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"
)
_TFLITE = "Convert it with tf2onnx: python -m tf2onnx.convert --tflite FILE --output model.onnx"
_OTHER = "Give the .onnx file that it was made from, or export the network to ONNX"
# Place and bytes of a signature, what the file is, and what to do.
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, LFS_SIGNATURE, "a Git LFS pointer, not the model that it stands for", LFS_ADVICE),
    (
        4,
        b"ORTM",
        "in ONNX Runtime's own format, in which tensors have no names left to expose",
        "Give the .onnx file it was made from",
    ),
    (4, b"TFL3", "a TensorFlow Lite model", _TFLITE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes", _KERAS),
    (0, b"GGUF", "a GGUF file, which holds weights without a graph", _OTHER),
    (0, b"\x93NUMPY", "a NumPy array", "Give the model first, then the data"),
    (0, b"\x1f\x8b", "compressed with gzip", "Unpack it with gunzip"),
    (0, b"<?xml", "an XML file, such as OpenVINO writes", _OTHER),
    (
        0,
        b"<",
        "a web page, not the model that it shows",
        "Download the file itself; pages of repositories have a link to the raw file",
    ),
)
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE = (
    "a pickle, such as PyTorch and scikit-learn write, and is not opened",
    "Load it where you trust it, and export the network to ONNX with torch.onnx.export or skl2onnx",
)


def check_is_onnx(path: Path, content: memoryview) -> None:
    """Refuse a file of another known format."""
    for what, way in _known(path, content):
        raise ModelError(f"{path} is {what}. {way}.")


def _known(path: Path, content: memoryview) -> Iterator[tuple[str, str]]:
    if not content:
        yield "empty", "Export or download it anew"
    for start, signature, what, way in _SIGNATURES:
        if content[start : start + len(signature)] == signature:
            yield what, way
    head = bytes(content[:9])
    if head.startswith(_PICKLES):
        yield _PICKLE
    if head.startswith(b"PK\x03\x04"):
        yield _zip(content)
    header = int.from_bytes(head[:8], "little")
    if head[8:] == b"{" and 2 <= header <= len(content) - 8:
        yield "a safetensors file, which holds weights without a graph", _TORCH
    if path.suffix == ".pb" and path.name.startswith(("saved_model", "keras_metadata")):
        yield "part of a TensorFlow SavedModel", _TENSORFLOW


def _zip(content: memoryview) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a zip archive that is cut short or damaged", "Download it anew"
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        return "a TorchScript program", _TORCH_PROGRAM
    if "data.pkl" in last:
        return "a PyTorch checkpoint, which holds weights without a graph", _TORCH
    if {"serialized_exported_program.json", "archive_format"} & last:
        return "a program of torch.export", _TORCH_PROGRAM
    if "model.weights.h5" in last:
        return "a Keras model", _KERAS
    if any(name.endswith(".npy") for name in last):
        return "a .npz file of arrays", "Give the model first, then the data"
    inside = next((name for name in sorted(names) if name.endswith(".onnx")), None)
    if inside is not None:
        return f"a zip archive that holds {inside!r}", "Unpack it, and give that file"
    return "a zip archive, not an ONNX model", _OTHER


def refuse_store(path: Path) -> None:
    """Raise ModelError for a store that is passed as a model."""
    if holds_store(path):
        raise ModelError(
            f"{path} is a store, not a model. Give the .onnx file whose activations it holds; "
            f"`cnatool inspect {quote_for_shell(path)}` shows what is in it."
        )


def folder_text(path: Path) -> str:
    """Describe a folder that is passed as a model, and what to pass instead."""
    if (path / "saved_model.pb").exists():
        return f"{path} is a TensorFlow SavedModel. {_TENSORFLOW.replace('FOLDER', str(path))}."
    if isinstance(path, ObjectURL):
        return f"{path} is a folder. Name the .onnx object or the store in it."
    models = sorted(file.name for file in path.glob("*.onnx"))
    if models:
        return f"{path} is a folder. Give a file in it: {', '.join(models[:5])}."
    weights = ("*.safetensors", "pytorch_model*.bin", "*.pt", "*.pth")
    if any(file for pattern in weights for file in path.glob(pattern)):
        return (
            f"{path} is a folder with weights and no .onnx file. Export the network to ONNX first, "
            "with torch.onnx.export or `optimum-cli export onnx`."
        )
    return f"{path} is a folder. Name the .onnx file in it."
