"""The same samples in every form that is read: the same raw inputs, labels, α and β."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
import zarr
from PIL import Image
from support.command import run
from support.files import as_idx, write_tar
from support.networks import Builder, saved

import cnatool
from cnatool.data.detect import open_source

SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL = 1_000


def image(x: Any, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, form, **({"lossless": True} if form == "webp" else {}))
    return file.getvalue()


def npz(folder: Path, x: Any, y: Any) -> Path:
    np.savez_compressed(folder / "d.npz", x=x, y=y)
    return folder / "d.npz"


def npy(folder: Path, x: Any, y: Any) -> Path:
    np.save(folder / "d.npy", x)
    np.save(folder / "d_labels.npy", y)
    return folder / "d.npy"


def idx(folder: Path, x: Any, y: Any) -> Path:
    for name, array in ((f"images-idx{x.ndim}", x), ("labels-idx1", y.astype(np.uint8))):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(as_idx(array)))
    return folder


def parquet(folder: Path, x: Any, y: Any) -> Path:
    half = len(x) // 2
    for i, rows in enumerate((slice(0, half), slice(half, None))):
        images = [{"bytes": image(p), "path": ""} for p in x[rows]]
        frame = pl.DataFrame({"image": images, "label": y[rows]})
        frame.write_parquet(folder / f"{i}.parquet", row_group_size=100)
    return folder


def parquet_lists(folder: Path, x: Any, y: Any) -> Path:
    pl.DataFrame({"x": x, "label": y}).write_parquet(folder / "d.parquet")
    return folder / "d.parquet"


def safetensors(folder: Path, x: Any, y: Any) -> Path:
    ends = (0, x.nbytes, x.nbytes + y.nbytes)
    header = {
        "x": {"dtype": "U8", "shape": x.shape, "data_offsets": ends[:2]},
        "y": {"dtype": "I64", "shape": y.shape, "data_offsets": ends[1:]},
    }
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + x.tobytes() + y.astype("<i8").tobytes()
    (folder / "d.safetensors").write_bytes(content)
    return folder / "d.safetensors"


def hdf5(folder: Path, x: Any, y: Any) -> Path:
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("g/pixels", data=x, chunks=(37, *x.shape[1:]), compression="gzip")
        file["g/y"] = y
    return Path(f"{folder}/d.h5::g/pixels")


def zarr_(folder: Path, x: Any, y: Any) -> Path:
    group = zarr.open_group(folder / "d.zarr", mode="w")
    for name, array in (("x", x), ("labels", y)):
        made = group.create_array(name, shape=array.shape, dtype=array.dtype)
        made[...] = array
    return folder / "d.zarr"


def webdataset(folder: Path, x: Any, y: Any) -> Path:
    members = []
    for row, pixels in enumerate(x):
        members += [(f"{row:06}.png", image(pixels)), (f"{row:06}.cls", b"%d" % y[row])]
    return write_tar(folder / "d.tar.gz", members, "w:gz", compresslevel=1)


def cifar10(folder: Path, x: Any, y: Any) -> Path:
    if x.shape[1:] != (32, 32, 3):
        pytest.skip("CIFAR's files hold 32×32 RGB alone")
    with (folder / "data_batch_1.bin").open("wb") as file:
        for label, pixels in zip(y, x, strict=True):
            file.write(bytes([label]) + pixels.transpose(2, 0, 1).tobytes())
    return folder / "data_batch_1.bin"


def images(folder: Path, x: Any, y: Any) -> Path:
    for row, pixels in enumerate(x):
        (folder / f"class {y[row]}").mkdir(exist_ok=True)
        (folder / f"class {y[row]}" / f"{row:04}.png").write_bytes(image(pixels))
    return folder


def table(x: Any, y: Any) -> pl.DataFrame:
    columns = x.reshape(len(x), -1).T
    return pl.DataFrame({"label": y} | {f"pixel{i}": values for i, values in enumerate(columns)})


def parquet_columns(folder: Path, x: Any, y: Any) -> Path:
    table(x, y).write_parquet(folder / "d.parquet")
    return folder / "d.parquet"


def csv(folder: Path, x: Any, y: Any) -> Path:
    table(x, y).write_csv(folder / "d.csv")
    return folder / "d.csv"


def listed(folder: Path, x: Any, y: Any) -> Path:
    forms = ("png", "bmp", "tiff", "webp" if x.ndim == 4 else "png")
    lines = ["filename,label"]
    for row, pixels in enumerate(x):
        name = f"{row}.{forms[row % 4]}"
        (folder / name).write_bytes(image(pixels, forms[row % 4]))
        lines.append(f"{name},{y[row]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


FORMS: tuple[Callable[[Path, Any, Any], Path], ...] = (
    *(npy, idx, parquet, parquet_lists, parquet_columns, csv, safetensors, hdf5, zarr_),
    *(webdataset, cifar10, images, listed),
)


def synthetic() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (60, 32, 32, 3), np.uint8), rng.integers(0, 10, 60)


def grey() -> tuple[Any, Any]:
    x, y = synthetic()
    return x[..., 0], y


def real(path: Path) -> tuple[Any, Any]:
    if not path.exists():
        pytest.skip(f"the data are not at {path}")
    [block] = open_source(path).blocks(REAL, REAL)
    return block.inputs[0], block.labels


DATA: dict[str, Callable[[], tuple[Any, Any]]] = {
    "colour": synthetic,
    "grey": grey,
    "mnist": lambda: real(SHARED / "mnist" / "train-images-idx3-ubyte.gz"),
    "cifar10": lambda: real(SHARED / "cifar10" / "train.parquet"),
}


def network(folder: Path, size: int) -> Path:
    b = Builder()
    b.gemm("x", "hidden", size, 8)
    b.node("Relu", ["hidden"], "active")
    b.gemm("active", "more", 8, 8)
    b.node("Relu", ["more"], "active2")
    b.node("Relu", [b.gemm("active2", "last", 8, 8)], "active3")
    b.gemm("active3", "logits", 8, 10)
    return saved(b.model({"x": ("n", size)}, {"logits": ("n", 10)}), folder / "net.onnx")


def dumped(model: Path, data: Path, folder: Path) -> tuple[Any, ...]:
    """Give raw inputs, labels, α and β as ``cnatool dump`` and ``cnatool score`` leave them."""
    store, table = folder / "s.zarr", folder / "s.parquet"
    words = ("--keep", "statistics", "--scale", "1/255", "--layout", "flat", "--codec", "none")
    run("dump", model, data, "-o", store, *words)
    run("score", store, "--samples", table)
    [split] = cnatool.open(store).splits.values()
    scored = pl.read_parquet(table)
    assert scored["label"].to_list() == split.labels[:].tolist()
    return split.inputs()[:], split.labels[:], scored["alpha"].to_numpy(), scored["beta"].to_numpy()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, ...]]:
    """Samples, the network, and what a store made of an .npz holds, once for each kind of data."""
    made: dict[str, tuple[Any, ...]] = {}

    def of(name: str) -> tuple[Any, ...]:
        if name not in made:
            x, y = DATA[name]()
            folder = tmp_path_factory.mktemp(name)
            model = network(folder, x[0].size)
            made[name] = (x, y, model, dumped(model, npz(folder, x, y), folder))
        return made[name]

    return of


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DATA)
def test_every_form_gives_the_same_store(
    name: str, form: Callable[..., Path], first: Callable[[str], tuple[Any, ...]], tmp_path: Path
) -> None:
    x, y, model, (inputs, labels, alpha, beta) = first(name)
    np.testing.assert_array_equal(inputs, x)
    np.testing.assert_array_equal(labels, y)
    assert len(np.unique(alpha)) > 1
    assert len(np.unique(beta)) == len(np.unique(x, axis=0))
    (tmp_path / "data").mkdir()
    found = dumped(model, form(tmp_path / "data", x, y), tmp_path)
    # Text holds whole numbers, and not how many bits they had.
    assert found[0].dtype == (np.int64 if form is csv else np.uint8)
    if form in (csv, parquet_columns):
        x = x.reshape(len(x), -1)
    if form is not images:
        np.testing.assert_array_equal(found[0], x)
        np.testing.assert_array_equal(found[1], y)
        np.testing.assert_allclose(found[2], alpha, rtol=0, atol=1e-12 if form is csv else 0)
        np.testing.assert_array_equal(found[3], beta)
        return
    # Class after class. In another batch, a sum may be rounded otherwise.
    order = np.argsort(y, kind="stable")
    np.testing.assert_array_equal(found[0], x[order])
    np.testing.assert_array_equal(found[1], y[order])
    np.testing.assert_array_equal(found[2], alpha[order])
    np.testing.assert_allclose(found[3], beta[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["colour", "grey"])
def test_every_form_starts_at_any_sample(
    kind: str, form: Callable[..., Path], tmp_path: Path
) -> None:
    source = open_source(form(tmp_path, *DATA[kind]()))
    every = next(iter(source.blocks(source.rows)))
    for start, limit in ((0, 60), (1, None), (17, 30), (20, 1), (59, None), (60, None), (5, 0)):
        end = 60 if limit is None else min(60, start + limit)
        blocks = list(source.blocks(7, limit, start))
        assert [len(block.ids) for block in blocks] == [
            min(7, end - first) for first in range(start, end, 7)
        ]
        assert [row for block in blocks for row in block.ids] == every.ids[start:end]
        if blocks:
            found = np.concatenate([block.inputs[0] for block in blocks])
            np.testing.assert_array_equal(found, every.inputs[0][start:end])
            labels = np.concatenate([block.labels for block in blocks])
            np.testing.assert_array_equal(labels, every.labels[start:end])
