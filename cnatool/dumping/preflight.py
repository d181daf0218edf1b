"""Disk space, time and memory of a dump, estimated from its first blocks."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from cnatool._util.bfloat16 import storage_dtype
from cnatool._util.memory import available_memory, peak_memory, resident_memory
from cnatool._util.text import all_text, bytes_text, count_text, time_text
from cnatool._util.threads import AHEAD
from cnatool._util.urls import is_url
from cnatool.backend.schedule import processors
from cnatool.backend.session import CPU
from cnatool.dumping.results import ClusterEstimate, PreflightResult, WholeEstimate
from cnatool.dumping.unit_measure import UnitCost, estimate_cost
from cnatool.records.layout import activation_key
from cnatool.store.chunks import chunk_rows
from cnatool.store.format_table import format_by_name
from cnatool.store.writer import WRITERS
from cnatool.store.zarr.object_shards import PUT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cnatool.dumping.compression import Compression
    from cnatool.dumping.plan import DumpPlan
    from cnatool.dumping.run import ProcessedBlock
    from cnatool.records.layout import ArraySpec

# Later rows may compress less well than the first ones.
_MARGIN = 1.1
# A dump of few samples compresses less well than a long one.
_FEW_MARGIN = 1.05
# Seconds below which a dump needs no estimate of its duration.
_SHORT_SECONDS = 5.0
# Limits of the first blocks of a longer dump.
_TRIAL_SECONDS = 0.25
_TRIAL_BYTES = 16 << 20
# Speed at which a system caches writes; a slower disk shows only later.
_BYTES_PER_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class Preflight:
    """Disk space, time and memory that a dump needs; on a cluster, for all workers together.

    Attributes
    ----------
    store : Path
        Where the store would be written.
    samples : dict of str to int
        Samples of each split that are still to be written.
    tensors : int
        Tensors in the store.
    sample_bytes : int
        Bytes stored per sample, before compression.
    disk_bytes : int
        Size of the store, estimated from the compression of the first rows.
    free_bytes : int or None
        Free space on its disk; None in a bucket.
    seconds : float
        Duration of the dump, if the disk keeps up.
    memory_bytes : int
        Peak memory of this process.
    available_bytes : int or None
        Memory available to it; None if the system does not report it.
    ways : tuple of str
        Options with which the store would fit on the disk, if it does not.
    committed : int
        Samples that are already committed in a store that is resumed.
    cluster : ClusterEstimate or None
        What each worker of a cluster needs; None without a cluster.
    whole : WholeEstimate or None
        What all parts of the dump need together; None if the dump is not one of several parts.
    """

    store: Path
    samples: dict[str, int]
    tensors: int
    sample_bytes: int
    disk_bytes: int
    free_bytes: int | None
    seconds: float
    memory_bytes: int
    available_bytes: int | None
    ways: tuple[str, ...] = ()
    committed: int = 0
    cluster: ClusterEstimate | None = None
    whole: WholeEstimate | None = None

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the store plus a tenth of its size."""
        return _fits(self.disk_bytes, self.free_bytes)

    @property
    def refusal(self) -> str:
        """Why the dump does not fit, and what helps."""
        free = bytes_text(self.free_bytes or 0)
        if self.committed:
            return (
                f"{self.store} would need about {bytes_text(self.disk_bytes)} more, but only "
                f"{free} are free. Make room, or move the store to another disk, and continue "
                "with `resume=True`."
            )
        return (
            f"{self.store} would need about {bytes_text(self.disk_bytes)}, but only {free} are "
            f"free. Use {''.join(f'{way}, ' for way in self.ways)}or another disk."
        ).replace("Use or another", "Use another")

    def document(self, notes: Sequence[str] = ()) -> PreflightResult:
        """Convert to the JSON document of a dry run."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("cluster", "whole"):
            values[name] = values[name] or msgspec.UNSET
        return PreflightResult(
            **{**values, "store": str(self.store)},
            schema="cnatool.preflight/1",
            fits=self.fits,
            notes=tuple(notes),
        )

    def rows_in(self, seconds: float) -> int | None:
        """Estimate how many samples are written in so many seconds; None if that is unknown."""
        return int(sum(self.samples.values()) * seconds / self.seconds) if self.seconds else None

    def lines(self) -> list[str]:
        """Describe the estimate in readable lines."""
        rows = sum(self.samples.values())
        free = self.free_bytes
        disk = (
            f"{count_text(rows, 'sample')} of {bytes_text(self.sample_bytes)}: "
            f"about {bytes_text(self.disk_bytes)} "
            + ("in the bucket" if free is None else f"on disk, {bytes_text(free)} free")
        )
        if self.cluster is not None:
            return [disk, _describe_cluster(self.cluster, self)]
        memory = f"up to {bytes_text(self.memory_bytes)} of memory"
        if self.available_bytes is not None:
            memory += f", {bytes_text(self.available_bytes)} available"
        if self.seconds >= _SHORT_SECONDS:
            memory = f"about {time_text(self.seconds)}; {memory}"
        lines = [disk, memory]
        if self.available_bytes is not None and self.memory_bytes > self.available_bytes:
            lines.append(
                "that may not be enough memory: `batch_size=N` or `tensors=GLOB` needs less"
            )
        if self.whole is not None:
            lines.append(_describe_whole(self.whole))
        return lines


def _describe_cluster(cluster: ClusterEstimate, estimate: Preflight) -> str:
    seconds = estimate.seconds
    time = f"about {time_text(seconds)}; " if seconds >= _SHORT_SECONDS else ""
    return (
        f"{count_text(cluster.parts, 'part')} for {count_text(cluster.workers, 'worker')} of "
        f"{count_text(cluster.threads, 'thread')}: {time}each worker writes about "
        f"{bytes_text(cluster.disk_bytes)} and needs up to {bytes_text(cluster.memory_bytes)} of "
        f"memory, all together up to {bytes_text(estimate.memory_bytes)}"
    )


def _describe_whole(whole: WholeEstimate) -> str:
    samples = count_text(sum(whole.samples.values()), "sample")
    text = (
        f"{all_text(whole.parts, 'part')}: {samples}, about {bytes_text(whole.disk_bytes)} on disk"
    )
    if whole.total_seconds < _SHORT_SECONDS:
        return text
    return (
        f"{text}; about {time_text(whole.seconds)} if all run at once, each on a machine like "
        f"this, or {time_text(whole.total_seconds)} one after the other"
    )


def take_first_blocks(blocks: Iterator[ProcessedBlock], plan: DumpPlan) -> list[ProcessedBlock]:
    """Take the blocks from which the rest is estimated: few for a dump that is soon done."""
    rows = sum(plan.left.values())
    first: list[ProcessedBlock] = []
    start = time.perf_counter()
    for block in blocks:
        first.append(block)
        # The first run also allocates memory, and would count too much.
        warm = len(first) > 1 or len(block.rows) > plan.schedule.batch
        late = time.perf_counter() - start >= _TRIAL_SECONDS
        short = block.running * rows / plan.schedule.runs < _SHORT_SECONDS
        room = sum(map(_nbytes, first)) + _nbytes(block) <= _TRIAL_BYTES
        if not room or (warm and (short or late)):
            break
    return first


def _nbytes(block: ProcessedBlock) -> int:
    units = {} if block.units is None else block.units.values
    further = (rows.nbytes for n, rows in units.items() if n not in block.rows.activations)
    return sum(array.nbytes for array in block.rows.arrays().values()) + sum(further)


def estimate(
    plan: DumpPlan, first: Sequence[ProcessedBlock], compression: Compression
) -> Preflight:
    """Estimate what a dump takes from its first blocks."""
    arrays, stored = compression.arrays, compression.row_bytes
    writing = compression.seconds + sum(stored.values()) / _BYTES_PER_SECOND
    rows = sum(plan.left.values())
    committed = sum(plan.rows.values()) - rows
    free = None if is_url(plan.path) else shutil.disk_usage(plan.path.parent).free
    units = _estimate_units(plan, first)
    if plan.past is None:
        # In a resumed store, new statistics of units replace the old ones.
        further = units.disk_bytes * sum(map(bool, plan.rows.values()))
        compression = replace(compression, metadata_bytes=compression.metadata_bytes + further)
    disk_bytes = compression.disk_bytes(plan.whole.rows, plan.left)
    available = available_memory()
    # A dump that is resumed has the options of the one that started it.
    ways = (
        ()
        if free is None or _fits(disk_bytes, free) or committed
        else _find_ways(plan, compression, free)
    )
    row_seconds = _row_seconds(plan, first, writing, units.seconds)
    return Preflight(
        store=plan.path,
        samples=plan.left,
        tensors=len(plan.record.tensors),
        sample_bytes=compression.sample_bytes,
        disk_bytes=disk_bytes,
        free_bytes=free,
        seconds=rows * row_seconds,
        memory_bytes=max(
            peak_memory(),
            resident_memory() + _further_bytes(plan, arrays) + units.memory_bytes,
        ),
        available_bytes=None if available is None else available + resident_memory(),
        ways=tuple(ways),
        committed=committed,
        whole=_estimate_whole(plan, compression, row_seconds),
    )


def _estimate_whole(
    plan: DumpPlan, compression: Compression, row_seconds: float
) -> WholeEstimate | None:
    if plan.part is None:
        return None
    rows = plan.whole.rows
    total = sum(rows.values())
    longest = max(sum(plan.rows.values()), math.ceil(total / plan.part.count))
    return WholeEstimate(
        part=plan.part.number,
        parts=plan.part.count,
        first=dict(plan.part.first),
        samples=dict(rows),
        disk_bytes=compression.disk_bytes(rows, rows)
        + (plan.part.count - 1) * compression.metadata_bytes,
        seconds=longest * row_seconds,
        total_seconds=total * row_seconds,
    )


def _fits(disk_bytes: int, free_bytes: int | None) -> bool:
    return free_bytes is None or disk_bytes * _MARGIN <= free_bytes


def _estimate_units(plan: DumpPlan, first: Sequence[ProcessedBlock]) -> UnitCost:
    block = next((block for block in first if len(block.rows)), None)
    if block is None or block.units is None:
        return UnitCost(0.0, 0, 0)
    codec = plan.codec or format_by_name(plan.path).codecs[0]
    return estimate_cost(plan.record, block.units, codec, max(plan.rows.values()))


def _row_seconds(
    plan: DumpPlan, first: Sequence[ProcessedBlock], writing: float, units: float
) -> float:
    """Estimate the seconds per row when all stages run in parallel.

    They share the processors, and none is faster than it is alone.
    """
    if not first:
        return 0.0
    schedule = plan.schedule
    # Other work on the machine can only add to it.
    running = min(block.running for block in first)
    reading = min(block.reading for block in first)
    busy = max(1, schedule.threads) * (plan.run.provider == CPU)
    shared = (reading + running * busy + writing + units) / processors()
    return max(reading, running / schedule.runs, writing / _writer_count(plan), units, shared)


def _further_bytes(plan: DumpPlan, arrays: Sequence[ArraySpec]) -> int:
    """Sum the memory that the first blocks did not use: chunks, waiting blocks, shards."""
    sizes = [array.row_bytes for array in arrays]
    chunks = [
        size * rows
        for count in plan.whole.rows.values()
        for size, rows in zip(sizes, chunk_rows(sizes, count), strict=True)
    ]
    block = min(plan.schedule.block, max(plan.whole.rows.values()))
    waiting = (plan.schedule.runs + AHEAD) * block * plan.held_bytes
    # Shards are in memory while they are put into a bucket.
    put = min(PUT_BYTES, sum(sizes) * sum(plan.left.values())) if is_url(plan.path) else 0
    return sum(chunks) + _writer_count(plan) * max(chunks) + waiting + put


def _writer_count(plan: DumpPlan) -> int:
    return WRITERS if any(tensor.stored for tensor in plan.record.tensors) else 1


def _find_ways(plan: DumpPlan, compression: Compression, free: int) -> Iterator[str]:
    """Yield the options with which the store would fit."""
    rows, stored = sum(plan.rows.values()), compression.row_bytes
    metadata = compression.metadata_bytes
    whole = [tensor for tensor in plan.record.tensors if tensor.stored is not None]
    sizes = {tensor.name: stored[activation_key(tensor.number)] for tensor in whole}
    rest = sum(stored.values()) - sum(sizes.values())
    layers = {n for r in plan.record.layers for n in (r.linear, r.preactivation)}
    narrow = {
        t.name: sizes[t.name] * min(1.0, 2 / storage_dtype(t.stored).itemsize)
        if t.stored is not None and t.stored.startswith("float")
        else sizes[t.name]
        for t in whole
    }
    row = {
        "`keep='statistics'`": rest,
        "`tensors='layers'`": rest + sum(size for name, size in sizes.items() if name in layers),
        "`dtype='float16'`": rest + sum(narrow.values()),
    }
    for way, size in row.items():
        whole_size = rows * size + metadata
        if size < rest + sum(sizes.values()) and whole_size * _MARGIN <= free:
            yield f"{way} (about {bytes_text(whole_size)})"
    if plan.part is not None:
        return
    room = max(0, int((free / _MARGIN / _FEW_MARGIN - metadata) / sum(stored.values())))
    samples = _largest_limit(list(plan.rows.values()), room)
    if samples:
        yield f"`limit={samples}`"


def _largest_limit(rows: Sequence[int], room: int) -> int:
    """Find the most samples of each split of which ``room`` fit, rounded down to two digits."""
    left, each = room, 0
    for split, count in enumerate(sorted(rows)):
        each = left // (len(rows) - split)
        if each <= count:
            break
        left -= count
    step = int(10 ** max(0, len(str(each)) - 2))
    return each // step * step
