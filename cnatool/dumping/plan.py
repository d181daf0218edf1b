"""The plan of a dump: everything that is decided before the first row is written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from cnatool._util.memory import available_memory
from cnatool._util.observer import Observer, Silent
from cnatool._util.text import bytes_text, count_text
from cnatool._util.urls import parse_path
from cnatool.backend.graph.bfloat16_nodes import computes_in_bfloat16
from cnatool.backend.graph.model_formats import refuse_store
from cnatool.backend.graph.unit_axes import add_unit_axes
from cnatool.backend.network import Network, open_network
from cnatool.backend.probe.token_outputs import find_token_output
from cnatool.backend.schedule import schedule_runs
from cnatool.backend.select import INNER, select_outputs, select_tensors
from cnatool.backend.session import CPU, RunOptions, provider_name
from cnatool.backend.statistics.token_nodes import TARGETS
from cnatool.backend.weights.weights import check_initial
from cnatool.dumping.batch import choose_batch, follow_lengths
from cnatool.dumping.inputs import open_inputs
from cnatool.dumping.lengths import fill_up, group_rows
from cnatool.dumping.padding import PaddedTensors
from cnatool.dumping.parts import describe_part, plan_part
from cnatool.dumping.plan_notes import describe_inputs, describe_stored
from cnatool.dumping.reductions import plan_reductions
from cnatool.dumping.resume import check_same_dump, count_measured, open_resumable
from cnatool.dumping.store_record import describe_store
from cnatool.dumping.token_scores import (
    describe_scores,
    find_ids,
    list_scores,
    make_targets,
    plan_scores,
)
from cnatool.dumping.tokens import measure_texts
from cnatool.dumping.unit_plan import expose_units, plan_units
from cnatool.errors import UsageError
from cnatool.records.store import SplitRecord, StoreRecord
from cnatool.store.replace import check_free
from cnatool.store.shared_inputs import SharedInputs
from cnatool.store.writer import check_codec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.network import ProbedNetwork
    from cnatool.backend.schedule import Schedule
    from cnatool.backend.statistics.reduced_tensors import ReducedTensor
    from cnatool.data.source import Block, Source
    from cnatool.dumping.feed import Feed
    from cnatool.dumping.lengths import RunRows
    from cnatool.dumping.options import DumpOptions
    from cnatool.records.choices import Codec, Statistic
    from cnatool.records.parts import PartRecord
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split, Store


class DumpedData(NamedTuple):
    """The data of a dump, and how many samples of each split are taken."""

    sources: Mapping[str, Source]
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DumpPlan:
    """Everything that is decided about a dump before the model runs over its data."""

    path: Path
    codec: Codec | None  # of all arrays; None if each has its own
    resume: bool
    past: Store | None  # the store that is resumed; None for a new one
    observer: Observer
    network: Network  # with a free batch axis if that changes no value
    initial: Network | None  # with the initial weights
    sources: Mapping[str, Source]
    rows: Mapping[str, int]  # samples taken of each split
    whole: DumpedData  # of all parts, if this is one of them
    label_offset: int
    skips: bool  # whether samples that cannot be read are skipped
    feed: Feed
    bound: int | None  # samples of every run; None if any number runs
    probed: ProbedNetwork
    outputs: list[TensorRecord]
    statistics: tuple[Statistic, ...]
    exposed: tuple[TensorRecord, ...]  # the record's tensors, as they are taken from the model
    held_bytes: int  # of a sample, until it is written
    schedule: Schedule
    run: RunOptions
    record: StoreRecord  # of the store, without splits and without what is measured of the model
    shared: SharedInputs | None  # raw inputs that another store holds
    reduced: tuple[ReducedTensor, ...] = ()  # those of the record that are reduced from others

    @property
    def starts_anew(self) -> bool:
        """Whether a store without rows, if there is one at the path, is removed."""
        return self.resume and self.past is None

    @property
    def part(self) -> PartRecord | None:
        """Which part of a dump this is; None for a whole dump."""
        return None if self.record.part is msgspec.UNSET else self.record.part

    @property
    def measures_model(self) -> bool:
        """Whether the model itself is measured: once, by the first part."""
        return self.part is None or self.part.number == 1

    @property
    def is_complete(self) -> bool:
        """Whether the store that is resumed has every row."""
        return self.past is not None and self.past.record.complete

    @property
    def left(self) -> dict[str, int]:
        """Samples of each split that are still to be run."""
        splits = {} if self.past is None else self.past.splits
        done = {name: _count_done(split) for name, split in splits.items()}
        return {name: rows - done.get(name, 0) for name, rows in self.rows.items()}

    def group(self, block: Block, *, fill: bool = False) -> list[RunRows]:
        """Group the samples of a block in runs, filled up if the model is bound to a size."""
        batch = self.schedule.batch
        lengths = self.feed.lengths_of(block)
        groups = group_rows(lengths, len(block.ids), self._most)
        if fill or self.bound is not None:
            return [fill_up(rows, batch) for rows in groups]
        return groups

    def feeds(self, block: Block, rows: RunRows) -> dict[str, NDArray[Any]]:
        """Preprocess the samples of a run; add the labels of tokens that are compared there."""
        feeds, tokens = self.feed.feeds(block, rows), self.record.tokens
        if tokens and tokens.targets == "labels":
            ids = find_ids(block, self.feed, tokens.input)
            real = np.ones(feeds[tokens.input].shape, bool)
            if self.feed.mask is not None:
                said = self.feed.mask.find_real(feeds)
                real = said if said.shape == real.shape else real
            feeds[TARGETS] = make_targets(block, rows, ids, real, tokens)
        return feeds

    def _most(self, lengths: NDArray[np.int64]) -> int:
        """Return the most samples of one run, by their lengths."""
        if self.bound is not None or not len(lengths):
            return self.schedule.batch
        typical = self.feed.lengths_in(self.probed.samples)
        return self.schedule.fit(float((lengths / typical).max()))


def plan_dump(
    model: str | Path, data: str | Path | None, path: Path, options: DumpOptions
) -> DumpPlan:
    """Decide everything about a dump, without running the model over its data."""
    observer: Observer = options.observer or Silent()
    note = observer.note
    # By default a store is named after its model: what is there already would be the model itself.
    refuse_store(parse_path(model))
    past = _open_target(path, options)
    options.check_sources(path, model, data)
    shared = None if options.inputs_from is None else SharedInputs(options.inputs_from, path)
    provider = provider_name(options.provider)
    network = open_network(model)
    network, sources, feed, tokens = open_inputs(network, data, options, note)
    rows = {n: min(s.rows, options.limit or s.rows) for n, s in sources.items()}
    if tokens is not None and options.part_of is None:
        measure_texts(sources, rows, tokens, note)
    if INNER in options.patterns:
        network = network.ask_outputs()
    first = next(iter(sources.values()))
    for line in describe_inputs(sources, feed, rows):
        note(line)
    before = None if past is None else past.record.runtime
    batch = options.batch_size or (before.batch_size if before else None)
    libraries = tuple(map(Path, options.custom_ops))
    run = RunOptions(provider, options.threads, libraries, network.optimization)
    if provider == CPU and computes_in_bfloat16(network.graph.model.graph):
        note(
            "bfloat16 operators are computed in float32 on the CPU, which has hardly any bfloat16 "
            "operators of its own, and each result is rounded to bfloat16"
        )
    choice = choose_batch(network, feed, first, batch, run, options.computed_statistics, note)
    network, bound, probed = follow_lengths(choice, feed, first)
    if probed.run.optimization != network.optimization:
        note(
            "with optimisation, the model returns different values each time it runs on the same "
            "batch; it is therefore run without, which makes them repeatable"
        )
    padded = PaddedTensors.find(network, probed, feed, sources, bound, note)
    # Where the user says that nothing is padding, an input that is called a mask is no other.
    token_output = find_token_output(
        network.graph,
        probed.tensors,
        probed.samples,
        feed.mask,
        probed.run,
        named=options.mask != "none",
    )
    scores = plan_scores(token_output, feed, sources.values())
    measured = list_scores(token_output, scores, probed.tensors)
    storable = add_unit_axes(network.graph, padded.tensors)
    tensors = select_tensors(
        network,
        storable,
        options.patterns,
        skipped=probed.skipped,
        keep=options.keep,
        dtype=options.dtype,
        measured=measured,
    )
    outputs = select_outputs(network, storable, options.patterns, measured)
    probed = padded.probed
    reduced = plan_reductions(options, network, storable, probed.skipped, tensors, note)
    tensors = (*tensors, *(each.tensor for each in reduced))
    units = plan_units(path, options, network, tensors, storable, measured, note)
    exposed = expose_units(tensors, units, storable)
    held_bytes = _held_bytes(exposed, outputs, feed)
    lengths = feed.length_range(first, probed.samples, max(rows.values()))
    schedule = schedule_runs(
        network,
        probed.tensors,
        held_bytes,
        bound=bound,
        batch=batch,
        provider=provider,
        threads=options.threads,
        lengths=lengths,
    )
    if before is not None and not options.threads:
        schedule = replace(schedule, threads=before.threads)
    initial = _open_initial_model(options.initial_model, network, feed)
    record = describe_store(
        options,
        first,
        feed,
        network,
        probed,
        tensors,
        outputs,
        schedule,
        initial,
        label_lists=any(source.labelled and source.label_lists for source in sources.values()),
    )
    record = msgspec.structs.replace(record, units=units)
    # Labels are compared with stored scores once these are scored.
    kept = [tensor.name for tensor in outputs]
    if scores is not None and not (scores.targets == "labels" and scores.output in kept):
        record = msgspec.structs.replace(record, tokens=scores)
    if token_output is not None:
        note(describe_scores(token_output, record))
    for line in describe_stored(
        record, probed, schedule, network.graph, max(rows.values()), bound=bound is not None
    ):
        note(line)
    if shared is not None:
        shared.check(record.inputs, rows)
        note(f"raw inputs are not stored again: they are in {shared.path}")
    # The batches of a fixed size are filled up.
    largest = max(rows.values()) if bound is None else schedule.batch
    _check_memory(schedule, largest, held_bytes, 1.0 if lengths is None else lengths.ratio)
    whole = DumpedData(sources, rows)
    if options.part_of is not None:
        own_inputs = shared is None
        part = plan_part(*options.part_of, *whole, record, schedule, own_inputs=own_inputs)
        sources, record = part.sources, msgspec.structs.replace(record, part=part.record)
        rows = {name: source.rows for name, source in sources.items()}
        for line in describe_part(part.record, rows):
            note(line)
        if tokens is not None:
            measure_texts(sources, rows, tokens, note)
    plan = DumpPlan(
        path=path,
        codec=options.codec,
        resume=options.resume,
        past=past,
        observer=observer,
        network=network,
        initial=initial,
        sources=sources,
        rows=rows,
        whole=whole,
        label_offset=options.label_offset,
        skips=options.on_error == "skip",
        feed=feed,
        bound=bound,
        probed=probed,
        outputs=outputs,
        statistics=options.computed_statistics,
        exposed=exposed,
        held_bytes=held_bytes,
        schedule=schedule,
        run=replace(probed.run, threads=schedule.threads),
        record=record,
        shared=shared,
        reduced=reduced,
    )
    if past is not None:
        _check_resumed(plan, past)
    return plan


def _open_target(path: Path, options: DumpOptions) -> Store | None:
    """Open the store that is resumed, or make sure that a new one can be written."""
    past = open_resumable(path, options.inputs_from) if options.resume else None
    if past is None:
        # A store without rows is started anew, not resumed.
        check_free(path, overwrite=options.resume or options.overwrite, resumes=True)
    check_codec(path, options.codec)
    return past


def _check_resumed(plan: DumpPlan, past: Store) -> None:
    """Refuse to resume a store of another dump; note how much of it is there."""
    check_same_dump(past, _add_splits(plan), plan.codec)
    if not plan.is_complete:
        committed = sum(map(len, past.splits.values()))
        plan.observer.note(
            f"resuming: {committed:,} of {sum(plan.rows.values()):,} rows are stored already"
        )


def _add_splits(plan: DumpPlan) -> StoreRecord:
    """Describe the store with its splits, before their first rows."""
    splits = {
        name: SplitRecord(
            rows=plan.rows[name],
            committed=(),
            complete=False,
            labels=source.labelled,
            source=source.name,
            classes=source.classes,
            available=plan.whole.sources[name].rows,
            skips=plan.skips,
            inputs_from=None if plan.shared is None else plan.shared.reference(name),
            objects=source.objects or msgspec.UNSET,
        )
        for name, source in plan.sources.items()
    }
    return msgspec.structs.replace(plan.record, splits=splits)


def _open_initial_model(path: str | Path | None, network: Network, feed: Feed) -> Network | None:
    """Open the model with a network's initial weights."""
    if path is None:
        return None
    initial = open_network(path).put_samples_first(feed.shapes)
    initial = initial.take_branches(feed.known, feed.shapes)
    check_initial(network, initial)
    return initial


