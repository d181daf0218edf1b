"""Train a collection of networks, dump and score every checkpoint, and study all of them.

python examples/reproduce/reproduce.py --quick -o quick
python examples/reproduce/reproduce.py --mnist FOLDER --cifar10 FOLDER -o full

Everything is resumable: the same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from collection import FULL, QUICK, Collection, Workplace
from datasets import DATASETS, KINDS
from evaluating import dump_all, study_all
from networks import NETWORKS

STAGES = ("train", "dump", "study")


def select_collection(options: argparse.Namespace) -> Collection:
    """Return the quick or the full collection, with the changes that the options make."""
    changes = {
        name: getattr(options, name)
        for name in ("datasets", "kinds", "networks", "seeds", "epochs", "rows", "test_rows")
        if getattr(options, name) is not None
    }
    return replace(QUICK if options.quick else FULL, **changes)


def word_parser(known: tuple[str, ...]) -> type:
    """Return a parser of words with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(known)}")
        return words

    return parse  # type: ignore[return-value]


def parse_numbers(text: str) -> tuple[int, ...]:
    """Parse whole numbers with commas between them."""
    return tuple(map(int, text.split(",")))


def main() -> None:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="on the digits, in a few minutes")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--mnist", type=Path, metavar="FOLDER", help="with MNIST's four IDX files")
    parser.add_argument("--cifar10", type=Path, metavar="FOLDER", help="with two Parquet files")
    parser.add_argument("--datasets", type=word_parser(DATASETS), metavar="NAME,…")
    parser.add_argument("--kinds", type=word_parser(KINDS), metavar="NAME,…")
    parser.add_argument("--networks", type=word_parser(tuple(NETWORKS)), metavar="NAME,…")
    parser.add_argument("--seeds", type=int, metavar="N")
    parser.add_argument("--epochs", type=parse_numbers, metavar="N,…", help="with a checkpoint")
    parser.add_argument("--rows", type=int, metavar="N", help="training samples of each dataset")
    parser.add_argument("--test-rows", type=int, metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of PyTorch")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folders = {"mnist": options.mnist, "cifar10": options.cifar10}
    place = Workplace(options.output, select_collection(options), folders)
    stages = {
        "train": place.train_all,
        "dump": lambda: dump_all(place),
        "study": lambda: study_all(place),
    }
    for name in STAGES[: STAGES.index(options.until) + 1]:
        with place.measure_time(name):
            stages[name]()
    if options.until == STAGES[-1]:
        print(f"results are in {place.results}")


if __name__ == "__main__":
    main()
