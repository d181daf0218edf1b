"""Measurements of dumps beside plain ONNX Runtime and beside a user's own loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import cases
import loops
import onnx
from cases import Case, open_case
from figures import Row, Side, Spread, compare_times, subtract_times
from processes import run_process
from registry import Run, register
from timing import Taken, alternate, find_fastest, processor_seconds
from working_folder import WorkingFolder

import cnatool

Kept = Literal["statistics", "full"]


def dump(
    case: Case,
    store: Path,
    keep: Kept,
    tensors: str = "all",
    rows: int | None = None,
    observer: cnatool.Observer | None = None,
) -> None:
    """Dump into a new store."""
    cnatool.dump(
        case.model,
        case.images,
        store,
        keep=keep,
        tensors=tensors,
        limit=rows,
        scale=1 / 255,
        observer=observer,
    )


def _dump_again(case: Case, folder: WorkingFolder, keep: Kept, tensors: str = "all") -> None:
    dump(case, folder.new_path(".zarr"), keep, tensors)


def measure_statistics(
    run: Run,
    network: str,
    rows: int,
    rounds: int,
    goal: float,
    selections: tuple[str, ...] = ("all",),
) -> list[Row]:
    """Compare dumps of statistics with inference of the same images alone."""
    case = open_case(network, rows, run.cache)
    few = count_few(case)
    batch = find_fastest(lambda size: loops.run_inference(case, size, few), case.network.batches)
    with run.open_folder() as folder:
        calls: dict[str, Callable[[], object]] = {"peer": lambda: loops.run_inference(case, batch)}
        for tensors in selections:
            dump(case, folder.new_path(".zarr"), "statistics", tensors, few)
            calls[tensors] = partial(_dump_again, case, folder, "statistics", tensors)
        times = alternate(calls, rounds, folder.clear)
    peer = (f"ONNX Runtime, batch {batch}", times["peer"])
    return [
        compare_times(
            f"statistics of {'all tensors' if tensors == 'all' else tensors}, {case.title}",
            peer,
            ("cnatool", times[tensors]),
            goal,
        )
        for tensors in selections
    ]


def measure_full(run: Run, network: str, rows: int, rounds: int) -> list[Row]:
    """Compare full dumps with a loop that stores the same, and with the longer of its two parts."""
    case = open_case(network, rows, run.cache)
    few, sizes = count_few(case), case.network.batches
    with run.open_folder() as folder:

        def write(size: int, rows: int | None = None) -> None:
            loops.write_all_outputs(case, folder.new_path(), size, rows)

        loop = find_fastest(lambda size: write(size, few), sizes)
        fetched = find_fastest(lambda size: loops.run_all_outputs(case, size, few), sizes)
        arrays = loops.compute_all_outputs(case, loop)
        dump(case, folder.new_path(".zarr"), "full", rows=few)
        calls: dict[str, Callable[[], object]] = {
            "loop": lambda: write(loop),
            "fetched": lambda: loops.run_all_outputs(case, fetched),
            "written": lambda: loops.write_bytes(arrays, case.rows, folder.new_path()),
            "cnatool": partial(_dump_again, case, folder, "full"),
        }
        times = alternate(calls, rounds, folder.clear)
    ours = ("cnatool", times["cnatool"])
    parts = zip(times["fetched"], times["written"], strict=True)
    longer = [max(pair, key=lambda taken: taken.seconds) for pair in parts]
    title = f"the longer of all outputs fetched, batch {fetched}, and NumPy writing"
    what = f"full dump, {case.title}"
    return [
        compare_times(what, (f"own loop with tofile, batch {loop}", times["loop"]), ours, 0.8),
        compare_times(what, (title, longer), ours, 1.2),
    ]


def measure_start(run: Run, network: str, rounds: int, goal: float) -> list[Row]:
    """Compare the beginning of a dump, and a dump of one batch, with one batch of inference."""
    case = open_case(network, run.count_rows(max(cases.NETWORKS[network].batches)), run.cache)
    starts: list[Taken] = []
    with run.open_folder() as folder:

        def start() -> None:
            clock = FirstRows()
            dump(case, folder.new_path(".zarr"), "statistics", observer=clock)
            starts.append(clock.taken)

        calls = {"peer": lambda: loops.run_inference(case, case.rows), "dump": start}
        alternate(calls, 1, folder.clear)
        starts.clear()
        times = alternate(calls, rounds, folder.clear)
    peer = (f"ONNX Runtime, session and {case.rows} rows", times["peer"])
    title, whole = case.network.title, f"whole dump of {case.rows} rows"
    return [
        subtract_times(
            f"until the first rows are stored, {title}", peer, ("cnatool", starts), goal
        ),
        subtract_times(f"{whole}, {title}", peer, ("cnatool", times["dump"])),
    ]


class FirstRows:
    """Observer that takes the times until the first rows are stored."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), processor_seconds()
        self._taken: Taken | None = None

    @property
    def taken(self) -> Taken:
        """The times, once rows were stored."""
        assert self._taken is not None, "no row was stored"
        return self._taken

    def note(self, text: str) -> None:
        """Ignore a note."""

    def progress(self, split: str, done: int, rows: int) -> None:
        """Take the times at the first rows."""
        if done and self._taken is None:
            used = processor_seconds() - self._processor
            self._taken = Taken(time.perf_counter() - self._clock, used)