def _check_memory(schedule: Schedule, largest: int, held_bytes: int, longest: float) -> None:
    """Refuse runs whose values do not fit into memory.

    A run has up to ``largest`` samples. Their values are ``held_bytes`` per sample of typical
    length, and the longest one is ``longest`` times as long.
    """
    available = available_memory()
    batch = min(schedule.fit(longest), largest)
    batches = int(schedule.runs * batch * held_bytes * longest)
    if available is not None and batches > available:
        raise UsageError(
            f"{count_text(schedule.runs, 'run')} of {count_text(batch, 'sample')} "
            f"at a time hold{'s' * (schedule.runs == 1)} "
            f"{bytes_text(batches)}, and {bytes_text(available)} of memory are available. Use "
            "`batch_size=N`, `tensors='layers'`, or `keep='statistics'`."
        )


def _count_done(split: Split) -> int:
    """Count the samples of a split that are done."""
    return split.record.taken if split.record.complete else count_measured(split)


def _held_bytes(
    tensors: Sequence[TensorRecord], outputs: Sequence[TensorRecord], feed: Feed
) -> int:
    """Sum the bytes of one sample that are held until they are written."""
    arrays = [(t.shape, t.dtype) for t in outputs]
    arrays += [(t.shape, t.dtype) for t in tensors if t.stored is not None]
    for step in feed.preprocessing:
        arrays += [(step.shape, step.dtype), (step.source_shape, step.source_dtype)]
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays)
