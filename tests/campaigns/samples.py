"""Small files of samples in every format, and how others than cnatool read them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import zarr
from PIL import Image
from support.files import as_idx, as_safetensors, write_tar

_RNG = np.random.default_rng(0)
X = _RNG.integers(0, 256, (11, 4, 3), np.uint8)
F = _RNG.normal(size=(11, 5)).astype(np.float32)
Y = np.arange(11) % 4
PICTURES = _RNG.integers(0, 256, (6, 9, 7, 3), np.uint8)

# The samples as float64 or as they are, and what each label is called.
Read = tuple[Any, "list[str] | None"]


@dataclass(frozen=True)
class Form:
    """A format of samples."""

    name: str
    form: str
    write: Callable[[Path], None]
    read: Callable[[Path], Read]
    read_some: Callable[[Path], Read] | None = None


def _labels(values: Any) -> list[str]:
    return [str(int(v)) if not isinstance(v, str) else v for v in np.asarray(values).tolist()]


def _read_npz(path: Path) -> Read:
    with np.load(path, allow_pickle=False) as archive:
        return archive["x"], _labels(archive["y"])


def _write_idx(path: Path) -> None:
    path.write_bytes(as_idx(X))


def _read_idx(path: Path) -> Read:
    content = path.read_bytes()
    axes = content[3]
    shape = struct.unpack_from(f">{axes}I", content, 4)
    dtype = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}[content[2]]
    return np.frombuffer(content, dtype, math.prod(shape), 4 + 4 * axes).reshape(shape), None


def _write_cifar(path: Path) -> None:
    rows = _RNG.integers(0, 256, (3, 3073), np.uint8)
    rows[:, 0] = range(3)
    path.write_bytes(rows.tobytes())


def _read_cifar(path: Path) -> Read:
    rows = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), _labels(rows[:, 0])


def _write_csv(path: Path) -> None:
    rows = [f"{a!r},{b!r},{y}\n" for (a, b), y in zip(F[:, :2].tolist(), Y, strict=True)]
    path.write_text("a,b,label\n" + "".join(rows))


def _read_csv(path: Path, *, skip: bool = False) -> Read:
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = [row for row in csv.reader(file) if row]
    at = head.index("label") if "label" in head else len(head)
    values, labels = [], []
    for row in rows:
        try:
            numbers = [float(value) for i, value in enumerate(row) if i != at]
            label = row[at : at + 1]
        except ValueError:
            if not skip:
                raise
            continue
        values.append(numbers)
        labels += label
    return np.array(values), labels or None


def _write_parquet(path: Path) -> None:
    frame = pl.DataFrame({"a": F[:, 0], "b": F[:, 1], "label": Y})
    frame.write_parquet(path, row_group_size=4, statistics=False)


def _read_parquet(path: Path) -> Read:
    frame = pl.read_parquet(path)
    return frame.drop("label").to_numpy(), _labels(frame["label"].to_list())


def _png(picture: np.ndarray, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form)
    return file.getvalue()


def _pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def _write_pictured_parquet(path: Path) -> None:
    pictures = [{"bytes": _png(each), "path": f"{i}.png"} for i, each in enumerate(PICTURES)]
    pl.DataFrame({"image": pictures, "label": Y[:6]}).write_parquet(path)


def _read_pictured_parquet(path: Path) -> Read:
    frame = pl.read_parquet(path)
    pictures = [_pixels(each["bytes"]) for each in frame["image"].to_list()]
    return np.stack(pictures), _labels(frame["label"].to_list())


def _write_pictures(form: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        for i, picture in enumerate(PICTURES):
            (path / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            (path / "ab"[i % 2] / f"{i}.{form}").write_bytes(_png(picture, form))

    return write


def _read_pictures(path: Path) -> Read:
    files = sorted(each for each in path.rglob("*.*") if each.suffix in (".png", ".jpeg"))
    return np.stack([_pixels(each.read_bytes()) for each in files]), [f.parent.name for f in files]


def _write_hdf5(plain: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        options = {} if plain else {"compression": "gzip", "fletcher32": True}
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=X, chunks=(4, 4, 3), **options)
            file["y"] = Y

    return write


def _read_hdf5(path: Path) -> Read:
    with h5py.File(path) as file:
        return file["x"][:], _labels(file["y"][:])


def _write_zarr(version: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=version)
        for name, array in (("x", X), ("y", Y)):
            group.create_array(name, shape=array.shape, dtype=array.dtype)[...] = array

    return write


def _read_zarr(path: Path) -> Read:
    found = zarr.open(path, mode="r")
    if isinstance(found, zarr.Array):
        return found[:], None
    return found["x"][:], _labels(found["y"][:]) if "y" in found else None


def _write_safetensors(path: Path) -> None:
    path.write_bytes(as_safetensors(x=X, y=Y))


def _read_safetensors(path: Path) -> Read:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])

    def array(name: str) -> np.ndarray:
        dtype = {"U8": "u1", "I8": "i1", "BOOL": "?"}[header[name]["dtype"]]
        start, stop = header[name]["data_offsets"]
        part = content[8 + size + start : 8 + size + stop]
        return np.frombuffer(part, dtype).reshape(header[name]["shape"])

    return array("x"), _labels(array("y"))


def _write_tar(path: Path) -> None:
    members = []
    for i, picture in enumerate(PICTURES):
        label = json.dumps({"label": int(Y[i])}).encode()
        members += [(f"{i}.png", _png(picture)), (f"{i}.json", label)]
    write_tar(path, members)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))


def _read_tar(path: Path) -> Read:
    with tarfile.open(path) as archive:
        files = {each.name: archive.extractfile(each) for each in archive if each.isfile()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    pictures = [_pixels(each) for name, each in contents.items() if name.endswith(".png")]
    labels = [json.loads(e)["label"] for name, e in contents.items() if name.endswith(".json")]
    return np.stack(pictures), _labels(labels)


FORMS = (
    Form("a.npy", "npy", lambda p: np.save(p, F), lambda p: (np.load(p), None)),
    Form("a.npz", "npz", lambda p: np.savez(p, x=X, y=Y), _read_npz),
    Form("packed.npz", "npz", lambda p: np.savez_compressed(p, x=X, y=Y), _read_npz),
    Form("a-idx3", "idx", _write_idx, _read_idx),
    Form("a.bin", "cifar10", _write_cifar, _read_cifar),
    Form("a.csv", "csv", _write_csv, _read_csv, partial(_read_csv, skip=True)),
    Form("a.parquet", "parquet", _write_parquet, _read_parquet),
    Form("pictures.parquet", "parquet", _write_pictured_parquet, _read_pictured_parquet),
    Form("png", "pictures", _write_pictures("png"), _read_pictures),
    Form("jpeg", "pictures", _write_pictures("jpeg"), _read_pictures),
    Form("a.h5", "hdf5", _write_hdf5(plain=False), _read_hdf5),
    Form("plain.h5", "hdf5", _write_hdf5(plain=True), _read_hdf5),
    Form("a.zarr", "zarr", _write_zarr(3), _read_zarr),
    Form("two.zarr", "zarr", _write_zarr(2), _read_zarr),
    Form("a.safetensors", "safetensors", _write_safetensors, _read_safetensors),
    Form("a.tar", "webdataset", _write_tar, _read_tar),
    Form("a.tar.gz", "webdataset", _write_tar, _read_tar),
)
