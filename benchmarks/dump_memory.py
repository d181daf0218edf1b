"""Does the peak memory of a dump grow with the number of samples?

Whole processes over 6,000 and 60,000 samples. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from networks import convnet, mlp, write_digits
from processes import call_in_child, run_process

COMMAND = Path(sys.executable).parent / "cnatool"


def main() -> None:
    """Print one line per network and kind of dump."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {}
        for rows in (6_000, 60_000):
            (folder / str(rows)).mkdir()
            images[rows] = call_in_child(write_digits, folder / str(rows), rows)
        for title, model in (
            ("MLP 784-500-500-500-10", call_in_child(mlp, folder / "mlp.onnx")),
            ("convnet 16-32-64", call_in_child(convnet, folder / "convnet.onnx")),
        ):
            for keep in ("statistics", "full"):
                peaks = {
                    rows: run_process(
                        COMMAND, "dump", model, data, "-q", "--overwrite",
                        "-o", folder / "dump.zarr", "--keep", keep,
                    ).megabytes
                    for rows, data in images.items()
                }  # fmt: skip
                each = ", ".join(f"{peak:.0f} MB over {rows}" for rows, peak in peaks.items())
                print(f"{title}, --keep {keep}: {each}; ratio {peaks[60_000] / peaks[6_000]:.2f}")


if __name__ == "__main__":
    main()
