"""Compression of a dump's arrays: the codec of each, by how the first block compresses."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from cnatool._util.text import count_text
from cnatool.dumping.fitted_reductions import component_arrays
from cnatool.records.layout import split_arrays
from cnatool.store.chunks import chunk_rows, commit_rows
from cnatool.store.codec_choice import choose_codec, codecs_of, encoded_bytes
from cnatool.store.format_table import format_by_name
from cnatool.store.narrow import rows_to_stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.dumping.plan import DumpPlan
    from cnatool.dumping.run import ProcessedBlock
    from cnatool.records.choices import Codec
    from cnatool.records.layout import ArraySpec
    from cnatool.records.ragged import Rows


@dataclass(frozen=True, slots=True)
class Compression:
    """How the arrays of a dump are compressed, and what a row of each takes on disk."""

    arrays: Sequence[ArraySpec]
    codecs: Mapping[str, Mapping[str, Codec]]  # by split and key of an array
    row_bytes: Mapping[str, float]  # by key of an array, without the padding of its last chunk
    sample_bytes: int  # of a sample before compression, on average of the first block
    seconds: float  # that the compression of a row of all arrays takes
    metadata_bytes: int  # that are still to be written

    def disk_bytes(self, rows: Mapping[str, int], left: Mapping[str, int]) -> int:
        """Estimate the size of the rows that are left, whole chunks if plain, and metadata.

        ``rows`` are those of each whole split, on which the chunks depend.
        """
        sizes = [array.row_bytes for array in self.arrays]
        total = float(self.metadata_bytes)
        for name, count in left.items():
            for array, chunk in zip(self.arrays, chunk_rows(sizes, rows[name]), strict=True):
                plain = self.codecs[name][array.key] == "none" and array.dtype is not str
                stored = -(-count // chunk) * chunk if plain else count
                total += stored * self.row_bytes[array.key]
        return round(total)

    def __str__(self) -> str:
        """Return a line about the codecs of the first split."""
        counts = Counter(next(iter(self.codecs.values())).values())
        words = [f"{codec} for {count_text(n, 'array')}" for codec, n in counts.most_common()]
        return f"compression: {', '.join(words)}"


class _Trial(NamedTuple):
    """The rows of an array in the first block, their size on disk, and the seconds it took."""

    rows: Rows
    encoded: int
    seconds: float


def plan_compression(plan: DumpPlan, block: ProcessedBlock | None) -> Compression:
    """Decide how each array is compressed, from the rows of the first block.

    The decision depends on nothing else, so that the same dump makes the same store, and every part
    decides alike: the block is the first of the whole dump. That of a store which is resumed stays.
    """
    labelled = any(source.labelled for source in plan.sources.values())
    arrays = split_arrays(plan.record, labels=labelled, inputs=plan.shared is None)
    splits = {} if plan.past is None else plan.past.splits
    started = {name: codecs_of(split) for name, split in splits.items()}
    default = plan.codec or format_by_name(plan.path).codecs[0]
    # In a resumed store the splits differ in what is not compressed, if at all.
    tried = {array.key: default for array in arrays}
    for codecs in started.values():
        tried |= {key: codec for key, codec in codecs.items() if codec != "none"}
    trials = {} if block is None else _try_codecs(block, arrays, tried)
    sizes = [array.row_bytes for array in arrays]
    chosen: dict[str, dict[str, Codec]] = {}
    for name, count in plan.whole.rows.items():
        chunks = dict(zip(tried, chunk_rows(sizes, count), strict=True))
        chosen[name] = tried | started.get(name, {})
        if plan.codec is None and name not in started:
            chosen[name] |= {
                key: choose_codec(tried[key], trial.rows, trial.encoded, count, chunks[key])
                for key, trial in trials.items()
            }
    row_bytes = {array.key: float(array.row_bytes) for array in arrays}
    for array in arrays:
        if array.ragged_axis is not None and array.key in trials:
            rows = trials[array.key].rows
            row_bytes[array.key] = rows.nbytes / len(rows)
    sample_bytes = round(sum(row_bytes.values()))
    seconds = 0.0
    for array in arrays:
        trial = trials.get(array.key)
        plain = all(codecs[array.key] == "none" for codecs in chosen.values())
        if trial is not None and (array.dtype is str or not plain):
            row_bytes[array.key] = trial.encoded / len(trial.rows)
            seconds += trial.seconds / len(trial.rows)
    return Compression(
        arrays, chosen, row_bytes, sample_bytes, seconds, _metadata_bytes(plan, sizes)
    )


def _metadata_bytes(plan: DumpPlan, sizes: Sequence[int]) -> int:
    """Estimate what a new store takes beside its rows: most of it, if there are few."""
    if plan.past is not None:
        return 0
    chunks = [
        max(1, -(-rows // max(1, chunk)))
        for rows in plan.rows.values()
        for chunk in chunk_rows(sizes, rows)
    ]
    # The attribute has eight digits of a checksum for each chunk. It is written when the store and
    # each split are created, and at each commit.
    attribute = len(msgspec.json.encode(plan.record)) + 8 * sum(chunks)
    commits = 1 + sum(1 - (-rows // commit_rows(sizes)) for rows in plan.rows.values())
    form = format_by_name(plan.path)
    common = sum(array.nbytes for array in component_arrays(plan).values())
    return common + form.metadata_bytes(attribute, commits, chunks, grows=plan.skips)


def _try_codecs(
    block: ProcessedBlock, arrays: Sequence[ArraySpec], codecs: Mapping[str, Codec]
) -> dict[str, _Trial]:
    types = {array.key: array.dtype for array in arrays}
    trials = {}
    for key, given in block.rows.arrays().items():
        if len(given) and key in codecs:
            dtype = types[key]
            start = time.perf_counter()
            rows = rows_to_stored(given, dtype) if isinstance(dtype, np.dtype) else given
            encoded = encoded_bytes(rows, codecs[key])
            trials[key] = _Trial(rows, encoded, time.perf_counter() - start)
    return trials
