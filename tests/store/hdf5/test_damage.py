"""A flipped byte anywhere in an HDF5 store changes no number: it is harmless, or it is reported.

``CNATOOL_DAMAGE=1000`` tries that many bytes; a few are tried otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.stores import append, arrays, record

from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.records.store import SkippedTensor
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter

FLIPS = int(os.environ.get("CNATOOL_DAMAGE", "60"))
ROWS = 3000

# HDF5 itself may fall over what is damaged, so this runs in a process of its own.
READER = """
import hashlib, json, random, sys
from pathlib import Path
import msgspec
from cnatool.errors import NotAStoreError, StoreDamagedError
from cnatool.records.layout import split_arrays
from cnatool.store.reader import open_store

path, count, first, stop = Path(sys.argv[1]), *map(int, sys.argv[2:])
content = path.read_bytes()

def everything():
    store = open_store(path)
    seen = hashlib.sha256(msgspec.json.encode(store.record))
    for split in store.splits.values():
        for spec in split_arrays(store.record, labels=split.record.labels):
            values = split.array(spec.key)[:]
            seen.update("\\0".join(values).encode() if values.dtype == object else values.tobytes())
    return seen.hexdigest()

whole = everything()
rng = random.Random(0)
outcomes = {"harmless": 0, "damaged": 0, "no store": 0}
for number in range(count):
    at = rng.randrange(first, min(stop, len(content)))
    bits = rng.randrange(1, 256)
    print(f"{number}: byte {at} ^ {bits}", file=sys.stderr, flush=True)
    broken = bytearray(content)
    broken[at] ^= bits
    path.write_bytes(broken)
    try:
        same = everything() == whole
    except StoreDamagedError as error:
        assert path.name in str(error)
        outcomes["damaged"] += 1
    except NotAStoreError as error:
        assert path.name in str(error) and at < 8, at
        outcomes["no store"] += 1
    else:
        assert same, "a number changed, and nobody said so"
        outcomes["harmless"] += 1
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("codec", ["none", "gzip"])
@pytest.mark.parametrize("part", ["anywhere", "the first bytes", "a long attribute"])
def test_flipped_bytes(codec: str, part: str, tmp_path: Path) -> None:
    # Of more than 64 KiB, an attribute lies elsewhere in the file, and without HDF5's checksums.
    reason = "x" * (100_000 if part == "a long attribute" else 10)
    skipped = (SkippedTensor("left out", "If", reason),)
    path = tmp_path / "s.h5"
    store = StoreWriter(path, msgspec.structs.replace(record(), skipped=skipped), codec=codec)
    data = arrays(ROWS)
    split = store.split("train", ROWS, source="made", labels=True, id_bytes=11)
    append(split, data, 0, ROWS)
    split.finish()
    store.close()
    first, stop = 0, path.stat().st_size
    if part == "the first bytes":
        stop = 16_000
    if part == "a long attribute":
        content = path.read_bytes()
        # Attributes of earlier commits may lie about as free space.
        first = content.index(b"x" * 1000, content.index(b'"complete":true'))
        stop = first + 100_000
    result = subprocess.run(
        [sys.executable, "-c", READER, path, str(FLIPS), str(first), str(stop)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    outcomes = json.loads(result.stdout)
    assert sum(outcomes.values()) == FLIPS
    # Among the first bytes much is free space; elsewhere nearly every byte counts.
    assert outcomes["damaged"] > FLIPS * (0.9 if part != "the first bytes" else 0.05)


def test_a_short_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    store = StoreWriter(path, record())
    split = store.split("train", 500, source="made", labels=True, id_bytes=11)
    append(split, arrays(500), 0, 500)
    split.finish()
    store.close()
    content = path.read_bytes()
    for size in np.linspace(1, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:size])
        with pytest.raises((StoreDamagedError, NotAStoreError), match=r"s\.h5"):
            open_store(path)
