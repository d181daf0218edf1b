"""What the examples for trackers log: settings and measures of each run, and a study of all."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cnatool

# Columns of a trajectory that are no measures.
_NAMES = ("run", "step", "id", "path", "test_path", "model", "convention")


@dataclass(frozen=True)
class Run:
    """One run of training: its settings, and its measures by step."""

    name: str
    settings: dict[str, str]
    measures: list[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class Results:
    """All runs, the study of their networks, and the files of both."""

    runs: list[Run]
    settings: dict[str, str]
    correlations: dict[str, float]
    files: list[Path]


def parse_words(description: str | None) -> argparse.Namespace:
    """Read the stores, the tag of runs and the folder from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", nargs="+", type=Path, help="stores, and folders of stores")
    parser.add_argument("--by", default="run", metavar="TAG", help="tag of runs (default: run)")
    parser.add_argument("--order", metavar="TAG", help="tag of steps, where several could be")
    parser.add_argument("--output", type=Path, default=Path("tracked"), metavar="FOLDER")
    return parser.parse_args()


def analyse(words: argparse.Namespace) -> Results:
    """Score and study all checkpoints; scores are kept in the folder for the next time."""
    series, network = words.output / "trajectory", words.output / "study"
    trajectory = cnatool.trajectory(words.stores, by=words.by, order=words.order, folder=series)
    study = cnatool.study(words.stores, cluster=words.by, folder=network)
    settings = study.result.settings
    return Results(
        list(_split_runs(trajectory)),
        {
            "convention": str(study.result.convention.name),
            "networks": str(len(study.networks)),
            "hyperparameters": ", ".join(settings.hyperparameters),
            "cluster": str(settings.cluster),
        },
        {
            f"{each.target}.{each.measure}.{coefficient}": value
            for each in study.result.correlations
            for coefficient in ("pearson", "spearman", "kendall_b")
            if (value := getattr(each, coefficient).value) is not None
        },
        [*_draw(series, "trajectory"), *_draw(network, "measures"), *_documents(series, network)],
    )


def _split_runs(trajectory: cnatool.Trajectory) -> Iterator[Run]:
    steps = trajectory.steps
    tags = [name for name in steps.columns if name.startswith("tag.")]
    measures = [name for name in steps.columns if name not in _NAMES and name not in tags]
    for (name,), rows in steps.group_by("run", maintain_order=True):
        # What changes along a run is no setting of it.
        fixed = [tag for tag in tags if rows[tag].n_unique() == 1 and rows[tag][0] is not None]
        yield Run(
            str(name),
            {tag.removeprefix("tag."): rows[tag][0] for tag in fixed},
            [
                (round(row["step"]), {m: row[m] for m in measures if row[m] is not None})
                for row in rows.sort("step").iter_rows(named=True)
            ],
        )


def _draw(folder: Path, figure: str) -> Iterator[Path]:
    """Draw a figure, if what draws it is installed: ``pip install 'cnatool[plot]'``."""
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        return
    path = folder / f"{figure}.png"
    cnatool.plot(folder, figure).save(path)
    yield path


def _documents(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.iterdir() if path.suffix in (".json", ".parquet"))
