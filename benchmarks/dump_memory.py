"""Does the peak memory of a dump grow with the number of samples?

Whole processes over 6,000 and 60,000 samples. Linux only: a child's peak resident memory comes from
the operating system.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from networks import convnet, mlp, write_digits

COMMAND = Path(sys.executable).parent / "cnatool"


def peak_megabytes(*words: object) -> float:
    """Run a command and give its peak resident memory."""
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} failed")
    return usage.ru_maxrss / 1000


def apart(write: Callable[..., Path], *words: object) -> Path:
    """Write a file in another process: the system counts this one's peak as its children's, too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(write, *words).result()


def main() -> None:
    """Print a line a network and form of dump."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {}
        for rows in (6_000, 60_000):
            (folder / str(rows)).mkdir()
            images[rows] = apart(write_digits, folder / str(rows), rows)
        for title, model in (
            ("MLP 784-500-500-500-10", apart(mlp, folder / "mlp.onnx")),
            ("convnet 16-32-64", apart(convnet, folder / "convnet.onnx")),
        ):
            for keep in ("statistics", "full"):
                peaks = {
                    rows: peak_megabytes(
                        COMMAND, "dump", model, data, "-q", "--overwrite",
                        "-o", folder / "dump.zarr", "--keep", keep,
                    )
                    for rows, data in images.items()
                }  # fmt: skip
                each = ", ".join(f"{peak:.0f} MB over {rows}" for rows, peak in peaks.items())
                print(f"{title}, --keep {keep}: {each}; ratio {peaks[60_000] / peaks[6_000]:.2f}")


if __name__ == "__main__":
    main()
