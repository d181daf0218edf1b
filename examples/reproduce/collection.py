"""The runs of the reproduction: trained and measured side by side, into one table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import torch
from measuring import measure
from networks import NETWORKS
from tasks import (
    KINDS,
    MEMORISED,
    STANDARD,
    TASKS,
    Data,
    count_rows,
    find_source,
    read_task,
    vary_data,
)
from training import Run, train

RATES = (0.05, 0.01)
SEEDS = 2
# Epochs; most runs converge long before. Those of few samples are short.
LIMIT, LIMIT_OF_FEW = 60, 400
_FEW = 2_000
_SECONDS = "seconds"

Folders = dict[str, Path]


def list_runs(
    tasks: Sequence[str] = tuple(TASKS | MEMORISED),
    networks: Sequence[str] = tuple(NETWORKS),
    seeds: int = SEEDS,
    limit: int | None = None,
) -> list[Run]:
    """List the runs: each task at two rates, and each set to memorise at the first of them.

    All runs of one seed come before those of the next, small tasks before large ones.

    Parameters
    ----------
    tasks, networks : sequence of str
        Only these.
    seeds : int
        Number of seeds: 0, 1, …
    limit : int, optional
        The last epoch, in place of `LIMIT` and `LIMIT_OF_FEW`.
    """
    settings = [(task, STANDARD, rate) for task in TASKS for rate in RATES]
    settings += [(task, kind, RATES[0]) for task in MEMORISED for kind in KINDS if kind != STANDARD]
    settings.sort(key=lambda setting: count_rows(setting[0]))
    return [
        Run(task, kind, network, rate, seed, limit or _find_limit(task))
        for seed in range(seeds)
        for task, kind, rate in settings
        if task in tasks
        for network in networks
    ]


def check_whole(networks: pl.DataFrame, table: Path) -> None:
    """Refuse a table that lacks runs of the collection, or has others: nothing follows from it."""
    runs, found = {run.name for run in list_runs()}, set(networks["tag.run"])
    if runs - found:
        raise SystemExit(
            f"{table}: {len(runs - found)} of {len(runs)} runs are missing. Nothing is decided "
            "before all have ended: continue with reproduce.py."
        )
    if found - runs:
        raise SystemExit(f"{table}: {min(found - runs)} is not a run of this collection.")


def process_all(
    runs: Sequence[Run], folders: Folders, models: Path, table: Path, jobs: int
) -> pl.DataFrame:
    """Train and measure the runs that the table lacks, and add the networks of each to it.

    After each run, says how long the rest will take. A run that ended at another limit of epochs is
    refused.

    Parameters
    ----------
    runs : sequence of Run
    folders : dict of str to Path
        As of `read_task`.
    models : Path
        Folder of the checkpoints, with one folder per run.
    table : Path
        A Parquet file; created if it does not exist.
    jobs : int
        Processes, each with one thread.

    Returns
    -------
    polars.DataFrame
        The networks of these runs.
    """
    networks = pl.read_parquet(table) if table.exists() else pl.DataFrame({"tag.run": []})
    known = set(networks["tag.run"])
    left = [run for run in runs if run.name not in known]
    for run in runs:
        if run.name in known:
            last = networks.filter((pl.col("tag.run") == run.name) & (pl.col("tag.last") == "True"))
            epoch, converged = last.select("tag.epoch", "tag.converged").row(0)
            _check_end(run, int(epoch), converged == "True", table)
    seconds = {
        run: _sum_seconds(networks.filter(pl.col("tag.run") == run.name))
        for run in runs
        if run.name in known
    }
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        waiting = {pool.submit(_process, run, folders, models): run for run in left}
        try:
            for done in as_completed(waiting):
                run, rows = waiting[done], done.result()
                networks = pl.concat([networks, rows], how="diagonal_relaxed")
                _write(networks, table)
                left.remove(run)
                seconds[run] = _sum_seconds(rows)
                rest = _describe_rest(len(left), estimate_seconds(left, seconds), jobs)
                print(f"{run.name}: {_describe(rows)}; {rest}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return networks.filter(pl.col("tag.run").is_in([run.name for run in runs]))


def estimate_seconds(left: Sequence[Run], seconds: Mapping[Run, float]) -> float | None:
    """Estimate the processor time of runs from that of finished ones of the same networks.

    A run takes as long as the finished one that is most like it, first by the source of the images
    and then by the number of samples, multiplied by the ratio of these numbers. None if a network
    has no finished run.
    """
    total = 0.0
    for run in left:
        alike = [each for each in seconds if each.network == run.network]
        if not alike:
            return None
        rows = count_rows(run.task)
        closest = min(
            alike,
            key=lambda each: (
                find_source(each.task) != find_source(run.task),
                abs(rows - count_rows(each.task)),
                each.memorises != run.memorises,
                each.rate != run.rate,
            ),
        )
        total += seconds[closest] * rows / count_rows(closest.task)
    return total


def _process(run: Run, folders: Folders, models: Path) -> pl.DataFrame:
    """Train a run and measure its checkpoints."""
    data = vary_data(_read_task(run.task, tuple(folders.items())), run.task, run.kind)
    history = train(run, data, models)
    _check_end(run, len(history.losses), history.converged, models / run.name)
    # The history has the time of training, which may have been spent by an earlier process.
    start = time.process_time()
    rows = measure(run, history, data, models)
    spent = history.seconds + time.process_time() - start
    share = pl.lit(round(spent / len(rows), 2), pl.Float64)
    return rows.with_columns(share.alias(_SECONDS))


def _check_end(run: Run, epochs: int, converged: bool, where: Path) -> None:
    """Refuse a run that ended at another limit than its own."""
    if epochs > run.limit or (epochs < run.limit and not converged):
        raise SystemExit(
            f"{where}: {run.name} ended at epoch {epochs}, and its limit is {run.limit}. Use the "
            "`--limit` that it was trained with, or name another folder or table."
        )


@lru_cache(1)
def _read_task(name: str, folders: tuple[tuple[str, Path], ...]) -> Data:
    return read_task(name, dict(folders))


def _sum_seconds(rows: pl.DataFrame) -> float:
    return float(rows[_SECONDS].sum())


def _write(networks: pl.DataFrame, table: Path) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    partial = table.with_name(f".{table.name}.partial")
    networks.write_parquet(partial, compression="zstd")
    partial.replace(table)


def _find_limit(task: str) -> int:
    return LIMIT_OF_FEW if count_rows(task) <= _FEW else LIMIT


def _describe(rows: pl.DataFrame) -> str:
    last = rows.row(-1, named=True)
    end = "" if last["tag.converged"] == "True" else ", the limit"
    accuracies = f"accuracy {last['train.accuracy']:.3f}, {last['test.accuracy']:.3f}"
    return f"{len(rows)} networks, {last['tag.epoch']} epochs{end}, {accuracies}"


def _describe_rest(runs: int, seconds: float | None, jobs: int) -> str:
    if not runs or seconds is None:
        return f"{runs} runs left"
    minutes = max(1, round(seconds / jobs / 60))
    return f"{runs} runs left, about " + (
        f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    )
