"""What the store's attribute is checked for: every contradiction has its words, in every format."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from support.hostile import copied, described_store, full_attribute, put_attribute

import cnatool
from cnatool.errors import NotAStoreError, StoreDamagedError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return described_store(tmp_path_factory.mktemp("whole"))


def tensor(number: int = 0, **changes: Any) -> Change:
    return lambda a: a["tensors"][number].update(changes)


def output(**changes: Any) -> Change:
    return lambda a: next(t for t in a["tensors"] if t["output"] is not None).update(changes)


def part(*keys: Any, **changes: Any) -> Change:
    def change(attribute: Any) -> None:
        for key in keys:
            attribute = attribute[key]
        attribute.update(changes)

    return change


CHANGES: list[tuple[str, Change]] = [
    ("consists of no files", part("model", files=[])),
    ("consists of no files", part("initial", files=[])),
    ("is not a SHA-256", part("model", "files", 0, sha256="../x")),
    ("has -1 bytes", part("model", "files", 0, bytes=-1)),
    ("impossible versions", part("model", opsets={"": 10**30})),
    ("batches of 0", part("runtime", batch_size=0)),
    ("-1 threads", part("runtime", threads=-1)),
    ("1000000 threads", part("runtime", threads=10**6)),
    ("is not a statistic", part(statistics=["sum", "../../x"])),
    ("two statistics", part(statistics=["sum", "sum"])),
    ("two inputs", lambda a: a["inputs"].append(a["inputs"][0])),
    ("magnitudes of 1", part(magnitudes=[1.0])),
    ("which is not text", part("inputs", 0, kind="text")),
    ("not a type of ids", part("inputs", 0, kind="tokens", dtype="float32")),
    ("not a type of amplitudes", part("inputs", 0, kind="sound", dtype="bool")),
    ("no input whose values are amplitudes", part("outputs", 0, kind="sound")),
    ("special tokens, but is no input of token ids", part("inputs", 0, special=[0])),
    ("magnitude is negative", lambda a: a["magnitudes"].__setitem__(0, -1.0)),
    ("not numbered", part("layers", 0, number=7)),
    ("not numbered", lambda a: a["layers"].reverse()),
    ("unknown type", tensor(dtype="object")),
    ("unknown type", tensor(dtype="f4")),
    ("unknown type", tensor(stored="float8")),
    ("cannot be narrowed", tensor(stored="int8")),
    ("are kept, but it is stored whole", tensor(kept="statistics")),
    ("along axis 9", tensor(batch_axis=9)),
    ("along axis -1", tensor(batch_axis=-1)),
    ("impossible shape", tensor(shape=[1] * 70)),
    ("impossible shape", tensor(shape=[0, 10**30])),
    ("impossible shape", tensor(shape=[-1])),
    ("stored a second time", output(stored="float32")),
    ("should be output", output(shape=[2])),
    ("is the same output|are the same output", lambda a: output(output=0)(a) or _twice(a)),
    ("but the preprocessing of", lambda a: a["preprocessing"].append(a["preprocessing"][0])),
    ("unknown type", part("preprocessing", 0, dtype="M8[s]")),
    ("impossible shape", part("preprocessing", 0, shape=[-3])),
    ("standard deviation of 0", part("preprocessing", 0, std=[0.0])),
    ("impossible shape", part("constants", 0, shape=[10**30])),
    ("is not a SHA-256", part("constants", 0, sha256="")),
    ("is not a fingerprint", part("splits", "train", fingerprint="x")),
    (
        "is not a fingerprint",
        part("splits", "train", inputs_from={"store": "a.zarr", "fingerprint": "\0"}),
    ),
    ("of a source with -5", part("splits", "train", available=-5)),
    ("of a source with 3", part("splits", "train", available=3)),
    ("claims to have committed", part("splits", "test", committed=[[0, 0], [0, 28]])),
    ("differ only in case", lambda a: a["splits"].update(TEST=a["splits"]["test"])),
    ("cannot share the weights", part("weights", "layers", 0, same_as=5)),
    ("have 0 blocks", part("weights", "layers", 0, blocks=0)),
    ("impossible shape", part("weights", "layers", 0, shape=[1 << 40, 1 << 40])),
    ("its depth is impossible", part("weights", depth=10**30)),
    ("fall in accuracy", part("flatness", "settings", target=0.0)),
    ("no samples or no draws", part("flatness", samples=0)),
    ("not between 0 and 1", part("flatness", accuracy=2.0)),
    ("has no weights or", part("flatness", weights=None, reason="so")),
    ("has no weights or", part("flatness", weights=10**30)),
]


def _twice(attribute: dict[str, Any]) -> None:
    made = next(t for t in attribute["tensors"] if t["output"] is not None)
    other = next(t for t in attribute["tensors"] if t["output"] is None)
    fields = ("output", "shape", "dtype", "stored", "batch_axis")
    other.update({field: made[field] for field in fields})


@pytest.mark.parametrize(("text", "change"), CHANGES)
def test_contradictions(text: str, change: Change, whole: Path, tmp_path: Path) -> None:
    attribute = full_attribute(whole)
    store = copied(whole, tmp_path / "s.zarr")
    put_attribute(store, json.dumps(attribute), checksum=True)
    cnatool.open(store)
    change(attribute)
    put_attribute(store, json.dumps(attribute), checksum=True)
    with pytest.raises(StoreDamagedError, match=text):
        cnatool.open(store)
    assert [fault.where for fault in cnatool.verify(store).faults] == ["attribute"]


def _raw(store: Path, old: bytes, new: bytes) -> None:
    path = store / "zarr.json"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"node_type"', b'"node_typ\xe9"'),
        (b'"created_by"', b'"created_b\xff"'),
        (b'"consolidated_metadata": {', b'"consolidated_metadata": {"\xe9": 1, '),
        (b'"attributes": {', b'"attributes": {"other": "\x80", '),
        (b'"attributes": {', b'"attributes": {"other": ' + b"[" * 9999 + b"]" * 9999 + b", "),
        (b'"cnatool_crc32c": "', b'"cnatool_crc32c": "\xc3'),
        (b'"data_type":"float32"', b'"data_type":"float\xb2"'),
    ],
)
def test_metadata_of_any_bytes(old: bytes, new: bytes, whole: Path, tmp_path: Path) -> None:
    store = copied(whole, tmp_path / "s.zarr")
    _raw(store, old, new)
    verified = cnatool.verify(store)
    assert verified.faults
    for fault in verified.faults:
        assert len(fault.problem) < 500


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"", b"[]", b"null", b"[" * 99999, b'{"node_type": "\xe9"}', b'{"a": 1e999}'],
)
@pytest.mark.parametrize("place", ["splits", "splits/train/labels", "splits/train/inputs/0"])
def test_metadata_below_the_root(content: bytes, place: str, whole: Path, tmp_path: Path) -> None:
    store = copied(whole, tmp_path / "s.zarr")
    (store / place / "zarr.json").write_bytes(content)
    assert any(fault.where == place for fault in cnatool.verify(store).faults)


@pytest.mark.parametrize("name", ["cnatool", "cnatool_crc32c"])
@pytest.mark.parametrize("value", [b"\xff\xfe", "\ud800", 3.5, [b"a", b"b"], h5py.Empty("S1")])
def test_attributes_of_hdf5_that_are_no_text(
    name: str, value: Any, whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.h5"
    cnatool.convert(whole, store)
    with h5py.File(store, "r+") as root:
        del root.attrs[name]
        if isinstance(value, str):
            value = value.encode(errors="surrogatepass")
            root.attrs.create(name, value, dtype=h5py.string_dtype())
        else:
            root.attrs[name] = value
    with pytest.raises(StoreDamagedError):
        cnatool.open(store)
    assert cnatool.verify(store).faults


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize(
    "place", ["zarr.json", "splits/train/zarr.json", "splits/train/ids/zarr.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "itself"])
def test_no_regular_file_inside_a_store(place: str, kind: str, whole: Path, tmp_path: Path) -> None:
    store = copied(whole, tmp_path / "s.zarr")
    path = store / place
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    assert cnatool.verify(store).faults


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "itself"])
@pytest.mark.parametrize("name", ["s.zarr", "s.h5", "s.zarr.zip", "s"])
def test_no_regular_file_as_a_store(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises((NotAStoreError, StoreDamagedError)):
        cnatool.open(path)


def test_rows_that_are_nowhere_are_not_read_to_their_end(whole: Path, tmp_path: Path) -> None:
    store = copied(whole, tmp_path / "s.zarr")
    attribute = full_attribute(whole)
    rows = 1 << 50
    for split in attribute["splits"].values():
        split.update(rows=rows, committed=[[0, rows]], checksums=None, available=None)
    put_attribute(store, json.dumps(attribute), checksum=True)
    assert 0 < len(cnatool.verify(store).faults) <= 1000
    # Arrays that claim as many rows.
    for path in store.glob("splits/*/**/zarr.json"):
        metadata = json.loads(path.read_text())
        if metadata["node_type"] == "array":
            metadata["shape"][0] = rows
            path.write_text(json.dumps(metadata))
    shutil.rmtree(store / "splits/train/statistics")
    assert 0 < len(cnatool.verify(store).faults) <= 1000
