"""How fast is a store written and read, beside plain files, plain zarr and plain HDF5?

The array, (rows, 64, 16, 16) float32, is the output of a ReLU for smooth fields. Each writer gets
it in batches of 256 rows, as in a dump, and its files are synced before the clock stops, as in a
commit. Reading is measured from the operating system's cache, and from the disk. cnatool also
stores ids and a small raw input. Peaks of memory are those of whole processes. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from numpy.typing import NDArray
from processes import run_process
from timing import seconds
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec

from cnatool.records.choices import Codec
from cnatool.records.layout import StoreRows
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store.reader import open_store
from cnatool.store.writer import SplitWriter, StoreWriter

ROW = (64, 16, 16)
ROW_BYTES = 4 * 64 * 16 * 16
BATCH = 256
CHUNK = 16  # rows in 1 MiB, as in cnatool's chunks
ZARR_CODECS: dict[Codec, list[Any]] = {
    "lz4": [BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle")],
    "zstd": [BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")],
    "gzip": [GzipCodec(level=1)],
    "none": [],
}

Calls = dict[str, Callable[[], object]]


def make_fields(rows: int, seed: int) -> NDArray[np.float32]:
    """Make the output of a ReLU for smooth random fields; more than half of it is zero."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(rows, *ROW)).astype(np.float32))
    frequency = np.hypot(np.fft.fftfreq(ROW[1])[:, None], np.fft.rfftfreq(ROW[2])[None])
    smooth = np.fft.irfft2(spectrum / (1 + (frequency / 0.05) ** 2), s=ROW[1:])
    smooth = smooth / smooth.std() - 0.3
    values: NDArray[np.float32] = np.maximum(smooth, 0).astype(np.float32)
    return values


def make_array(rows: int) -> NDArray[np.float32]:
    """Make the whole array, in batches."""
    values = np.empty((rows, *ROW), np.float32)
    for start in range(0, rows, BATCH):
        values[start : start + BATCH] = make_fields(min(BATCH, rows - start), start)
    return values


def sync_all(path: Path) -> None:
    """Wait until all files at or below a path are on disk."""
    for file in [path, *path.rglob("*")]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def describe_store(tensors: int, shape: tuple[int, ...]) -> StoreRecord:
    """Describe a store of so many float32 tensors."""
    return StoreRecord(
        schema="cnatool.store/1",
        created_by="benchmark",
        inputs=(ArrayRecord("x", "uint8", (1,)),),
        outputs=(ArrayRecord("out", "float32", (1,)),),
        tensors=tuple(
            TensorRecord(
                i, f"relu{i}", "Relu", "other", "float32", shape, 0, "full", None, "float32"
            )
            for i in range(tensors)
        ),
        layers=(),
        statistics=(),
        splits={},
    )


def write_cnatool(path: Path, values: NDArray[np.float32], rows: int, codec: Codec) -> None:
    """Write a store; ``values`` is repeated until there are enough rows."""
    record = describe_store(1, ROW)
    split = StoreWriter(path, record, codec).split("all", rows, source="made", labels=False)
    for start in range(0, rows, BATCH):
        part = values[start % len(values) :][: min(BATCH, rows - start)]
        append(split, 1, start, part)
    split.finish()


def append(split: SplitWriter, tensors: int, start: int, part: NDArray[np.float32]) -> None:
    """Append the same rows to every tensor of a split."""
    split.append(
        StoreRows(
            ids=[str(row) for row in range(start, start + len(part))],
            inputs=[np.zeros((len(part), 1), np.uint8)],
            labels=None,
            outputs=[np.zeros((len(part), 1), np.float32)],
            activations=dict.fromkeys(range(tensors), part),
            statistics={},
        )
    )


