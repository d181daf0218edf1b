"""Data in a bucket: what is read is what a local copy holds, in few requests."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tarfile
from pathlib import Path

import h5py
import numpy as np
import onnx
import polars as pl
import pytest
from PIL import Image
from support.buckets import SECRETS, Bucket
from support.command import refused, run
from support.dumps import same_arrays
from support.networks import mlp, saved

import cnatool
from cnatool.data.detect import open_source
from cnatool.data.location import locate
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Source
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError, StoreAccessError
from cnatool.store import object_path
from cnatool.store.object_store import Objects

X = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)
Y = np.random.default_rng(1).integers(0, 4, 90)


def write_npy(folder: Path) -> None:
    np.save(folder / "train.npy", X)
    np.save(folder / "train_labels.npy", Y)


def write_npz(folder: Path) -> None:
    np.savez(folder / "train.npz", x=X, y=Y)
    np.savez_compressed(folder / "test.npz", x=X[:20], y=Y[:20].astype(str))


def write_idx(folder: Path) -> None:
    images = struct.pack(">4B3I", 0, 0, 8, 3, *X.shape) + X.tobytes()
    labels = struct.pack(">4BI", 0, 0, 8, 1, len(Y)) + Y.astype(np.uint8).tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def write_cifar(folder: Path) -> None:
    rows = np.random.default_rng(2).integers(0, 256, (12, 3073), np.uint8)
    rows[:, 0] %= 10
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (folder / name).write_bytes(rows.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))


def write_parquet(folder: Path) -> None:
    (folder / "data").mkdir()
    pixels = X.reshape(90, 64)
    for number, rows in enumerate((slice(0, 50), slice(50, 90))):
        frame = pl.DataFrame({"x": pixels[rows], "other": X[rows], "y": [f"c{y}" for y in Y[rows]]})
        frame.write_parquet(folder / f"data/train-{number:05d}-of-00002.parquet", row_group_size=16)
    pl.DataFrame({"x": pixels, "y": Y}).write_parquet(folder / "data/test.parquet")


def encoded(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_images(folder: Path) -> None:
    images = [{"bytes": encoded(pixels), "path": None} for pixels in X]
    frame = pl.DataFrame({"image": images, "label": Y})
    frame.write_parquet(folder / "train.parquet", row_group_size=25)


def write_tar(folder: Path) -> None:
    for number in range(2):
        with tarfile.open(folder / f"train-{number:06d}.tar", "w") as archive:
            for row in range(number * 45, number * 45 + 45):
                for name, content in (("png", encoded(X[row])), ("cls", str(Y[row]).encode())):
                    member = tarfile.TarInfo(f"{row:06d}.{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def write_csv(folder: Path) -> None:
    columns = {f"p{i}": X.reshape(90, 64)[:, i] for i in range(64)}
    pl.DataFrame({**columns, "y": Y}).write_csv(folder / "train.csv")


def write_hdf5(folder: Path) -> None:
    with h5py.File(folder / "train.h5", "w") as file:
        file["x"], file["y"] = X, Y


WRITERS = {
    "npy": (write_npy, 12),
    "npz": (write_npz, 30),
    "idx": (write_idx, 24),
    "cifar": (write_cifar, 30),
    "parquet": (write_parquet, 40),
    "images": (write_images, 12),
    "tar": (write_tar, 12),
    "csv": (write_csv, 6),
    "hdf5": (write_hdf5, 6),
}


def read_all(data: str | Path) -> dict[str, list[object]]:
    """Read the ids, inputs and labels of all splits, in blocks that divide groups of rows."""
    sources = open_splits(data, {}, SINGLE_INPUT, ReaderOptions(), lambda _: None)
    return {name: list(_read(source)) for name, source in sources.items()}


def _read(source: Source) -> list[object]:
    read: list[object] = [source.rows, source.classes, source.name, source.id_bytes]
    # From the start, and from a row within a group of rows and a file.
    for start in (0, 7):
        for block in source.blocks(13, start=start):
            assert block.labels is not None
            read += [block.ids, [array.tolist() for array in block.inputs], block.labels.tolist()]
    return read


@pytest.mark.parametrize("name", WRITERS)
def test_a_bucket_gives_what_a_local_copy_gives(bucket: Bucket, tmp_path: Path, name: str) -> None:
    write, requests = WRITERS[name]
    write(tmp_path)
    url = bucket.upload(tmp_path, "some/data")
    with bucket.counted(requests):
        found = read_all(url)
    assert found == read_all(tmp_path)


def test_rows_of_parquet_are_read_without_the_rest(bucket: Bucket, tmp_path: Path) -> None:
    big = np.random.default_rng(3).integers(0, 256, (4000, 64), np.uint8)
    pl.DataFrame({"x": big, "unused": big, "y": np.arange(4000) % 7}).write_parquet(
        tmp_path / "a.parquet", row_group_size=500, compression="uncompressed"
    )
    url = bucket.upload(tmp_path, "data")
    source = open_source(locate(f"{url}/a.parquet"))
    # Of the fourth group: the two columns that are used.
    with bucket.counted(2):
        [block] = source.blocks(100, 100, 1700)
    np.testing.assert_array_equal(block.inputs[0], big[1700:1800])


def test_one_object_and_an_array_in_it(bucket: Bucket, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/x"], file["train/y"] = X, Y
    bucket.upload(tmp_path, "d")
    source = open_source(locate(bucket / "d/a.h5::train/x"))
    [block] = source.blocks(100)
    np.testing.assert_array_equal(block.inputs[0], X)
    with pytest.raises(DataError, match=r"^s3://.*/d/a\.h5::test/x: there is no 'test'"):
        open_source(locate(bucket / "d/a.h5::test/x"))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    saved(mlp(), tmp_path / "net.onnx")
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/train.npz", x=X, y=Y)
    np.savez(tmp_path / "data/test.npz", x=X[:40], y=Y[:40])
    return tmp_path


def without_objects(store: Path) -> Path:
    """Check that a store has the origin of its samples, and rewrite it without."""
    splits = cnatool.open(store).record.splits
    for split in splits.values():
        [read] = split.objects
        assert read.url.startswith("s3://")
        assert read.bytes > 0
    text = (store / "zarr.json").read_bytes()
    assert not any(secret.encode() in text for secret in SECRETS)
    return store


def test_a_dump_is_that_of_local_data(bucket: Bucket, here: Path) -> None:
    url = bucket.upload(here / "data", "data")
    bucket.upload(here, "all")
    run("dump", "net.onnx", "data", "-o", "local.zarr", cwd=here)
    run("dump", bucket / "all/net.onnx", url, "-o", "s.zarr", cwd=here)
    without_objects(here / "s.zarr")
    scores = [run("score", name, "--json", cwd=here).stdout for name in ("local.zarr", "s.zarr")]
    assert scores[0].replace("local.zarr", "s.zarr") == scores[1]
    local, remote = cnatool.open(here / "local.zarr"), cnatool.open(here / "s.zarr")
    assert local.record.model == remote.record.model
    for split in local.splits:
        for key in ("ids", "labels", "inputs/0", "activations/0", "statistics/sum"):
            one, other = (store.splits[split].array(key)[:] for store in (local, remote))
            np.testing.assert_array_equal(one, other)


def test_parts_and_resuming_notice_other_objects(bucket: Bucket, here: Path) -> None:
    url = bucket.upload(here / "data", "data")
    run("dump", "net.onnx", f"--split=a={url}/train.npz", "-o", "whole.zarr", cwd=here)
    for part in (1, 2):
        words = ("--part", f"{part}/2", "-o", f"{part}.zarr")
        run("dump", "net.onnx", f"--split=a={url}/train.npz", *words, cwd=here)
    run("merge", "--copy", "1.zarr", "2.zarr", "-o", "merged.zarr", cwd=here)
    same_arrays(here / "merged.zarr", here / "whole.zarr")
    # The first samples are the same.
    changed = X.copy()
    changed[-1] = 0
    np.savez(here / "changed.npz", x=changed, y=Y)
    bucket.put("data/train.npz", (here / "changed.npz").read_bytes())
    again = ("dump", "net.onnx", f"--split=a={url}/train.npz", "--part", "2/2", "-o", "2.zarr")
    message = refused(*again, "--resume", cwd=here)
    assert f"objects '{url}/train.npz' etag" in message
    run(*again, "--overwrite", cwd=here)
    message = refused("merge", "1.zarr", "2.zarr", "-o", "m.zarr", cwd=here)
    assert f"{url}/train.npz was replaced between 1.zarr and 2.zarr" in message


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ranges be small, so that nothing is held of a small object."""
    monkeypatch.setattr(object_path, "_FIRST", 256)


