"""How accurate are the estimates of a dump's disk, time and memory?

`cnatool.preflight` estimates in one process, and another one dumps. Linux only: peak resident
memory comes from `/proc`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from networks import convnet, mlp, resnet18, write_digits

# Title, network, images for a dump of statistics and for a full one.
NETWORKS = (
    ("MLP 784-500-500-500-10", mlp, 60_000, 60_000),
    ("convnet 16-32-64", convnet, 60_000, 6_000),
    ("ResNet-18", resnet18, 2_560, 256),
)

PREFLIGHT = """
import json, sys, cnatool
result = cnatool.preflight(*sys.argv[1:4], keep=sys.argv[4])
print(json.dumps([result.disk_bytes, result.seconds, result.memory_bytes]))
"""

DUMP = """
import json, pathlib, sys, time, cnatool
cnatool.preflight  # imports are not timed
start = time.perf_counter()
store = cnatool.dump(*sys.argv[1:4], keep=sys.argv[4]).path
seconds = time.perf_counter() - start
# Of this process itself: what a parent measures includes the parent's own memory.
status = pathlib.Path("/proc/self/status").read_text().split()
peak = 1024 * int(status[status.index("VmHWM:") + 1])
print(json.dumps([sum(f.stat().st_size for f in store.rglob("*") if f.is_file()), seconds, peak]))
"""


def run(code: str, *words: object) -> list[float]:
    """Run Python code in a process and parse its output."""
    command = [sys.executable, "-c", code, *map(str, words)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    numbers: list[float] = json.loads(result.stdout)
    return numbers


def main() -> None:
    """Print one line per network and kind of dump."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for title, write, thin, whole in NETWORKS:
        for keep, rows in (("statistics", thin), ("full", whole)):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                words = (
                    write(folder / "model.onnx"),
                    write_digits(folder, rows),
                    folder / "dump.zarr",
                    keep,
                )
                disk, seconds, memory = run(PREFLIGHT, *words)
                real_disk, real_seconds, real_memory = run(DUMP, *words)
            print(
                f"{title}, --keep {keep}, {rows} images, estimated and measured: "
                f"disk {disk / 1e6:.1f}, {real_disk / 1e6:.1f} MB; "
                f"time {seconds:.2f}, {real_seconds:.2f} s; "
                f"memory {memory / 1e6:.0f}, {real_memory / 1e6:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