def write_numpy(path: Path, values: NDArray[np.float32]) -> None:
    """Write one file with NumPy."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(values), BATCH):
            values[start : start + BATCH].tofile(file)
    sync_all(path)


def write_zarr(
    path: Path, values: NDArray[np.float32], codec: Codec, shards: tuple[int, ...] | None = None
) -> None:
    """Write chunks of 1 MiB with zarr: one file each, its fastest way, or in shards."""
    array = zarr.create_array(
        path,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(CHUNK, *ROW),
        shards=shards,
        compressors=[*ZARR_CODECS[codec], Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    for start in range(0, len(values), BATCH):
        array[start : start + BATCH] = values[start : start + BATCH]
    sync_all(path)


def write_hdf5(path: Path, values: NDArray[np.float32], compression: str | None) -> None:
    """Write a dataset with h5py."""
    import h5py

    level = {"compression_opts": 1} if compression == "gzip" else {}
    chunks = (CHUNK, *ROW) if compression else None
    with h5py.File(path, "w") as file:
        array = file.create_dataset(
            "a", values.shape, values.dtype, chunks=chunks, compression=compression, **level
        )
        for start in range(0, len(values), BATCH):
            array[start : start + BATCH] = values[start : start + BATCH]
    sync_all(path)


def read_hdf5(path: Path) -> Any:
    """Read a dataset with h5py."""
    import h5py

    with h5py.File(path, "r") as file:
        return file["a"][:]


def read_cnatool(path: Path) -> Any:
    """Read the array of a store."""
    return open_store(path).splits["all"].activations("relu0")[:]


def sum_blocks(path: Path) -> float:
    """Sum the array of a store in blocks, as scoring does."""
    blocks = open_store(path).splits["all"].activations("relu0").blocks()
    return sum(float(block.sum(dtype=np.float64)) for _, block in blocks)


def sum_zarr(path: Path) -> float:
    """Sum an array with zarr, 32 MiB at a time."""
    array = zarr.open_array(path, mode="r")
    step = 8 * CHUNK
    parts = (np.asarray(array[i : i + step]) for i in range(0, array.shape[0], step))
    return sum(float(part.sum(dtype=np.float64)) for part in parts)


def sum_file(path: Path) -> float:
    """Sum a plain file, 32 MiB at a time."""
    total = 0.0
    with path.open("rb") as file:
        while (part := np.fromfile(file, np.float32, 8 << 20)).size:
            total += float(part.sum(dtype=np.float64))
    return total


def measure_rounds(
    title: str, calls: Calls, size: int, count: int, clear: Callable[[], None]
) -> None:
    """Time calls alternately; print medians, rates, and ratios to the first within a round.

    Each round begins with another call, since the first one finds memory and disk in another state.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls.items())
    for round_ in range(count + 1):
        order = order[1:] + order[:1]
        for name, call in order:
            clear()
            duration = seconds(call)
            if round_:
                times[name].append(duration)
    first = next(iter(times.values()))
    print(f"\n{title}\n")
    print("| | s | MB/s | rate to cnatool's |\n|---|---|---|---|")
    for name, durations in times.items():
        ratios = [ours / theirs for ours, theirs in zip(first, durations, strict=True)]
        median, ratio = statistics.median(durations), statistics.median(ratios)
        each = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {median:.2f} | {size / median / 1e6:.0f} | {each} |", flush=True)


def evict(path: Path) -> None:
    """Drop all files at or below a path from the operating system's cache."""
    for file in [path, *path.rglob("*")]:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Return the bytes of all files at or below a path."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def compare(folder: Path, values: NDArray[np.float32], codec: Codec, count: int) -> None:
    """Print tables for one codec: writing, reading, summing."""
    writes: dict[str, tuple[str, Callable[[Path], None]]] = {
        f"**cnatool, {codec}**": (
            "ours.zarr",
            partial(write_cnatool, values=values, rows=len(values), codec=codec),
        ),
        f"zarr, {codec}, one file per chunk": (
            "theirs.zarr",
            partial(write_zarr, values=values, codec=codec),
        ),
        f"zarr, {codec}, shards": (
            "shards.zarr",
            # A batch each, since zarr cannot append to a shard.
            partial(write_zarr, values=values, codec=codec, shards=(BATCH, *ROW)),
        ),
        "numpy.tofile": ("plain.bin", partial(write_numpy, values=values)),
    }
    try:
        import h5py  # noqa: F401
    except ImportError:
        print("h5py is not installed: it is left out")
    else:
        for compression in (None, "lzf", "gzip"):
            writes |= {
                f"h5py, {compression or 'no filter'}": (
                    f"{compression}.h5",
                    partial(write_hdf5, values=values, compression=compression),
                )
            }
    paths = {name: folder / file for name, (file, _) in writes.items()}

    def clear() -> None:
        for path in paths.values():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def evict_all() -> None:
        for path in paths.values():
            evict(path)

    size = values.nbytes
    calls: Calls = {name: partial(write, paths[name]) for name, (_, write) in writes.items()}
    measure_rounds(f"Writing {size / 1e6:.0f} MB", calls, size, count, clear)
    for name, call in calls.items():
        call()
        print(f"{name}: {size / size_of(paths[name]):.2f} times smaller")
    ours, theirs, shards, plain, *hdf5 = paths
    reads: Calls = {
        ours: partial(read_cnatool, paths[ours]),
        theirs: lambda: zarr.open_array(paths[theirs], mode="r")[:],
        shards: lambda: zarr.open_array(paths[shards], mode="r")[:],
        "zarr reads cnatool's": lambda: zarr.open_array(
            paths[ours] / "splits/all/activations/0", mode="r"
        )[:],
        "numpy.fromfile": partial(np.fromfile, paths[plain], np.float32),
        **{name: partial(read_hdf5, paths[name]) for name in hdf5},
    }
    for name, call in reads.items():
        assert np.array_equal(np.asarray(call()).reshape(values.shape), values), name
    measure_rounds("Reading into one array, from the cache", reads, size, count, lambda: None)
    measure_rounds("Reading into one array, from the disk", reads, size, count, evict_all)
    sums: Calls = {
        ours: partial(sum_blocks, paths[ours]),
        theirs: partial(sum_zarr, paths[theirs]),
        "numpy.fromfile, summed": partial(sum_file, paths[plain]),
        "numpy.fromfile, only read": partial(np.fromfile, paths[plain], np.float32),
    }
    title = "Summing in blocks, in float64"
    measure_rounds(f"{title}, from the cache", sums, size, count, lambda: None)
    measure_rounds(f"{title}, from the disk", sums, size, count, evict_all)


