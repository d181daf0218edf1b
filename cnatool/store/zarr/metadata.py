"""The ``zarr.json`` files of a store, written and parsed without zarr.

zarr takes milliseconds to create or open an array, and a network has thousands. The files are what
zarr would write. To recognise an array of cnatool, its metadata are derived again from its shape,
type, chunks and compressor, and compared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from cnatool._util.bfloat16 import BFLOAT16
from cnatool._util.files import read_regular
from cnatool._util.local_paths import real_path
from cnatool._util.text import one_line
from cnatool.store.zarr.compression import (
    BLOSC_LEVEL,
    BLOSC_LEVELS,
    COMPRESSORS,
    Compressor,
    make_compressor,
)
from cnatool.store.zarr.shard import MOST_CHUNKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from cnatool.records.choices import Codec

# Attribute of the root that describes the store.
ATTRIBUTE = "cnatool"
# Attribute of the root: the checksum of the other.
CHECKSUM = "cnatool_crc32c"
# Rows of an array that grows, until their number is known.
MANY_ROWS = 1 << 40
# Attribute of an array of 16-bit integers that are the bits of bfloat16.
_BFLOAT16 = {"bits_of": "bfloat16"}
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKSUM = {"name": "crc32c"}
# Exceptions of reading and decoding JSON of any content.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Everything that distinguishes the arrays that cnatool writes."""

    shape: tuple[int, ...]  # rows first
    dtype: np.dtype[Any] | type[str]  # str for text
    chunk_rows: int
    codec: Codec
    axes: tuple[str, ...]  # names
    shard_chunks: int  # chunks per shard
    attributes: Mapping[str, Any] = field(default_factory=dict)  # for other programs
    # Of LZ4 and Zstandard; earlier versions had another.
    level: int = BLOSC_LEVEL

    @property
    def is_bfloat16(self) -> bool:
        """Whether the values are the bits of bfloat16, which zarr has no type for."""
        return self.dtype == BFLOAT16

    @property
    def compressor(self) -> Compressor:
        """Compressor of chunks."""
        return make_compressor(self.codec, self.level)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of a chunk; Zarr allows no axis of length 0."""
        return (self.chunk_rows, *(max(1, size) for size in self.shape[1:]))

    def metadata(self) -> dict[str, Any]:
        """Build the content of the array's ``zarr.json``."""
        chunk = list(self.chunk_shape)
        if isinstance(self.dtype, np.dtype):
            plain = np.dtype(np.uint16) if self.is_bfloat16 else self.dtype
            name, item = plain.name, plain.itemsize
            fill: object = plain.type(0).item()
            serializer: dict[str, Any] = _LITTLE if item > 1 else {"name": "bytes"}
        else:
            name, item, fill = "string", 1, ""
            serializer = {"name": "vlen-utf8", "configuration": {}}
        sharding = {
            "chunk_shape": chunk,
            "codecs": [serializer, *self.compressor.metadata(item), _CHECKSUM],
            "index_codecs": [_LITTLE, _CHECKSUM],
            "index_location": "start",
        }
        shard = [chunk[0] * self.shard_chunks, *chunk[1:]]
        return {
            "shape": list(self.shape),
            "data_type": name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            # A shard is a file in the array's own folder, not at the end of a path of folders.
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": fill,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {**self.attributes, **(_BFLOAT16 if self.is_bfloat16 else {})},
            "dimension_names": list(self.axes),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }

    def json(self) -> bytes:
        """Encode the content of the array's ``zarr.json``."""
        return msgspec.json.encode(self.metadata())


def array_attributes(name: str | None) -> dict[str, str]:
    """Build the attributes of an array from its name, which other programs show."""
    return {"long_name": name} if name else {}