@pytest.mark.usefixtures("small")
def test_an_object_replaced_during_a_dump(bucket: Bucket, here: Path) -> None:
    url = bucket.upload(here / "data", "data")
    sources = open_splits(url, {}, SINGLE_INPUT, ReaderOptions(), lambda _: None)
    blocks = sources["train"].blocks(10)
    bucket.put("data/train.npz", (here / "data/test.npz").read_bytes())
    with pytest.raises(DataError, match=r"data/train\.npz was replaced while it was read"):
        next(blocks)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("missing", "no such object or folder: "),
        ("empty.npz", "cannot be read as an .npz archive"),
        ("cut.npy", "is cut short"),
        ("cut.parquet", "it does not end like one"),
        ("footer.parquet", "its metadata cannot be read"),
        ("pictures", "Pack it into a few files"),
        ("a.npy::x", "has no arrays to choose with ::"),
    ],
)
def test_messages(bucket: Bucket, here: Path, key: str, message: str) -> None:
    np.save(here / "a.npy", X)
    pl.DataFrame({"x": [1, 2], "y": [0, 1]}).write_parquet(here / "a.parquet")
    table = (here / "a.parquet").read_bytes()
    length = int.from_bytes(table[-8:-4], "little")
    bucket.put("d/a.npy", (here / "a.npy").read_bytes())
    bucket.put("d/empty.npz", b"")
    bucket.put("d/cut.npy", (here / "a.npy").read_bytes()[:-5])
    bucket.put("d/cut.parquet", table[:-5])
    bucket.put("d/footer.parquet", table[: -8 - length] + bytes(length) + table[-8:])
    bucket.put("d/pictures/cat/1.png", encoded(X[0]))
    text = refused("dump", "net.onnx", bucket / f"d/{key}", "-o", "s.zarr", cwd=here)
    assert message in text
    assert bucket / "d/" in text
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.usefixtures("small")
def test_a_server_that_does_not_answer(
    bucket: Bucket, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = bucket.upload(here / "data", "data")
    source = open_source(locate(f"{url}/train.npz"))

    def fail(*_: object) -> memoryview:
        raise StoreAccessError("s3://x rejects the credentials: they have expired.")

    monkeypatch.setattr(Objects, "get_range", fail)
    source_path = locate(f"{url}/test.npz")
    for read in (lambda: open_source(source_path), lambda: next(iter(source.blocks(90)))):
        with pytest.raises(StoreAccessError, match="they have expired"):
            read()


def test_copies_are_announced(bucket: Bucket, here: Path) -> None:
    shutil.rmtree(here / "data")
    (here / "data").mkdir()
    write_csv(here / "data")
    url = bucket.upload(here / "data", "data")
    notes: list[str] = []
    open_splits(url, {}, SINGLE_INPUT, ReaderOptions(), notes.append)
    assert [note for note in notes if f"{url}/train.csv" in note and "is copied to" in note]


def test_models_in_a_bucket(bucket: Bucket, here: Path) -> None:
    apart = onnx.load(here / "net.onnx")
    onnx.save(
        apart, here / "apart.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    for name in ("net.onnx", "apart.onnx", "w"):
        bucket.put(f"m/{name}", (here / name).read_bytes())
    expected = run("inspect", "net.onnx", cwd=here).stdout
    shown = run("inspect", bucket / "m/net.onnx", cwd=here).stdout
    assert shown.replace(bucket / "m/net.onnx", "net.onnx") == expected
    message = refused("inspect", bucket / "m/apart.onnx", cwd=here)
    assert "is in a file of its own, 'w', which is read from a disk only" in message
    assert "Name the .onnx object or the store in it" in refused("inspect", bucket / "m", cwd=here)
    assert "no such object" in refused("inspect", bucket / "m/x.onnx", cwd=here)


def test_folder_of_folders_in_a_bucket_is_no_folder_of_images(bucket: Bucket, here: Path) -> None:
    for name in ("csv", "npz"):
        bucket.put(f"d/{name}/train.csv", b"a,b\n1,2\n")
    message = refused("dump", "net.onnx", bucket / "d", cwd=here)
    assert (
        f"{bucket / 'd'} has no samples, only folders, and none is named after a split" in message
    )