def measure_memory(run: Run, network: str, rows: int, goal: float) -> list[Row]:
    """Measure the peak memory of a process that dumps statistics, and that no tensor is lost."""
    case = open_case(network, rows, run.cache)
    with run.open_folder() as folder:
        store = folder.new_path(".zarr")
        command = (sys.executable, "-m", "cnatool", "dump", case.model, case.images, "-q")
        usage = run_process(*command, "-o", store, "--keep", "statistics", "--scale", "1/255")
        check_tensors(case.model, store)
    side = Side.of("cnatool", [usage])
    what = f"peak memory of a dump of statistics, {case.title}"
    return [Row(what, side, None, Spread.of([usage.megabytes]), "MB", goal)]


def check_tensors(model: Path, path: Path) -> None:
    """Fail if a tensor of a model is neither in a store nor left out as a constant."""
    record = cnatool.open(path).record  # type: ignore[attr-defined]
    stored = {tensor.name for tensor in record.tensors}
    stored |= {tensor.name for tensor in record.skipped}
    lost = {name for node in onnx.load(model).graph.node for name in node.output} - stored
    assert not lost, f"lost: {', '.join(sorted(lost))}"


def count_few(case: Case) -> int:
    """Return the rows that tell which batch is fastest, and that warm everything up."""
    return min(case.rows, case.network.trial)


register(
    "statistics/mlp",
    lambda run: measure_statistics(
        run, "mlp", run.count_rows(60_000), run.count_rounds(7, 3), 1.05, ("all", "layers")
    ),
)
register(
    "statistics/convnet",
    lambda run: measure_statistics(
        run, "convnet", run.count_rows(20_000), run.count_rounds(7, 3), 1.10, ("all", "layers")
    ),
)
register(
    "statistics/resnet18",
    lambda run: measure_statistics(
        run, "resnet18", run.count_rows(512), run.count_rounds(5, 3), 1.10
    ),
)
register(
    "statistics/resnet18-long",
    lambda run: measure_statistics(
        run, "resnet18", run.count_rows(2_560), run.count_rounds(3, 2), 1.02
    ),
)
register(
    "statistics/resnet50",
    lambda run: measure_statistics(
        run, "resnet50", run.count_rows(512, 128), run.count_rounds(3, 2), 1.05
    ),
)
register(
    "statistics/densenet121",
    lambda run: measure_statistics(
        run, "densenet121", run.count_rows(512, 128), run.count_rounds(3, 2), 1.05
    ),
)
register("start/resnet18", lambda run: measure_start(run, "resnet18", run.count_rounds(7, 3), 0.3))
register(
    "full/mlp", lambda run: measure_full(run, "mlp", run.count_rows(40_000), run.count_rounds(5, 3))
)
register(
    "full/convnet",
    lambda run: measure_full(run, "convnet", run.count_rows(4_096), run.count_rounds(5, 3)),
)
register(
    "full/resnet18",
    lambda run: measure_full(run, "resnet18", run.count_rows(256), run.count_rounds(5, 2)),
)
register(
    "memory/resnet50", lambda run: measure_memory(run, "resnet50", run.count_rows(64, 16), 600)
)
register(
    "memory/densenet121",
    lambda run: measure_memory(run, "densenet121", run.count_rows(64, 16), 600),
)