def parse_array(content: bytes) -> ArrayLayout | None:
    """Parse an array's ``zarr.json``; return None if cnatool does not write such arrays."""
    try:
        metadata = msgspec.json.decode(content)
        name = metadata["data_type"]
        codecs = metadata["codecs"][0]["configuration"]
        shape = tuple(metadata["shape"])
        axes = metadata.get("dimension_names")
        configurations = (step.get("configuration", {}) for step in codecs["codecs"])
        level = next((each["clevel"] for each in configurations if "clevel" in each), BLOSC_LEVEL)
        if type(level) is not int or level not in BLOSC_LEVELS:
            return None
        chunk_rows = codecs["chunk_shape"][0]
        shard_rows = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        if {type(chunk_rows), type(shard_rows)} != {int}:
            return None
        if not 0 < shard_rows // chunk_rows <= MOST_CHUNKS:
            return None
        for codec in COMPRESSORS:
            layout = ArrayLayout(
                shape=shape,
                dtype=str if name == "string" else _number_dtype(name, metadata),
                chunk_rows=chunk_rows,
                codec=codec,
                axes=("",) * len(shape) if axes is None else tuple(axes),
                shard_chunks=shard_rows // chunk_rows,
                attributes=dict(metadata.get("attributes", {})),
                level=level,
            )
            # Neither changes the values of the array.
            names = {"attributes": layout.attributes, "dimension_names": list(layout.axes)}
            plain = {**metadata, **names}
            if layout.metadata() == plain:
                return layout
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
        pass  # zarr describes the problem
    return None


def _number_dtype(name: str, metadata: dict[str, Any]) -> np.dtype[Any]:
    if holds_bfloat16(name, metadata.get("attributes", {})):
        return BFLOAT16
    return np.dtype(name)


def holds_bfloat16(data_type: str, attributes: Mapping[str, Any]) -> bool:
    """Whether an array's type and attributes say that it holds the bits of bfloat16."""
    return data_type == "uint16" and _BFLOAT16.items() <= attributes.items()


class GroupMetadata(msgspec.Struct, frozen=True):
    """Content of a group's ``zarr.json``."""

    zarr_format: Literal[3]
    node_type: Literal["group"]
    attributes: dict[str, msgspec.Raw] = {}

    def attribute(self) -> bytes | None:
        """Return the store's attribute as JSON; None if there is none."""
        value = self.attributes.get(ATTRIBUTE)
        return None if value is None else bytes(value)

    def checksum(self) -> str | None:
        """Return the attribute's committed checksum; None if there is none."""
        value = self.attributes.get(CHECKSUM)
        return None if value is None else str(msgspec.json.decode(value))


_GROUP_FIELDS = {"zarr_format", "node_type", "attributes", "consolidated_metadata"}


# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_GROUP = msgspec.json.Decoder(GroupMetadata)


def parse_group(content: bytes) -> GroupMetadata:
    """Parse a group's ``zarr.json``.

    Raises ValueError if it is invalid or has an unknown field that must be understood.
    """
    fields = _FIELDS.decode(content)
    for name in fields.keys() - _GROUP_FIELDS:
        value = msgspec.json.decode(fields[name])
        if not isinstance(value, dict) or value.get("must_understand", True) is not False:
            raise ValueError(f"unknown field {name!r}")
    return _GROUP.decode(content)


class _Node(msgspec.Struct):
    node_type: str


class _Consolidated(msgspec.Struct, frozen=True):
    metadata: dict[str, msgspec.Raw] = {}


class _Root(msgspec.Struct):
    consolidated_metadata: _Consolidated = _Consolidated()


_ROOT, _NODE = msgspec.json.Decoder(_Root), msgspec.json.Decoder(_Node)


def parse_arrays(content: bytes) -> dict[str, bytes]:
    """Return the metadata of every array, by path, that a root's ``zarr.json`` includes."""
    nodes = _ROOT.decode(content).consolidated_metadata.metadata
    return {path: bytes(n) for path, n in nodes.items() if _NODE.decode(n).node_type == "array"}


def encode_group(
    attributes: Mapping[str, bytes], arrays: Mapping[str, bytes] | None = None
) -> bytes:
    """Build a group's ``zarr.json`` from its attributes, as JSON.

    With ``arrays``, the ``zarr.json`` of every array below it by path, it includes the consolidated
    metadata of all arrays and groups below, so that other libraries open them in one read.
    """
    text = msgspec.json.encode(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {name: msgspec.Raw(value) for name, value in attributes.items()},
        }
    )
    text = msgspec.json.format(text, indent=2)
    if arrays is None:
        return text
    # With thousands of arrays, indentation would be half of the text.
    consolidated = msgspec.json.encode(_consolidated(_nodes(arrays)))
    return text[: text.rindex(b"\n")] + b',\n  "consolidated_metadata": ' + consolidated + b"\n}"


