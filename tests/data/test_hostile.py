"""Files that were changed by chance: a clear refusal or a result, no crash, bounded memory."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.files import as_idx, as_safetensors, write_tar

from cnatool.data.detect import open_source
from cnatool.errors import CnatoolError

X = np.arange(11 * 12, dtype=np.uint8).reshape(11, 4, 3)
Y = np.arange(11) % 4
LONGEST_MESSAGE = 1_200


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(X[0]).save(file, "png")
    return file.getvalue()


def npz(path: Path) -> None:
    np.savez_compressed(path, x=X, y=Y)


def npy(path: Path) -> None:
    np.save(path, X)


def idx(path: Path) -> None:
    path.write_bytes(as_idx(X))


def cifar(path: Path) -> None:
    path.write_bytes(b"".join(bytes([y]) + bytes(3072) for y in Y[:2]))


def csv(path: Path) -> None:
    path.write_text("a,b,label,part\n" + "".join(f"{i},{i / 2},{i % 2},x\n" for i in range(9)))


def parquet(path: Path) -> None:
    frame = pl.DataFrame({"image": [{"bytes": png(), "path": "a"}] * 11, "label": Y})
    frame.write_parquet(path, row_group_size=4)


def lists(path: Path) -> None:
    pl.DataFrame({"x": X.tolist(), "y": ["a", "b", "c"] * 3 + ["a", "b"]}).write_parquet(path)


def safetensors(path: Path) -> None:
    path.write_bytes(as_safetensors(x=X, y=np.zeros(11)))


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, chunks=(4, 4, 3), compression="gzip", fletcher32=True)
        file["y"] = Y


def tar(path: Path) -> None:
    sample = (("png", png()), ("cls", b"1"), ("json", b'{"label": 3}'))
    write_tar(path, [(f"{i}.{ending}", part) for i in range(3) for ending, part in sample])


def tar_gz(path: Path) -> None:
    import gzip

    tar(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def hdf5_plain(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, chunks=(4, 4, 3), compression="lzf", shuffle=True)
        file.create_dataset("y", data=Y, chunks=(4,))


FORMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a.npz": (npz, "npz"),
    "a.npy": (npy, "npy"),
    "a-idx3": (idx, "idx"),
    "a.bin": (cifar, "cifar10"),
    "a.csv": (csv, "csv"),
    "a.parquet": (parquet, "parquet"),
    "lists.parquet": (lists, "parquet"),
    "a.safetensors": (safetensors, "safetensors"),
    "a.h5": (hdf5, "hdf5"),
    "plain.h5": (hdf5_plain, "hdf5"),
    "a.tar": (tar, "webdataset"),
    "a.tar.gz": (tar_gz, "webdataset"),
}


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    kinds = st.sampled_from(["flip", "put", "cut", "remove", "repeat"])
    change = st.tuples(kinds, st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9))
    return draw(st.lists(change, min_size=1, max_size=3))


def mutated(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, new in changes:
        at, size = int(place * len(content)), len(new)
        if kind == "flip":
            new = bytes(a ^ b for a, b in zip(content[at:], new, strict=False))
        if kind == "cut":
            content = content[:at]
        elif kind == "remove":
            content = content[:at] + content[at + size :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 40] + content[at:]
        else:
            content = content[:at] + new + content[at + len(new) :]
    return content


def tried(path: Path, form: str, most: int = 64 << 20) -> None:
    tracemalloc.start()
    try:
        source = open_source(path, format_name=form)
        blocks = list(source.blocks(4))
    except CnatoolError as error:
        text = str(error)
        assert path.name in text, text
        assert len(text) < LONGEST_MESSAGE, text
        assert not any(ord(character) < 32 for character in text), repr(text)
    else:
        assert sum(len(block.ids) for block in blocks) == source.rows
        for block in blocks:
            assert [i for i in block.ids if len(i.encode()) > source.id_bytes] == []
            for values, spec in zip(block.inputs, source.inputs, strict=True):
                assert values.shape == (len(block.ids), *spec.shape)
                assert values.dtype == spec.dtype
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < most


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMS)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(changes=mutations())
def test_changed_files(name: str, tmp_path: Path, changes: list[tuple[str, float, bytes]]) -> None:
    write, form = FORMS[name]
    path, whole = tmp_path / name, tmp_path / f"whole-{name}"
    if not whole.exists():
        write(whole)
        tried(whole, form)
    path.write_bytes(mutated(whole.read_bytes(), changes))
    tried(path, form)


@pytest.mark.filterwarnings("ignore")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(changes=mutations(), part=st.sampled_from(["zarr.json", "x/zarr.json", "x/c/0/0/0"]))
def test_changed_zarr(tmp_path: Path, changes: Any, part: str) -> None:
    path = tmp_path / "d.zarr"
    group = zarr.open_group(path, mode="w")
    made = group.create_array("x", shape=X.shape, dtype=X.dtype)
    made[...] = X
    file = path / part
    file.write_bytes(mutated(file.read_bytes(), changes))
    tried(path, "zarr")


WORDS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2**31, 2**40, 2**63, 2**70, 1.5, 1e308]),
    st.text(max_size=5),
    st.sampled_from(["|O", "<f8", "../x", "x" * 1000]),
    st.lists(st.integers(-2, 2**40), max_size=3),
    st.just({}),
)


def replaced(value: Any, path: list[float], word: Any) -> Any:
    """Put a word into a place of nested JSON; of what is there, numbers from 0 to 1 choose."""
    if not path or not isinstance(value, dict | list) or not value:
        return word
    choice = int(path[0] * len(value))
    if isinstance(value, list):
        return [replaced(v, path[1:], word) if i == choice else v for i, v in enumerate(value)]
    name = list(value)[choice]
    return value | {name: replaced(value[name], path[1:], word)}


places = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5)


@pytest.mark.filterwarnings("ignore")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80
)
@given(place=places, word=WORDS)
def test_changed_header_of_safetensors(tmp_path: Path, place: list[float], word: Any) -> None:
    path = tmp_path / "a.safetensors"
    safetensors(path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    text = json.dumps(replaced(json.loads(content[8 : 8 + size]), place, word)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    tried(path, "safetensors")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("version", [2, 3])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(place=places, word=WORDS, root=st.booleans())
def test_changed_metadata_of_zarr(
    tmp_path: Path, version: Any, place: list[float], word: Any, root: bool
) -> None:
    path = tmp_path / "d.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, array in (("x", X), ("y", Y)):
        made = group.create_array(name, shape=array.shape, dtype=array.dtype)
        made[...] = array
    words = (".zgroup", ".zarray") if version == 2 else ("zarr.json", "zarr.json")
    file = path / words[0] if root else path / "x" / words[1]
    file.write_text(json.dumps(replaced(json.loads(file.read_text()), place, word)))
    tried(path, "zarr")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "webp", "bmp"])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(changes=mutations())
def test_changed_images(tmp_path: Path, form: str, changes: Any) -> None:
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)
    for name in ("0", "1"):
        Image.fromarray(pixels).save(folder / "a" / f"{name}.{form}", form)
    path = folder / "a" / f"1.{form}"
    path.write_bytes(mutated(path.read_bytes(), changes))
    tried(folder, "pictures")


@pytest.mark.filterwarnings("ignore")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(changes=mutations(), labels=st.booleans())
def test_changed_inside_an_npz(tmp_path: Path, changes: Any, labels: bool) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array, wanted in (("x", X, not labels), ("y", Y, labels)):
            file = io.BytesIO()
            np.save(file, array)
            content = file.getvalue()
            archive.writestr(f"{name}.npy", mutated(content, changes) if wanted else content)
    tried(path, "npz")


@pytest.mark.filterwarnings("ignore")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(changes=mutations())
def test_changed_table_of_labels(tmp_path: Path, changes: Any) -> None:
    folder = tmp_path / "listed"
    folder.mkdir(exist_ok=True)
    for name in "01":
        (folder / f"{name}.png").write_bytes(png())
    (folder / "labels.csv").write_bytes(mutated(b"filename,label\n0.png,1\n1.png,cat\n", changes))
    tried(folder, "listed")
