"""Which compressor, and which size of chunk, suits the output of a ReLU?

Chunks of synthetic activations are compressed and decompressed in one thread that is not the main
thread, as when a store is written or read: in the main thread, Blosc would use its own threads.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numcodecs import Blosc, GZip
from numpy.typing import NDArray
from store_speed import ROW_BYTES, make_fields
from timing import seconds

SHUFFLES = {"no shuffle": Blosc.NOSHUFFLE, "bytes": Blosc.SHUFFLE, "bits": Blosc.BITSHUFFLE}
CODECS = {
    f"{name} {level}, {shuffle}": Blosc(name, level, number)
    for name, level in (("lz4", 1), ("lz4", 5), ("zstd", 1), ("zstd", 3))
    for shuffle, number in SHUFFLES.items()
} | {"gzip 1": GZip(1)}
# The compressors of stores.
STORE_CODECS = ("lz4 1, no shuffle", "zstd 1, no shuffle", "gzip 1")
MIB = 1 << 20


def measure_codec(
    codec: Blosc | GZip,
    values: NDArray[np.float32],
    chunk: int,
    rounds: int,
    measure: Callable[[Callable[[], object]], float],
) -> str:
    """Measure one compressor and size of chunk; return the cells of a table row."""
    rows = max(1, chunk // ROW_BYTES)
    parts = [values[start : start + rows] for start in range(0, len(values), rows)]
    out = np.empty_like(parts[0])
    encoded = [codec.encode(part) for part in parts]

    def encode() -> None:
        for part in parts:
            codec.encode(part)

    def decode() -> None:
        for data in encoded:
            codec.decode(data, out)

    rates = [
        values.nbytes / statistics.median(measure(call) for _ in range(rounds)) / 1e6
        for call in (encode, decode)
    ]
    return f"{values.nbytes / sum(map(len, encoded)):.2f} | {rates[0]:.0f} | {rates[1]:.0f}"


def main() -> None:
    """Print a table of compressors with chunks of 1 MiB, and one of chunk sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    values = make_fields(512, 0)
    with ThreadPoolExecutor(1) as thread:

        def measure(call: Callable[[], object]) -> float:
            return thread.submit(seconds, call).result()

        print("| chunks of 1 MiB | times smaller | MB/s in | MB/s out |\n|---|---|---|---|")
        for name, codec in CODECS.items():
            print(
                f"| {name} | {measure_codec(codec, values, MIB, options.rounds, measure)} |",
                flush=True,
            )
        print("\n| chunk | times smaller | MB/s in | MB/s out |\n|---|---|---|---|")
        for name in STORE_CODECS:
            for size in (MIB // 16, MIB // 4, MIB, 4 * MIB, 16 * MIB):
                cells = measure_codec(CODECS[name], values, size, options.rounds, measure)
                print(f"| {name}, {size // 1024} KiB | {cells} |", flush=True)


if __name__ == "__main__":
    main()
