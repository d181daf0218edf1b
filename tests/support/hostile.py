"""Attributes of stores as someone hostile writes them: every field of the schema, every value."""

from __future__ import annotations

import json
import math
import resource
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
from hypothesis import strategies as st
from msgspec import inspect as mi

import cnatool
from cnatool.records.store import StoreRecord
from cnatool.store.integrity import attribute_checksum
from support.networks import mlp, saved

SCHEMA = mi.type_info(StoreRecord)
# A number that JSON can write and no float is.
_HUGE = "\ue000huge\ue000"
_INTS = [0, 1, -1, 2, 3, 7, 300, 1 << 31, 1 << 53, (1 << 53) + 1, -(1 << 63), 10**40]
_FLOATS: list[Any] = [0.0, -0.0, -1.0, 5e-324, 1e308, -1e308, math.nan, math.inf, _HUGE]
_TEXTS = [
    "",
    "\0",
    "a\0b",
    "\x1b[31m",
    "\u202e\u2066",
    "\ud800",
    "\n",
    " ",
    "..",
    "../../x",
    "/dev/zero",
    "ids",
    "a.zarr",
    "float32",
    "float16",
    "int8",
    "uint64",
    "object",
    "U5",
    "M8[s]",
    "complex64",
    "f4",
    "sum",
    "count",
    "paper",
    "fc1",
    "relu1",
    "logits",
    "activations/0",
    "0" * 64,
    "=1+1",
    "x" * 70_000,
]


def described_store(folder: Path) -> Path:
    """Dump a store whose attribute has something in every part; give its path."""
    rng = np.random.default_rng(3)
    saved(mlp((16, 6, 5, 3), batch=2), folder / "net.onnx")
    saved(mlp((16, 6, 5, 3), seed=1, batch=2), folder / "initial.onnx")
    for name, rows in (("train", 32), ("test", 28)):
        x = rng.integers(0, 256, (rows, 4, 4), np.uint8)
        np.savez(folder / f"{name}.npz", x=x, y=np.arange(rows) % 3)
    path = folder / "store.zarr"
    cnatool.dump(
        folder / "net.onnx",
        splits={name: folder / f"{name}.npz" for name in ("train", "test")},
        store=path,
        initial_model=folder / "initial.onnx",
        flatness=True,
        statistics="all",
        tags={"epoch": "3"},
        mean=(0.5,),
        std=(0.25,),
    )
    return path


def plain_attribute(store: Path) -> dict[str, Any]:
    """Give a Zarr store's attribute."""
    content = json.loads((store / "zarr.json").read_text())
    attribute: dict[str, Any] = content["attributes"]["cnatool"]
    return attribute


def full_attribute(store: Path) -> dict[str, Any]:
    """Give a Zarr store's attribute, with something in the parts that a dump leaves empty."""
    attribute = plain_attribute(store)
    attribute["constants"] = [
        {"input": "keep", "dtype": "float32", "shape": [1], "value": 1.0, "sha256": "0" * 64}
    ]
    attribute["skipped"] = [{"name": "s", "operator": "Shape", "reason": "it has no sample axis"}]
    attribute["unselected"] = [
        {"name": "u", "operator": "Relu", "role": "activation", "dtype": "float32"}
    ]
    noise = {"sigma": 0.1, "above": 0.2, "accuracy": 0.5, "reason": None}
    measured = {"split": "train", "samples": 32, "output": "logits", "accuracy": 0.5, "weights": 9}
    sums = {"square_sum": 4.0, "distance_square_sum": 2.0, "log_sum": -3.0, "epsilon": 1e-3}
    attribute["flatness"] |= {**measured, **sums, "plain": noise, "magnitude": dict(noise)}
    attribute["flatness"] |= {"distance_log_sum": -4.0, "reason": None}
    for split in attribute["splits"].values():
        split["classes"] = ["a", "b", "c"]
        split["skipped"] = [{"id": "bad.png", "reason": "it is cut short"}]
        split["available"] += 1
    return attribute


@st.composite
def changed_attributes(draw: st.DrawFn, attribute: Mapping[str, Any]) -> str:
    """Draw an attribute with one to three parts changed, as JSON."""
    changed = json.loads(json.dumps(attribute))
    for _ in range(draw(st.integers(1, 3))):
        places: dict[tuple[str, ...], list[tuple[Any, Any, mi.Type]]] = {}
        for place, holder, key, kind in _places(changed, SCHEMA, ()):
            places.setdefault(place, []).append((holder, key, kind))
        # By the place in the schema: there are more tensors than anything else.
        holder, key, kind = draw(st.sampled_from(places[draw(st.sampled_from(sorted(places)))]))
        _change(draw, holder, key, kind)
    return json.dumps(changed).replace(json.dumps(_HUGE), "1e400")


