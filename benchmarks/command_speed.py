"""How long do `cnatool --help` and `cnatool score` take, beyond starting the interpreter?

The store holds the statistics, raw inputs and outputs of 60,000 + 10,000 images of MNIST's size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from networks import mlp, write_digits
from timing import compare

import cnatool

COMMAND = Path(sys.executable).parent / "cnatool"


def run(*words: object) -> None:
    """Run a command and discard its output."""
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    interpreter = ("python -c pass", partial(run, sys.executable, "-c", "pass"))
    compare("help", interpreter, ("--help", partial(run, COMMAND, "--help")), options.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "store.zarr"
        splits = {}
        for split, rows in (("train", 60_000), ("test", 10_000)):
            (folder / split).mkdir()
            splits[split] = write_digits(folder / split, rows)
        cnatool.dump(mlp(folder / "mlp.onnx"), store=store, splits=splits, keep="statistics")
        compare("score", interpreter, ("score", partial(run, COMMAND, "score", store)), 7)


if __name__ == "__main__":
    main()
