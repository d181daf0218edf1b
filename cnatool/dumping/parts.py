"""Parts of a dump: which rows each has, decided alike by every process."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnatool._util.text import count_text
from cnatool.data.wrappers import RowRange
from cnatool.errors import UsageError
from cnatool.records.layout import split_arrays
from cnatool.records.parts import PartRecord, SplitSketch, describe_rows
from cnatool.records.ragged import Ragged
from cnatool.store.chunks import commit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from hashlib import _Hash
    from pathlib import Path

    from cnatool.backend.schedule import Schedule
    from cnatool.data.source import Block, Source
    from cnatool.records.store import StoreRecord

# Units of rows of each part on average, if there are enough rows.
_UNITS = 4
# Samples of each split that show whether two parts are of the same data: the first, and others.
_FIRST_SAMPLES = 8
_LATER_SAMPLES = 16
_DIGITS = 16


class PlannedPart(NamedTuple):
    """A part of a dump: its record, and the samples of its range by split."""

    record: PartRecord
    sources: dict[str, Source]


def part_path(store: Path, number: int, count: int) -> Path:
    """Return the path of a part beside the store that all parts will be merged to."""
    return store.with_name(
        f"{store.stem}.part-{number:0{len(str(count))}}-of-{count}{store.suffix}"
    )


def part_paths(store: Path, count: int) -> list[Path]:
    """List the paths of all parts beside the store that they will be merged to."""
    return [part_path(store, number, count) for number in range(1, count + 1)]


def plan_part(
    number: int,
    count: int,
    sources: Mapping[str, Source],
    rows: Mapping[str, int],
    record: StoreRecord,
    schedule: Schedule,
    *,
    own_inputs: bool,
) -> PlannedPart:
    """Plan a part of a dump of ``rows`` of each split into the store of a record."""
    if schedule.stateful:
        raise UsageError(
            "`part`: the model draws random numbers or has custom operators, so its results may "
            "depend on the runs before. Dump it without `part`."
        )
    labels = any(source.labelled for source in sources.values())
    sizes = [array.row_bytes for array in split_arrays(record, labels=labels, inputs=own_inputs)]
    unit = choose_unit(list(rows.values()), count, commit_rows(sizes), schedule.unit)
    ranges = divide_rows(rows, number, count, unit)
    first = {name: start for name, (start, _) in ranges.items()}
    return PlannedPart(
        PartRecord(
            number,
            count,
            first,
            {**rows},
            _digest_first_samples(sources, rows),
            {
                name: _sketch_split(source, rows[name])
                for name, source in sources.items()
                if not source.objects
            },
        ),
        {
            name: RowRange(sources[name], start, stop - start)
            for name, (start, stop) in ranges.items()
        },
    )


def _digest_first_samples(sources: Mapping[str, Source], rows: Mapping[str, int]) -> str:
    """Compute the SHA-256 of ids, raw inputs and labels of the first samples of each split."""
    digest = hashlib.sha256()
    for name, source in sources.items():
        count = min(_FIRST_SAMPLES, rows[name])
        for block in source.blocks(_FIRST_SAMPLES, count):
            digest.update(name.encode())
            _add_samples(digest, block)
    return digest.hexdigest()


def _sketch_split(source: Source, rows: int) -> SplitSketch:
    """Sketch the first ``rows`` samples of a source without reading more than a few."""
    outline = source.outline
    if outline:
        return SplitSketch(outline=hashlib.sha256(outline.encode()).hexdigest())
    chosen = choose_rows(rows)
    digests = []
    for row in chosen:
        digest = hashlib.sha256()
        for block in source.blocks(1, 1, row):
            _add_samples(digest, block)
        digests.append(digest.hexdigest()[:_DIGITS])
    return SplitSketch(tuple(chosen), tuple(digests))


def choose_rows(rows: int) -> list[int]:
    """Choose one of as many rows in each of a few equal ranges, the same in every process."""
    rng = random.Random(0)
    count = min(_LATER_SAMPLES, rows)
    bounds = [-(-i * rows // count) for i in range(count + 1)] if count else []
    return [rng.randrange(first, end) for first, end in itertools.pairwise(bounds)]


def _add_samples(digest: _Hash, block: Block) -> None:
    """Add ids, raw inputs and labels to a digest."""
    digest.update("\n".join(("", *block.ids)).encode())
    for values in (*block.inputs, *([] if block.labels is None else [block.labels])):
        if isinstance(values, Ragged):
            digest.update(np.ascontiguousarray(values.lengths).data)
        array = values.values if isinstance(values, Ragged) else values
        digest.update(np.ascontiguousarray(array).data)


def choose_unit(rows: Sequence[int], count: int, commit: int, batch: int) -> int:
    """Choose the rows that are never divided between two of ``count`` parts.

    A unit has whole batches, or whole blocks where batches are formed in these, so that every row
    runs in the batch that it has in a whole dump. If there are enough rows, it also has whole
    chunks of every array, since a chunk has a power of two of rows up to ``commit``.
    """
    chunk = commit
    while chunk > 1 and _count_units(rows, math.lcm(chunk, batch)) < _UNITS * count:
        chunk //= 2
    return math.lcm(chunk, batch)


def divide_rows(
    rows: Mapping[str, int], number: int, count: int, unit: int
) -> dict[str, tuple[int, int]]:
    """Compute the rows of each split, from a start to a stop, in part ``number`` of ``count``.

    The parts share the units of all splits, one split after the other, as equally as they can.
    """
    total = _count_units(list(rows.values()), unit)
    first, end = (-(-edge * total // count) for edge in (number - 1, number))
    ranges = {}
    for name, length in rows.items():
        units = _count_units([length], unit)
        start, stop = (min(length, unit * min(max(edge, 0), units)) for edge in (first, end))
        ranges[name] = start, stop
        first, end = first - units, end - units
    return ranges


def _count_units(rows: Sequence[int], unit: int) -> int:
    return sum(-(-length // unit) for length in rows)


def describe_part(part: PartRecord, rows: Mapping[str, int]) -> Iterator[str]:
    """Describe which of all rows a part has; ``rows`` are its own by split."""
    empty = not any(rows.values())
    yield f"{part}: {describe_rows(part, rows)}{'; the other parts have all' * empty}"
    if empty:
        samples = count_text(sum(part.rows.values()), "sample")
        yield f"{samples} cannot be divided into {part.count} parts; merge takes the empty ones too"