def _change(draw: st.DrawFn, holder: Any, key: Any, kind: mi.Type) -> None:
    value = holder[key]
    ways = ["new", "new", "new"]
    ways += ["null"] * (isinstance(kind, mi.UnionType))
    ways += ["other type"] * draw(st.sampled_from([0, 0, 1]))
    if isinstance(value, list | dict) and not isinstance(_plain(kind), mi.StructType):
        ways += ["empty", "shorter", "shorter"] + ["repeated", "swapped"] * isinstance(value, list)
        ways += ["renamed"] * isinstance(value, dict)
    way = draw(st.sampled_from(ways))
    if way == "new" or (way in ("shorter", "repeated", "swapped", "renamed") and not value):
        holder[key] = draw(values(kind))
    elif way == "null":
        holder[key] = None
    elif way == "other type":
        holder[key] = draw(st.sampled_from([None, True, 1, 1.5, "x", [], {}, [[]], {"": 0}]))
    elif way == "empty":
        holder[key] = type(value)()
    elif isinstance(value, dict):
        name = draw(st.sampled_from(sorted(value)))
        part = value.pop(name)
        if way == "renamed":
            value[draw(values(mi.StrType()))] = part
    elif way == "shorter":
        del value[draw(st.integers(0, len(value) - 1))]
    elif way == "repeated":
        value.append(json.loads(json.dumps(draw(st.sampled_from(value)))))
    else:
        value.reverse()


def values(kind: mi.Type) -> st.SearchStrategy[Any]:
    """Give values of a type of the schema, as what JSON has."""
    return st.deferred(lambda: _values(kind))


def _values(kind: mi.Type) -> st.SearchStrategy[Any]:
    if isinstance(kind, mi.Metadata):
        return _values(kind.type)
    if isinstance(kind, mi.UnionType):
        return st.one_of(*map(values, kind.types))
    if isinstance(kind, mi.NoneType):
        return st.none()
    if isinstance(kind, mi.BoolType):
        return st.booleans()
    if isinstance(kind, mi.IntType):
        return st.sampled_from(_INTS) | st.integers(-3, 20)
    if isinstance(kind, mi.FloatType):
        return st.sampled_from(_FLOATS) | st.floats(-2, 2)
    if isinstance(kind, mi.StrType):
        return st.sampled_from(_TEXTS) | st.text(max_size=5)
    if isinstance(kind, mi.LiteralType):
        return st.sampled_from(sorted(kind.values))
    if isinstance(kind, mi.VarTupleType | mi.ListType):
        return st.lists(values(kind.item_type), max_size=3)
    if isinstance(kind, mi.TupleType):
        return st.tuples(*map(values, kind.item_types)).map(list)
    if isinstance(kind, mi.DictType):
        return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=3)
    assert isinstance(kind, mi.StructType), kind
    return st.fixed_dictionaries({field.encode_name: values(field.type) for field in kind.fields})


def _places(
    value: Any, kind: mi.Type, place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any, mi.Type]]:
    """Give where each part of an attribute is: in the schema, and in what holds it."""
    kind = _fitting(value, kind)
    parts: list[tuple[str, Any, mi.Type]] = []
    if isinstance(kind, mi.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        parts = [(name, name, fields[name]) for name in value if name in fields]
    elif isinstance(kind, mi.DictType) and isinstance(value, dict):
        parts = [("*", name, kind.value_type) for name in value]
    elif isinstance(kind, mi.VarTupleType) and isinstance(value, list):
        parts = [("*", number, kind.item_type) for number in range(len(value))]
    elif isinstance(kind, mi.TupleType) and isinstance(value, list):
        parts = [("*", number, each) for number, each in enumerate(kind.item_types[: len(value)])]
    for name, key, inner in parts:
        yield (*place, name), value, key, inner
        yield from _places(value[key], inner, (*place, name))


def _fitting(value: Any, kind: mi.Type) -> mi.Type:
    kind = _plain(kind)
    if not isinstance(kind, mi.UnionType):
        return kind
    wanted: Any = (mi.VarTupleType, mi.TupleType) if isinstance(value, list) else mi.NoneType
    wanted = (mi.StructType, mi.DictType) if isinstance(value, dict) else wanted
    return next((each for each in kind.types if isinstance(_plain(each), wanted)), kind)


def _plain(kind: mi.Type) -> mi.Type:
    return _plain(kind.type) if isinstance(kind, mi.Metadata) else kind


def put_attribute(store: Path, attribute: str, *, checksum: bool) -> None:
    """Give a store an attribute, with the checksum that fits it or with none."""
    found = None
    if checksum:
        try:
            found = attribute_checksum(attribute.encode())
        except (msgspec.DecodeError, UnicodeError):
            found = "00000000"
    if store.is_dir():
        path = store / "zarr.json"
        content = json.loads(path.read_text())
        content["attributes"] = {"cnatool": "\ue001"}
        if found is not None:
            content["attributes"]["cnatool_crc32c"] = found
        path.write_text(json.dumps(content).replace(json.dumps("\ue001"), attribute))
        return
    with h5py.File(store, "r+") as root:
        for name, text in (("cnatool", attribute), ("cnatool_crc32c", found)):
            if name in root.attrs:
                del root.attrs[name]
            if text is not None:
                root.attrs[name] = text


def copied(store: Path, target: Path) -> Path:
    """Copy a store over another."""
    if store.is_dir():
        shutil.copytree(store, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(store, target)
    return target


@contextmanager
def little_memory(most: int = 1 << 30) -> Iterator[None]:
    """Let no more be allocated than so many bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
