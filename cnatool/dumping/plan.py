"""What a dump decides before the first row: inputs, tensors, batches, and the store's record."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._util.text import classes_text
from cnatool._version import __version__
from cnatool.backend.network import open_network
from cnatool.backend.schedule import schedule_runs
from cnatool.backend.select import list_unselected, select_outputs, select_tensors
from cnatool.backend.session import RUNTIME_VERSION, RunOptions, provider_name
from cnatool.dumping.batch import batched
from cnatool.dumping.feed import Feed, opened_sources, wanted_arrays
from cnatool.dumping.left_out import left_out_lines
from cnatool.records.run import ConstantRecord, RuntimeRecord
from cnatool.records.store import ArrayRecord, StoreRecord
from cnatool.scoring.output import no_output_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from cnatool.backend.inputs import ConstantInput
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.schedule import Schedule
    from cnatool.data.preprocess.apply import PreprocessOptions
    from cnatool.data.source import InputSpec, Source
    from cnatool.data.splits import ReaderOptions
    from cnatool.records.choices import Kept, Narrowing, Statistic
    from cnatool.records.store import TensorRecord
    from cnatool.store.shared_inputs import SharedInputs


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user wants stored; fields as in `cnatool.dump`."""

    keep: Kept
    tensors: tuple[str, ...]
    dtype: Narrowing | None
    statistics: tuple[Statistic, ...]
    limit: int | None
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunChoices:
    """How the user wants the model run; fields as in `cnatool.dump`.

    ``operator_threads`` are those of one operator, where a dump that is resumed had so many and the
    user asks for no other number.
    """

    batch_size: int | None
    provider: str
    threads: int
    custom_ops: tuple[Path, ...]
    operator_threads: int | None = None


