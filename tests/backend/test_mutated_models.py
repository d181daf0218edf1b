"""Broken model files: each is refused with a short message, or works; nothing crashes.

By default a part of them; ``CNATOOL_MUTATIONS=1000`` tries a thousand.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("resource", reason="memory can be limited on POSIX systems only")

COUNT = int(os.environ.get("CNATOOL_MUTATIONS", "150"))
THOUSAND = 1000
SECONDS = 60.0
TESTS = Path(__file__).parents[1]


def _batch(folder: Path, start: int, stop: int, step: int) -> tuple[list[str], str]:
    """Run numbers in a process of its own; give its lines, and how it ended."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "support.mutations",
        str(folder),
        *map(str, (start, stop, step)),
    ]
    output = folder / "lines.txt"
    with output.open("w") as lines, (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(command, cwd=TESTS, env=environment, stdout=lines, stderr=errors)
        size, changed = 0, time.monotonic()
        # What is timed is one model: the process may take as long as it prints.
        while process.poll() is None:
            time.sleep(0.05)
            if (now := output.stat().st_size) != size:
                size, changed = now, time.monotonic()
            elif time.monotonic() - changed > SECONDS:
                process.kill()
                process.wait()
                return output.read_text().splitlines(), f"took more than {SECONDS:g} s"
    code = process.returncode
    return output.read_text().splitlines(), f"ended the process with {code}" if code else ""


def test_broken_models_are_refused(tmp_path: Path, record_property: Any) -> None:
    step = max(1, THOUSAND // COUNT)
    outcomes: Counter[str] = Counter()
    failures = []
    start = 0
    while start < THOUSAND:
        lines, end = _batch(tmp_path / str(start), start, THOUSAND, step)
        # What the runtime prints by itself is no concern of this test.
        lines = [line[1:] for line in lines if line.startswith("@")]
        kinds = dict(line.split("\t", 1) for line in lines[::2])
        done = dict(line.split("\t", 1) for line in lines[1::2])
        if len(lines) % 2:
            done[lines[-1].split("\t", 1)[0]] = end or "printed nothing more"
        errors = tmp_path / str(start) / "errors.txt"
        assert kinds, f"no model was tried: the process {end}: {errors.read_text()[-2000:]}"
        for number, outcome in done.items():
            if outcome in ("success", "refused"):
                outcomes[outcome] += 1
            else:
                outcomes["failed"] += 1
                failures.append(f"{number}, {kinds[number]}: {outcome}")
        start = max(map(int, kinds)) + step
    text = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    record_property("mutated models", text)
    print(f"mutated models: {text}")  # noqa: T201
    assert not failures, "\n".join([f"{len(failures)} failed:", *failures])
    # Neither a harness that breaks nothing, nor one that breaks everything.
    assert min(outcomes["success"], outcomes["refused"]) >= COUNT // 20