def measure_many_arrays(folder: Path, tensors: int) -> None:
    """Print the time of thousands of arrays: to create, to fill with a chunk each, to open."""
    path = folder / "many.zarr"
    writer = StoreWriter(path, describe_store(tensors, (100,)))
    rows = np.zeros((BATCH, 100), np.float32)
    splits: list[SplitWriter] = []

    def make() -> None:
        splits.append(writer.split("all", BATCH, source="made", labels=False))

    def fill() -> None:
        append(splits[0], tensors, 0, rows)
        splits[0].finish()

    def read() -> None:
        store = open_store(path)
        for tensor in store.tensors:
            store.splits["all"].activations(tensor.name)[:]

    def by_zarr() -> None:
        root = zarr.open_group(folder / "zarrs.zarr", mode="w")
        for i in range(tensors // 20):
            root.create_array(str(i), shape=(BATCH, 100), dtype=np.float32)

    print(f"\n{tensors} arrays: made in {seconds(make):.2f} s, ", end="")
    print(f"a chunk of each written and committed in {seconds(fill):.2f} s, ", end="")
    print(f"opened in {seconds(partial(open_store, path)):.3f} s, ", end="")
    print(f"opened and each read in {seconds(read):.2f} s; ", end="")
    print(f"zarr makes arrays at {20 * seconds(by_zarr):.1f} s for as many, ", end="")
    print(f"opens ours in {seconds(partial(zarr.open_consolidated, path)):.2f} s")


def measure_memory(folder: Path, rows: int) -> None:
    """Print peaks of writing and of summing, for a quarter of the rows and all of them."""
    for action in ("write", "sum"):
        peaks = {
            n: run_process(
                sys.executable,
                __file__,
                "--only",
                action,
                "--rows",
                n,
                "--folder",
                folder / f"{n}.zarr",
            ).megabytes
            for n in (rows // 4, rows)
        }
        each = ", ".join(f"{peak:.0f} MB for {n} rows" for n, peak in peaks.items())
        print(f"peak memory, {action}: {each}; ratio {peaks[rows] / peaks[rows // 4]:.2f}")


def main() -> None:
    """Print tables of rates, then peaks of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192, help="64 KiB each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--codec", choices=get_args(Codec), default="lz4")
    parser.add_argument("--folder", type=Path, help="default: a temporary folder")
    parser.add_argument("--only", choices=("write", "sum"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        if options.only == "write":
            write_cnatool(options.folder, make_fields(BATCH, 0), options.rows, options.codec)
        else:
            sum_blocks(options.folder)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measure_memory(Path(name), options.rows)
        measure_many_arrays(Path(name), 4000)
        compare(Path(name), make_array(options.rows), options.codec, options.rounds)


if __name__ == "__main__":
    main()