def _nodes(arrays: Mapping[str, bytes]) -> dict[str, Any]:
    empty = {
        "attributes": {},
        "zarr_format": 3,
        "consolidated_metadata": _consolidated({}),
        "node_type": "group",
    }
    nodes: dict[str, Any] = {}
    # Statistics of units come when other splits are there already, and zarr-python reads no group
    # whose arrays are apart.
    splits: dict[str, list[str]] = {}
    for path in arrays:
        splits.setdefault("/".join(path.split("/")[:2]), []).append(path)
    for path in chain.from_iterable(splits.values()):
        metadata = arrays[path]
        steps = path.split("/")
        for depth in range(1, len(steps)):
            nodes.setdefault("/".join(steps[:depth]), empty)
        nodes[path] = msgspec.Raw(metadata)
    return nodes


def _consolidated(nodes: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "inline", "must_understand": False, "metadata": nodes}


def find_metadata_faults(store: Path) -> Iterator[tuple[str, str]]:
    """Find faults in metadata of a store on disk that reading its arrays does not reveal."""
    nodes = (folder.relative_to(store).as_posix() for folder in _node_folders(store))
    yield from compare_metadata(lambda name: read_regular(store / name), nodes)


def compare_metadata(
    read: Callable[[str], bytes], leaves: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Find faults in metadata that other libraries read and cnatool does not.

    ``read`` returns a file of the store, or raises FileNotFoundError; ``leaves`` are the folders
    that contain metadata or chunks.

    Splits and statistics of units that the attribute does not list are ignored: their arrays are
    being created or deleted, or a killed writer left them.
    """
    try:
        root = _decode_object(read("zarr.json"))
    except _UNREADABLE as error:
        yield "zarr.json", f"the metadata cannot be read ({one_line(error)})"
        return
    consolidated = root.get("consolidated_metadata")
    listed = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    if consolidated is not None and not isinstance(listed, dict):
        yield "zarr.json", "the consolidated metadata contain no table"
    splits = _attribute_splits(root)
    metadata_by_key: dict[str, object] = {}
    folders = map(PurePosixPath, leaves)
    for folder in sorted({up for leaf in folders for up in (leaf, *leaf.parents)}):
        key = str(folder)
        if key == ".":
            continue
        if splits is not None and _is_unlisted(key, splits):
            continue
        try:
            content = read(f"{key}/zarr.json")
            metadata_by_key[key] = metadata = _decode_object(content)
            if metadata["node_type"] != "array":
                parse_group(content)
        except FileNotFoundError:
            yield key, "zarr.json is missing"
        except _UNREADABLE as error:
            yield key, f"zarr.json cannot be read ({one_line(error)})"
    if isinstance(listed, dict):
        for key in sorted(metadata_by_key.keys() | listed.keys()):
            entry = listed.get(key)
            if isinstance(entry, dict):
                entry = {k: v for k, v in entry.items() if k != "consolidated_metadata"}
            if entry != metadata_by_key.get(key):
                yield key, "the consolidated metadata in the root's zarr.json differ from it"


def _node_folders(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """List the folders that contain metadata or chunks; follow links, but no cycle of them."""
    real = real_path(folder)
    if real in above:
        return
    with os.scandir(folder) as scanned:
        entries = list(scanned)
    if any(e.name == "zarr.json" or fnmatchcase(e.name, "c*.0*") for e in entries):
        yield folder
    for entry in entries:
        if _is_folder(entry):
            yield from _node_folders(folder / entry.name, above | {real})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _decode_object(content: bytes) -> dict[str, Any]:
    """Decode a JSON object; raise ValueError if it is none."""
    metadata = msgspec.json.decode(content)
    if not isinstance(metadata, dict):
        raise ValueError("it is not an object")
    return metadata


def _attribute_splits(root: dict[str, Any]) -> dict[str, str | None] | None:
    """Return the group of each split's statistics of units, by the attribute; None without one."""
    attributes = root.get("attributes")
    about = attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None
    splits = about.get("splits") if isinstance(about, dict) else None
    if not isinstance(splits, dict):
        return None
    states = {
        n: each.get("units") if isinstance(each, dict) else None for n, each in splits.items()
    }
    return {
        name: str(state.get("rows")) if isinstance(state, dict) else None
        for name, state in states.items()
    }


def _is_unlisted(key: str, splits: Mapping[str, str | None]) -> bool:
    """Whether a node belongs to a split, or to statistics of units, that are not listed."""
    match key.split("/"):
        case "splits", name, *_ if name not in splits:
            return True
        case "splits", name, "units", *rest:
            return splits[name] is None or (bool(rest) and rest[0] != splits[name])
    return False
