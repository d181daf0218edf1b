"""One byte of a store changes, anywhere: what is read is what was written, or an error says so."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.stores import write_store

from cnatool.errors import StoreDamagedError
from cnatool.records.choices import Codec
from cnatool.records.store import StoreRecord
from cnatool.store.reader import open_store
from cnatool.store.store import Store

# CNATOOL_DAMAGE=1000 tries a thousand bytes for each compressor.
FLIPS = int(os.environ.get("CNATOOL_DAMAGE", "80"))


def contents(store: Store) -> tuple[StoreRecord, list[Any]]:
    """Read all that a store can give."""
    split = store.splits["train"]
    names = [tensor.name for tensor in store.tensors]
    arrays = [split.ids, split.labels, split.inputs(), split.outputs(), split.statistics()]
    arrays += [split.activations(name) for name in names]
    read = [array[:] for array in arrays]
    return store.record, [(a.dtype, a.shape, a.tolist()) for a in read]


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", "none"])
def test_flipped_bytes(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    write_store(path, codec)
    expected = contents(open_store(path))
    files = sorted(file for file in path.rglob("*") if file.is_file())
    rng = random.Random(0)
    found = 0
    for _ in range(FLIPS):
        file = rng.choice(files)
        content = file.read_bytes()
        place, flip = rng.randrange(len(content)), rng.choice([1 << rng.randrange(8), 0xFF])
        file.write_bytes(content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :])
        try:
            assert contents(open_store(path)) == expected, f"{file}, byte {place}, flip {flip}"
        except StoreDamagedError:
            found += 1
        file.write_bytes(content)
    assert found
    assert contents(open_store(path)) == expected


def test_flipped_bytes_of_the_attribute(tmp_path: Path) -> None:
    """Only a checksum of its own guards it; digits stay digits."""
    path = tmp_path / "s.zarr"
    write_store(path)
    expected = open_store(path).record
    content = (path / "zarr.json").read_bytes()
    places = range(content.index(b'"consolidated_metadata"'))
    for place in random.Random(0).sample(places, min(10 * FLIPS, len(places))):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        (path / "zarr.json").write_bytes(changed)
        with suppress(StoreDamagedError):
            assert open_store(path).record == expected, f"byte {place}"
