"""What cnatool is compared with: the loops over ONNX Runtime that a user would write."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from cases import Case
from numpy.typing import NDArray

PROVIDERS = ("CPUExecutionProvider",)
Floats = NDArray[np.float32]


def read_batches(case: Case, batch: int, rows: int | None = None) -> Iterator[Floats]:
    """Read the images and divide them by 255, a batch at a time."""
    rows = min(rows or case.rows, case.rows)
    if case.images.suffix == ".npy":
        pixels = np.load(case.images, mmap_mode="r")
    else:
        with gzip.open(case.images) as stream:
            content = stream.read()
        pixels = np.frombuffer(content, np.uint8, offset=16).reshape(-1, *case.network.shape)
    for start in range(0, rows, batch):
        part = pixels[start : min(start + batch, rows)]
        yield part.astype(np.float32) / np.float32(255)


def run_inference(
    case: Case,
    batch: int,
    rows: int | None = None,
    providers: Sequence[str | tuple[str, dict[str, str]]] = PROVIDERS,
) -> None:
    """Run the model and discard the results."""
    session = ort.InferenceSession(case.model, providers=providers)
    _run(session, case, batch, rows, lambda arrays: None)


def run_all_outputs(case: Case, batch: int, rows: int | None = None) -> None:
    """Run the model, fetch every tensor, and discard the results."""
    _run(open_exposed(case.model), case, batch, rows, lambda arrays: None)


def write_all_outputs(case: Case, folder: Path, batch: int, rows: int | None = None) -> None:
    """Run the model, and append every tensor to a file, which is synced at the end."""
    folder.mkdir()
    session = open_exposed(case.model)
    with ExitStack() as stack:
        files = [
            stack.enter_context((folder / str(number)).open("wb"))
            for number in range(len(session.get_outputs()))
        ]

        def write(arrays: list[Floats]) -> None:
            for array, file in zip(arrays, files, strict=True):
                array.tofile(file)

        _run(session, case, batch, rows, write)
        for file in files:
            os.fsync(file.fileno())


def compute_all_outputs(case: Case, batch: int) -> list[Floats]:
    """Return every tensor of the first batch."""
    arrays: list[Floats] = []
    _run(open_exposed(case.model), case, batch, batch, arrays.extend)
    return arrays


def write_bytes(arrays: list[Floats], rows: int, folder: Path) -> None:
    """Write as many bytes as all tensors have, one file for each, synced at the end."""
    folder.mkdir()
    with ExitStack() as stack:
        files = [
            stack.enter_context((folder / str(number)).open("wb")) for number in range(len(arrays))
        ]
        for start in range(0, rows, len(arrays[0])):
            for array, file in zip(arrays, files, strict=True):
                array[: rows - start].tofile(file)
        for file in files:
            os.fsync(file.fileno())


def expose_tensors(model: Path) -> onnx.ModelProto:
    """Return the model with every tensor as an output."""
    loaded = onnx.load(model)
    names = [name for node in loaded.graph.node for name in node.output]
    outputs = {output.name for output in loaded.graph.output}
    loaded.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in outputs)
    return loaded


def open_exposed(model: Path) -> ort.InferenceSession:
    """Open a session that returns every tensor."""
    content = expose_tensors(model).SerializeToString()
    return ort.InferenceSession(content, providers=PROVIDERS)


def _run(
    session: ort.InferenceSession,
    case: Case,
    batch: int,
    rows: int | None,
    use: Callable[[list[Floats]], None],
) -> None:
    name = session.get_inputs()[0].name
    for values in read_batches(case, batch, rows):
        use(session.run(None, {name: values}))
