"""Files that were changed by chance: a clear refusal or a result, no crash, bounded memory."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import tracemalloc
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

from cnatool.data.find import open_source
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
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, *X.shape) + X.tobytes())


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
    header = {
        "x": {"dtype": "U8", "shape": X.shape, "data_offsets": [0, 132]},
        "y": {"dtype": "U8", "shape": [11], "data_offsets": [132, 143]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + X.tobytes() + bytes(11))


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, chunks=(4, 4, 3), compression="gzip", fletcher32=True)
        file["y"] = Y


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for i in range(3):
            for ending, content in (("png", png()), ("cls", b"1"), ("json", b'{"label": 3}')):
                info = tarfile.TarInfo(f"{i}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def tar_gz(path: Path) -> None:
    import gzip

    tar(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


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
        source = open_source(path, form=form)
        blocks = list(source.blocks(4))
    except CnatoolError as error:
        text = str(error)
        assert path.name in text, text
        assert len(text) < LONGEST_MESSAGE, text
        assert "\0" not in text
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
