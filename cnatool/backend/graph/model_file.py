"""The files of a model: its graph and weights read, its digests computed meanwhile."""

from __future__ import annotations

import hashlib
import mmap
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
from google.protobuf.message import DecodeError, Message

from cnatool._util.local_paths import LFS_ADVICE, is_lfs_pointer, real_path
from cnatool._util.threads import compute_beside
from cnatool._util.urls import ObjectURL
from cnatool.backend.graph.inline_weights import lies_apart, take_weights
from cnatool.backend.graph.model_formats import check_is_onnx
from cnatool.backend.graph.nodes import subgraphs
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model."""

    path: Path
    size: int
    digest: Future[str]  # its SHA-256, which a thread computes meanwhile

    @property
    def sha256(self) -> str:
        """The SHA-256 of its content."""
        return self.digest.result()


class ReadModel(NamedTuple):
    """A model as its file holds it."""

    model: onnx.ModelProto  # without external weights and ``weights``
    weights: dict[str, NDArray[Any]]  # large initializers, by name
    file: ModelFile


def read_model(path: Path) -> ReadModel:
    """Read the file of a model."""
    content = _map_file(path)
    # Mapped no longer than until this returns: a file may not be cut short meanwhile.
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(_digest, content)
        check_is_onnx(path, content)
        rest, weights = take_weights(content)
        model = _parse(path, rest, len(content))
    return ReadModel(model, weights, ModelFile(path, len(content), digest))


def _map_file(path: Path) -> memoryview:
    """Map a file into memory; what is no ordinary file is read instead."""
    with path.open("rb") as file:
        try:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):  # a pipe, or an empty file
            return memoryview(file.read())


def _digest(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parse(path: Path, content: bytes, size: int) -> onnx.ModelProto:
    model = onnx.ModelProto()
    # Some versions of protobuf refuse text that is not UTF-8 while parsing, others when it is read.
    try:
        model.ParseFromString(content)
        damaged = _has_bytes_for_text(model)
    except DecodeError as error:
        raise ModelError(
            f"{path} is not an ONNX model, or was cut short ({size} bytes). Export it anew."
        ) from error
    except UnicodeDecodeError:
        damaged = True
    if damaged:
        raise ModelError(f"{path} holds a name that is not UTF-8: it is damaged. Export it anew.")
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError(f"{path} is not an ONNX model: it holds no graph.")
    if not model.graph.node:
        raise ModelError(f"{path}: the graph has no nodes, so there is nothing to run.")
    return model


def _has_bytes_for_text(message: Message) -> bool:
    """Whether a text field of a message is not UTF-8, for which protobuf returns bytes."""
    for kind, value in message.ListFields():
        if isinstance(value, Message):
            if _has_bytes_for_text(value):
                return True
        elif kind.type == kind.TYPE_MESSAGE:
            if any(_has_bytes_for_text(part) for part in value):
                return True
        elif kind.type == kind.TYPE_STRING:
            parts = [value] if isinstance(value, str | bytes) else value
            if any(isinstance(part, bytes) for part in parts):
                return True
    return False


def list_external_files(path: Path, model: onnx.ModelProto) -> list[ModelFile]:
    """List the files of a model's external weights."""
    files = list(_check_external_files(path, model))
    digests = compute_beside(_digest_file, files)
    return [
        ModelFile(file, file.stat().st_size, digest)
        for file, digest in zip(files, digests, strict=True)
    ]


def _check_external_files(path: Path, model: onnx.ModelProto) -> Iterator[Path]:
    """Yield the paths of external weights, all beside the model."""
    folder = real_path(path.parent)
    last: dict[str, tuple[int, str]] = {}  # where the last weight in each file ends, and its name
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not lies_apart(tensor):
            place = {entry.key: entry.value for entry in tensor.external_data}
            if "location" in place:
                weight = _end(place), tensor.name
                last[place["location"]] = max(weight, last.get(place["location"], weight))
    for location, (end, name) in sorted(last.items()):
        if isinstance(path, ObjectURL):
            raise ModelError(
                f"{path}: weight {name!r} is in a file of its own, {location!r}, which is read "
                "from a disk only. Copy both to one folder on a disk."
            )
        try:
            file = real_path(folder / location.replace("\0", ""))
            exists = file.is_file()
        except OSError as error:
            raise ModelError(
                f"{path}: weight {name!r} should be in a file that cannot exist: {error.strerror}."
            ) from error
        if "\0" in location or not file.is_relative_to(folder):
            raise ModelError(
                f"{path}: weight {name!r} lies outside the model's folder, at {location!r}. "
                "Move it beside the model and export anew."
            )
        if not exists:
            raise ModelError(
                f"{path}: weight {name!r} should be in {location!r} beside the model, and that "
                "file is not there."
            )
        if is_lfs_pointer(file):
            raise ModelError(
                f"{path}: {location!r} beside the model, which holds weight {name!r}, is a Git LFS "
                f"pointer. {LFS_ADVICE}."
            )
        size = file.stat().st_size
        if size < end:
            raise ModelError(
                f"{path}: weight {name!r} ends at byte {end} of {location!r} beside the model, "
                f"which has {size} bytes: that file was cut short. Copy or export it anew."
            )
        yield file


def _end(place: Mapping[str, str]) -> int:
    """Return the byte at which an external weight ends; 0 where only the runtime knows."""
    try:
        return int(place.get("offset", "0")) + int(place["length"])
    except (KeyError, ValueError):
        return 0


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant of a graph: initializers, attributes, and those of its subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for inner in subgraphs(node):
            yield from _tensors(inner)
