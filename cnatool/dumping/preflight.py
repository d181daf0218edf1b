"""What a dump will take of disk, time and memory, found on its first rows before any is written."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.memory import available_memory, peak_memory, resident_memory
from cnatool._util.text import bytes_text, time_text
from cnatool._util.threads import AHEAD
from cnatool.backend.schedule import processors
from cnatool.backend.session import CPU
from cnatool.dumping.results import PreflightResult
from cnatool.errors import UsageError
from cnatool.records.layout import activation_key, split_arrays
from cnatool.store.chunks import chunk_rows, encoded_bytes
from cnatool.store.writer import WRITERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cnatool.dumping.plan import Plan
    from cnatool.dumping.run import ProcessedBlock
    from cnatool.records.choices import Codec
    from cnatool.records.layout import ArraySpec

# Later rows may compress less well than the first ones.
_MARGIN = 1.1
# A dump that is done in so many seconds needs no estimate.
_SHORT = 5.0
# A longer one is tried for so long, as long as what waits to be written is no more than this.
_TRIAL_SECONDS = 0.25
_TRIAL_BYTES = 16 << 20
# Bytes that a system takes into its cache; a disk that is slower is felt only later.
_WRITTEN_A_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a dump will take.

    Attributes
    ----------
    store : Path
        Where the store would be.
    samples : dict of str to int
        Samples of each split that are still to be written.
    tensors : int
        Tensors of which something is kept.
    sample_bytes : int
        Bytes of one sample with all that is kept of it, before compression.
    disk_bytes, free_bytes : int
        What the store will take of the disk, judged by how the first rows compress; what is free.
    seconds : float
        How long the dump will take, if the disk keeps up.
    memory_bytes : int
        The most memory that this process will hold.
    available_bytes : int or None
        How much it can hold, as far as the system says.
    ways : tuple of str
        Options with which the store would fit the disk, where it does not.
    committed : int
        Samples that are there already, of a dump that is resumed.
    """

    store: Path
    samples: dict[str, int]
    tensors: int
    sample_bytes: int
    disk_bytes: int
    free_bytes: int
    seconds: float
    memory_bytes: int
    available_bytes: int | None
    ways: tuple[str, ...] = ()
    committed: int = 0

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the store, and a tenth more."""
        return self.disk_bytes * _MARGIN <= self.free_bytes

    @property
    def refusal(self) -> str:
        """Why the dump does not fit, and what helps."""
        if self.committed:
            return (
                f"{self.store} would take about {bytes_text(self.disk_bytes)} more, and "
                f"{bytes_text(self.free_bytes)} are free. Make room, or move the store to another "
                "disk, and go on with --resume."
            )
        return (
            f"{self.store} would take about {bytes_text(self.disk_bytes)}, and "
            f"{bytes_text(self.free_bytes)} are free. Use "
            f"{''.join(f'{way}, ' for way in self.ways)}or another disk."
        ).replace("Use or another", "Use another")

    def document(self, notes: Sequence[str] = ()) -> PreflightResult:
        """Give what `cnatool dump --dry-run --json` prints."""
        return PreflightResult(
            schema="cnatool.preflight/1",
            store=str(self.store),
            fits=self.fits,
            samples=self.samples,
            committed=self.committed,
            tensors=self.tensors,
            sample_bytes=self.sample_bytes,
            disk_bytes=self.disk_bytes,
            free_bytes=self.free_bytes,
            seconds=self.seconds,
            memory_bytes=self.memory_bytes,
            available_bytes=self.available_bytes,
            ways=self.ways,
            notes=tuple(notes),
        )

    def rows_in(self, seconds: float) -> int | None:
        """Say how many samples take so long; None where that is not known."""
        return int(sum(self.samples.values()) * seconds / self.seconds) if self.seconds else None

    def lines(self) -> list[str]:
        """Say it to people."""
        rows = sum(self.samples.values())
        memory = f"up to {bytes_text(self.memory_bytes)} of memory"
        if self.available_bytes is not None:
            memory += f", {bytes_text(self.available_bytes)} available"
        if self.seconds >= _SHORT:
            memory = f"about {time_text(self.seconds)}; {memory}"
        lines = [
            f"{rows:,} sample{'s' * (rows != 1)} of {bytes_text(self.sample_bytes)}: "
            f"about {bytes_text(self.disk_bytes)} on disk, {bytes_text(self.free_bytes)} free",
            memory,
        ]
        if self.available_bytes is not None and self.memory_bytes > self.available_bytes:
            lines.append("that may be too little: --batch-size N or --tensors GLOB takes less")
        return lines


def first_blocks(ran: Iterator[ProcessedBlock], plan: Plan, rows: int) -> list[ProcessedBlock]:
    """Take the blocks from which all ``rows`` are judged: few, for a dump that is soon done."""
    taken: list[ProcessedBlock] = []
    start = time.perf_counter()
    for block in ran:
        taken.append(block)
        # The first run finds its memory, and would tell too much.
        warm = len(taken) > 1 or len(block.rows) > plan.schedule.batch
        late = time.perf_counter() - start >= _TRIAL_SECONDS
        short = block.running * rows / plan.schedule.runs < _SHORT
        room = sum(map(_nbytes, taken)) + _nbytes(block) <= _TRIAL_BYTES
        if not room or (warm and (short or late)):
            break
    return taken


def _nbytes(block: ProcessedBlock) -> int:
    return sum(array.nbytes for array in block.rows.arrays().values())


def estimated(
    plan: Plan, path: Path, trial: Sequence[ProcessedBlock], codec: Codec, left: Mapping[str, int]
) -> Preflight:
    """Judge a dump by its first blocks."""
    labelled = any(source.labelled for source in plan.sources.values())
    arrays = split_arrays(plan.record, labels=labelled, inputs=plan.shared is None)
    start = time.perf_counter()
    stored = _row_bytes_stored(arrays, trial, codec)
    tried = max(1, sum(len(one.rows) for one in trial))
    row_bytes = sum(stored.values())
    writing = (time.perf_counter() - start) / tried + row_bytes / _WRITTEN_A_SECOND
    rows = sum(left.values())
    committed = sum(plan.rows.values()) - rows
    free = shutil.disk_usage(path.parent).free
    peak = max(peak_memory(), resident_memory() + _still_to_come(plan, arrays))
    available = available_memory()
    found = Preflight(
        store=path,
        samples=dict(left),
        tensors=len(plan.record.tensors),
        sample_bytes=sum(array.row_bytes for array in arrays),
        disk_bytes=_disk_bytes(plan, arrays, stored, codec, left),
        free_bytes=free,
        seconds=rows * _row_seconds(plan, trial, writing),
        memory_bytes=peak,
        available_bytes=None if available is None else available + resident_memory(),
        committed=committed,
    )
    # A dump that is resumed has its options from the one that began it.
    return (
        found
        if found.fits or committed
        else replace(found, ways=tuple(_ways(plan, arrays, stored, free)))
    )


def _row_bytes_stored(
    arrays: Sequence[ArraySpec], trial: Sequence[ProcessedBlock], codec: Codec
) -> dict[str, float]:
    """Give the bytes of one row of each array on disk, from all rows together as in a chunk."""
    blocks = [block.rows.arrays() for block in trial]
    stored = {}
    for array in arrays:
        parts = [rows[array.key] for rows in blocks if array.key in rows]
        count = sum(map(len, parts))
        if not count:
            stored[array.key] = float(array.row_bytes)
            continue
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        stored[array.key] = encoded_bytes(joined, codec) / count
    return stored


def _disk_bytes(
    plan: Plan,
    arrays: Sequence[ArraySpec],
    stored: Mapping[str, float],
    codec: Codec,
    left: Mapping[str, int],
) -> int:
    """Give the bytes of all rows that are left; where nothing is compressed, of whole chunks."""
    sizes = [array.row_bytes for array in arrays]
    total = 0.0
    for name, count in left.items():
        chunks = chunk_rows(sizes, plan.rows[name])
        for array, chunk in zip(arrays, chunks, strict=True):
            padded = codec == "none" and isinstance(array.dtype, np.dtype)
            total += stored[array.key] * (-(-count // chunk) * chunk if padded else count)
    return round(total)


def _row_seconds(plan: Plan, trial: Sequence[ProcessedBlock], writing: float) -> float:
    """Give the seconds that one row takes when all stages run side by side.

    All of them share the processors, and none can be faster than it is alone.
    """
    if not trial:
        return 0.0
    schedule = plan.schedule
    # What else the machine does in the meantime only ever adds.
    running = min(one.running for one in trial)
    reading = min(one.reading for one in trial)
    busy = max(1, schedule.threads) * (plan.run.provider == CPU)
    shared = (reading + running * busy + writing) / processors()
    return max(reading, running / schedule.runs, writing / _writers(plan), shared)


def _still_to_come(plan: Plan, arrays: Sequence[ArraySpec]) -> int:
    """Give the bytes beside what the first blocks took: chunks of arrays, and blocks that wait."""
    sizes = [array.row_bytes for array in arrays]
    chunks = [
        size * rows
        for count in plan.rows.values()
        for size, rows in zip(sizes, chunk_rows(sizes, count), strict=True)
    ]
    waiting = (plan.schedule.runs + AHEAD) * plan.schedule.block * plan.held_bytes
    return sum(chunks) + _writers(plan) * max(chunks) + waiting


def _writers(plan: Plan) -> int:
    return WRITERS if any(tensor.stored for tensor in plan.record.tensors) else 1


def check_memory(plan: Plan) -> None:
    """Refuse, before the model runs, what cannot fit the memory."""
    available = available_memory()
    schedule = plan.schedule
    batches = schedule.runs * schedule.batch * plan.held_bytes
    if available is None or batches <= available:
        return
    raise UsageError(
        f"{schedule.runs} run{'s' * (schedule.runs != 1)} of {schedule.batch:,} "
        f"sample{'s' * (schedule.batch != 1)} at a time hold{'s' * (schedule.runs == 1)} "
        f"{bytes_text(batches)}, and {bytes_text(available)} of memory are available. Use "
        "--batch-size N, --tensors layers, or --keep statistics."
    )


def _ways(
    plan: Plan, arrays: Sequence[ArraySpec], stored: Mapping[str, float], free: int
) -> Iterator[str]:
    """Give the options with which the store would fit."""
    rows = sum(plan.rows.values())
    whole = [tensor for tensor in plan.record.tensors if tensor.stored is not None]
    sizes = {tensor.name: stored[activation_key(tensor.number)] for tensor in whole}
    rest = sum(stored.values()) - sum(sizes.values())
    layers = {n for r in plan.record.layers for n in (r.linear, r.preactivation)}
    narrow = {
        t.name: sizes[t.name] * min(1.0, 2 / np.dtype(t.stored).itemsize)
        if str(t.stored).startswith("float")
        else sizes[t.name]
        for t in whole
    }
    row = {
        "--keep statistics": rest,
        "--tensors layers": rest + sum(size for name, size in sizes.items() if name in layers),
        "--dtype float16": rest + sum(narrow.values()),
    }
    for way, size in row.items():
        if size < rest + sum(sizes.values()) and rows * size * _MARGIN <= free:
            yield f"{way} (about {bytes_text(rows * size)})"
    each = _limit(list(plan.rows.values()), int(free / _MARGIN / sum(stored.values())))
    if each:
        yield f"--limit {each}"


def _limit(rows: Sequence[int], room: int) -> int:
    """Give the most samples of each split that fit among ``room``, rounded down to two digits."""
    left, each = room, 0
    for taken, count in enumerate(sorted(rows)):
        each = left // (len(rows) - taken)
        if each <= count:
            break
        left -= count
    step = int(10 ** max(0, len(str(each)) - 2))
    return each // step * step