@dataclass(frozen=True, slots=True)
class FeedChoices:
    """How the user wants the model fed; fields as in `cnatool.dump`."""

    preprocessing: PreprocessOptions
    arrays: dict[str, str]
    constants: dict[str, ArrayLike]
    reading: ReaderOptions


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is decided before the first row.

    Attributes
    ----------
    network : Network
        The model, its batch axis freed where that changes nothing.
    sources, rows : dict
        The samples of each split, and how many of them are taken.
    skips : bool
        Of these, those that cannot be read are left out.
    feed : Feed
        How they are fed.
    probed : ProbedNetwork
        What runs over a few samples told of the model, and these samples.
    outputs : list of TensorRecord
        The model's outputs.
    statistics : tuple of Statistic
        What is computed of each tensor.
    held_bytes : int
        What of a sample is held until it is written.
    schedule : Schedule
        How many of them at a time.
    run : RunOptions
        How ONNX Runtime runs them.
    record : StoreRecord
        The store's description, without its splits.
    shared : SharedInputs or None
        What another store holds of the raw inputs, which are then not stored again.
    """

    network: Network
    sources: Mapping[str, Source]
    rows: Mapping[str, int]
    skips: bool
    feed: Feed
    probed: ProbedNetwork
    outputs: list[TensorRecord]
    statistics: tuple[Statistic, ...]
    held_bytes: int
    schedule: Schedule
    run: RunOptions
    record: StoreRecord
    shared: SharedInputs | None = None


def planned(
    model: Path,
    data: str | Path | None,
    splits: Mapping[str, str | Path],
    choices: Choices,
    running: RunChoices,
    feeding: FeedChoices,
    note: Callable[[str], None],
) -> Plan:
    """Decide everything about a dump.

    Parameters
    ----------
    model : Path
        An ONNX file.
    data : str, Path or None
        Samples; see `cnatool.dump`.
    splits : mapping of str to path
        Split names and their data, instead of ``data``.
    choices, running, feeding : Choices, RunChoices, FeedChoices
        What the user asked for.
    note : callable
        Is told, a line at a time, what was decided.

    Raises
    ------
    UsageError, DataError, ModelError
        If an argument, the data or the model cannot be used.
    BackendError
        If the runtime fails.
    """
    provider = provider_name(running.provider)
    network = open_network(model)
    run = RunOptions(provider, running.threads, running.custom_ops, network.optimization)
    wanted = wanted_arrays(network, feeding.arrays, feeding.constants)
    sources = opened_sources(data, splits, wanted, feeding.reading, note)
    rows = {n: min(s.rows, choices.limit or s.rows) for n, s in sources.items()}
    first = next(iter(sources.values()))
    feed = Feed.planned(
        network,
        first,
        wanted,
        feeding.preprocessing,
        feeding.reading.images.geometry,
        feeding.constants,
    )
    for line in feed.notes:
        note(line)
    if (padded := feed.padding(first)) is not None:
        note(padded)
    for name, source in sources.items():
        note(_split_text(name, source, rows[name]))
    ran = batched(
        network,
        feed,
        first,
        asked=running.batch_size,
        run=run,
        statistics=choices.statistics,
        note=note,
    )
    network, feed, probed, run = ran.network, ran.feed, ran.probed, ran.probed.run
    if run.optimization != network.optimization:
        note(
            "optimised, the model gives other values each time it runs on the same batch; it is "
            "run without optimisation, which repeats them"
        )
    kept = select_tensors(
        network, probed.tensors, choices.tensors, keep=choices.keep, dtype=choices.dtype
    )
    outputs = select_outputs(network, probed.tensors, choices.tensors)
    held_bytes = _held_bytes(kept, outputs, feed)
    schedule = schedule_runs(
        network,
        probed.tensors,
        held_bytes,
        bound=feed.batch,
        batch=running.batch_size,
        provider=provider,
        threads=running.threads,
    )
    if running.operator_threads is not None:
        schedule = replace(schedule, threads=running.operator_threads)
    record = StoreRecord(
        schema="cnatool.store/1",
        created_by=f"cnatool {__version__}",
        inputs=tuple(map(_input_record, first.inputs)),
        outputs=tuple(ArrayRecord(t.name, t.dtype, t.shape) for t in outputs),
        tensors=kept,
        layers=tuple(
            msgspec.structs.replace(
                layer, per_sample=probed.counted.isdisjoint((layer.linear, layer.preactivation))
            )
            for layer in network.layers.layers
        ),
        statistics=(*choices.statistics, *(["count"] if any(t.varies for t in kept) else [])),
        splits={},
        skipped=tuple(probed.skipped),
        unselected=list_unselected(probed.tensors, kept),
        model=network.record,
        runtime=RuntimeRecord(
            name="onnxruntime",
            version=RUNTIME_VERSION,
            provider=provider,
            optimization=run.optimization,
            batch_size=schedule.batch,
            threads=schedule.threads,
        ),
        preprocessing=feed.preprocessing,
        constants=tuple(map(_constant_record, feed.constants)),
        tags=choices.tags,
    )
    for line in _summary(record, probed, schedule, bound=feed.batch is not None):
        note(line)
    run = replace(run, threads=schedule.threads)
    return Plan(
        network=network,
        sources=sources,
        rows=rows,
        skips=feeding.reading.images.skip_unreadable,
        feed=feed,
        probed=probed,
        outputs=outputs,
        statistics=choices.statistics,
        held_bytes=held_bytes,
        schedule=schedule,
        run=run,
        record=record,
    )


def _split_text(name: str, source: Source, rows: int) -> str:
    count = f"{rows} samples" if rows == source.rows else f"{rows} of {source.rows} samples"
    labels = "with labels" if source.labelled else "no labels found"
    if source.labelled and source.classes:
        labels += f" ({classes_text(source.classes)})"
    return f"split {name}: {count} of {source.name}, {labels}"


def _held_bytes(
    tensors: Sequence[TensorRecord], outputs: Sequence[TensorRecord], feed: Feed
) -> int:
    """Count the bytes of one sample that are held until they are written."""
    held = [(t.shape, t.dtype) for t in outputs]
    held += [(t.shape, t.dtype) for t in tensors if t.stored is not None]
    for given in feed.preprocessing:
        held += [(given.shape, given.dtype), (given.source_shape, given.source_dtype)]
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in held)


def _input_record(spec: InputSpec) -> ArrayRecord:
    return ArrayRecord(spec.name, spec.dtype.name, spec.shape, "uint8" if spec.levels else None)


def _constant_record(constant: ConstantInput) -> ConstantRecord:
    value = np.ascontiguousarray(constant.value)
    little = value.astype(value.dtype.newbyteorder("<"))
    return ConstantRecord(
        input=constant.name,
        dtype=value.dtype.name,
        shape=constant.value.shape,
        value=float(value.item()) if value.size == 1 and np.isfinite(value).all() else None,
        sha256=hashlib.sha256(little.tobytes()).hexdigest(),
    )


def _summary(
    record: StoreRecord, probed: ProbedNetwork, schedule: Schedule, *, bound: bool
) -> list[str]:
    tensors, layers = len(record.tensors), len(record.layers)
    lines = [
        f"{tensors} tensor{'s' * (tensors != 1)}, {layers} layer{'s' * (layers != 1)}",
        *left_out_lines(record.skipped),
    ]
    if not record.outputs:
        lines.append(f"{no_output_text(record)}: scores have no accuracy, loss and margin")
    varying = sum(tensor.varies for tensor in record.tensors)
    if varying:
        lines.append(
            f"the shape of {varying} tensor{'s' * (varying != 1)} depends on the data: of these "
            "only sums and numbers of elements are stored"
        )
    apart = [layer for layer in record.layers if not layer.per_sample]
    if apart:
        lines.append(
            f"{len(apart)} layer{'s' * (len(apart) != 1)}, first {apart[0].linear!r}, "
            f"work{'s' * (len(apart) == 1)} on what is found in the samples, such as detections, "
            f"instead of samples: scores leave {'them' if len(apart) != 1 else 'it'} out"
        )
    if layers and not any(layer.output for layer in record.layers):
        lines.append(
            "no layer leads straight to an output, so scores count all of them as hidden ones; "
            "inspect --layers lists them"
        )
    # Alone in a run, no sample has others beside it.
    if probed.mixed and schedule.batch > 1:
        count = len(probed.mixed)
        lines.append(
            f"{count} tensor{'s' * (count != 1)}, first {probed.mixed[0]!r}, "
            f"depend{'s' * (count == 1)} on the other samples of a batch: the values hold for "
            f"batches of {schedule.batch} in this order"
            + (", the last one filled up with copies of its last sample" if bound else "")
            + ("; --batch-size 1 runs each sample alone" if probed.one_runs else "")
        )
    if probed.random:
        count, (first, operator) = len(probed.random), next(iter(probed.random.items()))
        lines.append(
            f"{count} tensor{'s' * (count != 1)}, first {first!r}, "
            f"{'are' if count != 1 else 'is'} random ({operator}): another dump stores other "
            "values. A model exported in evaluation mode has no dropout"
        )
    return lines
