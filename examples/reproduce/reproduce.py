"""Train the networks of docs/reproduction.md, measure every checkpoint, and apply the rules.

python examples/reproduce/reproduce.py --quick -o quick
python examples/reproduce/reproduce.py --mnist FOLDER --cifar10 FOLDER -o full

Everything is resumable: the same command continues where an interrupted one stopped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from collection import SEEDS, list_runs, process_all
from correlating import correlate, write_correlations
from networks import NETWORKS
from rules import apply_rules, list_lines
from tasks import MEMORISED, TASKS

TABLE = "networks.parquet"


def parse_words(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of words with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(known)}")
        return words

    return parse


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = tuple(TASKS | MEMORISED)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="the digits and one seed, in minutes")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="with MNIST's four IDX files")
    parser.add_argument("--cifar10", type=Path, metavar="FOLDER", help="with two Parquet files")
    parser.add_argument("--tasks", type=parse_words(every), default=every, metavar="NAME,…")
    parser.add_argument(
        "--networks", type=parse_words(tuple(NETWORKS)), default=tuple(NETWORKS), metavar="NAME,…"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N", help="the last epoch")
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE.parquet",
        help=f"of networks, whose runs are not repeated; by default {TABLE} in the output folder",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes")
    options = parser.parse_args()
    if options.quick:
        if (options.tasks, options.seeds) != (every, SEEDS):
            parser.error("--quick chooses the task and the seed: leave out --tasks and --seeds")
        options.tasks, options.seeds = ("digits",), 1
    sources = {"mnist": options.mnist, "cifar10": options.cifar10}
    folders = {name: folder for name, folder in sources.items() if folder is not None}
    runs = list_runs(options.tasks, options.networks, options.seeds, options.limit)
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    networks = process_all(
        runs, folders, output / "models", options.table or output / TABLE, options.jobs
    )
    correlations, differences = correlate(networks)
    write_correlations(output, correlations, differences)
    print(f"{len(networks)} networks of {len(runs)} runs; results are in {output}")
    # The rules are about the whole collection, no more and no less.
    if set(runs) == set(list_runs()):
        print(*list_lines(apply_rules(correlations, differences)), sep="\n")


if __name__ == "__main__":
    main()
