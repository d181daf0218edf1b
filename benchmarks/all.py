"""Measure every figure that has a goal, print it with its goal, and write all of them as JSON.

Peers and cnatool take turns in a process of each measurement's own; imports, and the making of
networks and data, are outside of the times. A peer runs with its own fastest batch, which a short
trial finds. Linux only.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

import dumps  # noqa: F401  (registers its measurements)
import peers  # noqa: F401
import scores  # noqa: F401
from figures import Report, Result, read_report, write_report
from machine import describe_machine, list_versions
from processes import call_in_child
from registry import MEASUREMENTS, Run, measure, select
from tables import describe_row


def main() -> None:
    """Measure, and print a line for each row."""
    options = parse_options()
    names = select(options.only)
    path = options.json or options.cache / "figures.json"
    load = os.getloadavg()[0]
    versions = list_versions(options.peers)
    report = Report(
        describe_command(options),
        options.quick,
        describe_machine(load),
        versions,
        [],
    )
    parameters = {
        "cnatool": versions["cnatool"],
        "quick": str(options.quick),
        "scale": str(options.scale),
        "rounds": str(options.rounds),
    }
    known = {}
    if options.keep and path.exists():
        known = {
            result.name: result
            for result in read_report(path).results
            if result.parameters == parameters
        }
    for name in names:
        if name not in known:
            known[name] = call_in_child(measure_alone, name, options, parameters)
            # What was kept stays in the file, even if this run is interrupted as well.
            report.results = [known[each] for each in MEASUREMENTS if each in known]
            report.machine = describe_machine(load)
            write_report(report, path)
        print_result(known[name])
    print(f"written to {path}")


def describe_command(options: argparse.Namespace) -> str:
    """Return the command without the places of this machine."""
    words = ["python", "benchmarks/all.py"]
    words += ["--quick"] if options.quick else []
    words += ["--only", *options.only] if options.only != ["*"] else []
    words += ["--rounds", str(options.rounds)] if options.rounds else []
    words += ["--scale", str(options.scale)] if options.scale != 1 else []
    return shlex.join(words)


def measure_alone(name: str, options: argparse.Namespace, parameters: dict[str, str]) -> Result:
    """Make one measurement in a process of its own."""
    run = Run(options.cache, options.peers, options.quick, options.scale, options.rounds)
    return measure(name, run, parameters)


def print_result(result: Result) -> None:
    """Print the rows of a measurement, and what was left out."""
    for row in result.rows:
        print(describe_row(row), flush=True)
    for name, reason in result.left_out.items():
        print(f"{name} left out: {reason}", flush=True)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and rows: under 6 minutes on two cores"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=["*"],
        metavar="GLOB",
        help=f"measurements: {', '.join(MEASUREMENTS)}",
    )
    parser.add_argument("--json", type=Path, help="file of figures (default: in the cache)")
    parser.add_argument(
        "--continue",
        dest="keep",
        action="store_true",
        help="keep what the file of figures has of the same version and options",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "cnatool-benchmarks",
        help="folder for made-up networks and data, which are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path(sys.executable),
        metavar="PYTHON",
        help="interpreter of an environment with torchlens and polygraphy (default: this one)",
    )
    parser.add_argument("--rounds", type=int, help="rounds of every measurement")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="factor of all numbers of rows, to try something; goals are those of all rows",
    )
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is at least 1")
    if options.scale <= 0:
        parser.error("--scale is above 0")
    return options


if __name__ == "__main__":
    main()
