"""Chunks of stores, exchanged by the formats' own means, so that every checksum of theirs fits."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import google_crc32c
import h5py


def exchange_chunks(store: Path, donor: Path, rng: random.Random) -> str:
    """Exchange a chunk with another of its array, of another split's or another store's."""
    return (_in_zarr if store.is_dir() else _in_hdf5)(store, donor, rng)


def _other(split: str, splits: list[str], rng: random.Random) -> str:
    return rng.choice([each for each in splits if each != split])


def _in_zarr(store: Path, donor: Path, rng: random.Random) -> str:
    splits = sorted(each.name for each in (store / "splits").iterdir() if each.is_dir())
    split = rng.choice(splits)
    folders = sorted((store / "splits" / split).rglob("c*"))
    shard = rng.choice([each for each in folders if each.is_file()])
    key = shard.relative_to(store / "splits" / split)
    how = rng.choice(("array", "split", "store"))
    other = {
        "array": shard,
        "split": store / "splits" / _other(split, splits, rng) / key,
        "store": donor / "splits" / split / key,
    }[how]
    content, source = bytearray(shard.read_bytes()), other.read_bytes()
    index, theirs = _index(shard, content), _index(other, source)
    there = [i for i, (_, size) in enumerate(index) if size < 1 << 40]
    chunk = rng.choice(there)
    taken = rng.choice([i for i, (_, size) in enumerate(theirs) if size < 1 << 40])
    start, size = theirs[taken]
    index[chunk] = (len(content), size)
    content += source[start : start + size]
    head = b"".join(struct.pack("<QQ", *entry) for entry in index)
    head += struct.pack("<I", google_crc32c.value(head))
    content[: len(head)] = head
    shard.write_bytes(content)
    return f"chunk {chunk} of {split}/{key} is chunk {taken} of {how}"


def _index(shard: Path, content: bytes | bytearray) -> list[tuple[int, int]]:
    folder = shard.parent
    while not (folder / "zarr.json").exists():
        folder = folder.parent
    about = json.loads((folder / "zarr.json").read_text())
    rows = about["chunk_grid"]["configuration"]["chunk_shape"][0]
    chunks = rows // about["codecs"][0]["configuration"]["chunk_shape"][0]
    return [struct.unpack_from("<QQ", content, 16 * i) for i in range(chunks)]


def _in_hdf5(store: Path, donor: Path, rng: random.Random) -> str:
    how = rng.choice(("array", "split", "store"))
    with h5py.File(store, "r+") as root, h5py.File(donor, "r") as others:
        splits = sorted(root["splits"])
        split = rng.choice(splits)
        keys: list[str] = []
        root["splits"][split].visititems(
            lambda key, each: keys.append(key) if isinstance(each, h5py.Dataset) else None
        )
        key = rng.choice(sorted(keys))
        array = root["splits"][split][key].id
        other = {
            "array": array,
            "split": root["splits"][_other(split, splits, rng)][key].id,
            "store": others["splits"][split][key].id,
        }[how]
        chunk = array.get_chunk_info(rng.randrange(array.get_num_chunks())).chunk_offset
        taken = other.get_chunk_info(rng.randrange(other.get_num_chunks())).chunk_offset
        mask, content = other.read_direct_chunk(taken)
        array.write_direct_chunk(chunk, content, mask)
    return f"chunk {chunk} of {split}/{key} is chunk {taken} of {how}"
