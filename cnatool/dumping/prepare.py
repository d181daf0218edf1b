"""The beginning of a dump: all is decided, the first blocks are run, and nothing is written yet."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.observer import Observer, Silent
from cnatool._util.threads import Stages, prefetch
from cnatool.backend.statistics.checked import build_exposed_model
from cnatool.dumping.flatness import flatness_text
from cnatool.dumping.model_record import initial_network, with_initial
from cnatool.dumping.options import DumpOptions, check_apart, choices, flatness_settings
from cnatool.dumping.plan import Plan, planned
from cnatool.dumping.preflight import Preflight, check_memory, estimated, first_blocks
from cnatool.dumping.resume import Past, check_same, codec_of, is_complete, resumable
from cnatool.dumping.run import ProcessedBlock, run_blocks
from cnatool.dumping.sample_checks import SampleChecks
from cnatool.records.weights import FlatnessRecord
from cnatool.store.format_table import format_by_name
from cnatool.store.replace import check_free
from cnatool.store.shared_inputs import SharedInputs
from cnatool.store.writer import check_codec

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from cnatool.backend.network import Network
    from cnatool.backend.statistics.exposed_model import ExposedModel
    from cnatool.records.choices import Codec
    from cnatool.store.store import Split, Store


@dataclass(frozen=True, slots=True)
class Decided:
    """A dump of which nothing was run yet.

    Attributes
    ----------
    path : Path
        Where the store is, or will be.
    plan : Plan
    codec : Codec
        How it is compressed.
    resume : bool
        It may go on with a store.
    past : Store or None
        The store that it goes on with; None where it begins at the start.
    observer : Observer
    initial : Network or None
        The model of the initial weights.
    """

    path: Path
    plan: Plan
    codec: Codec
    resume: bool
    past: Store | None
    observer: Observer
    initial: Network | None

    @property
    def begins_anew(self) -> bool:
        """Whether what may be at the path is a store without a row, which goes."""
        return self.resume and self.past is None

    @property
    def left(self) -> dict[str, int]:
        """Rows of each split that are still to be written."""
        splits = {} if self.past is None else self.past.splits
        there = {name: _taken(split) for name, split in splits.items()}
        return {name: rows - there.get(name, 0) for name, rows in self.plan.rows.items()}


def decided_dump(
    model: str | Path, data: str | Path | None, path: Path, options: DumpOptions
) -> Decided:
    """Decide everything about a dump, without running the model over its data."""
    observer = options.get("observer") or Silent()
    splits = options.get("splits") or {}
    resume = options.get("resume", False)
    base = options.get("inputs_from")
    past = resumable(path, base) if resume else None
    if past is None:
        # What is resumed and holds no row is begun anew.
        check_free(path, overwrite=resume or options.get("overwrite", False), resumes=True)
    check_codec(path, options.get("codec"))
    before = options.get("initial_model")
    sources = (model, data, before, base, *splits.values())
    check_apart(path, [one for one in sources if one is not None])
    shared = None if base is None else SharedInputs(base, path)
    plan = planned(
        Path(model),
        data,
        splits,
        *choices(options, past.record.runtime if past else None),
        observer.note,
    )
    if shared is not None:
        shared.check(plan.record.inputs, plan.rows)
        observer.note(f"raw inputs are not stored again: they are in {base}")
        plan = replace(plan, shared=shared)
    check_memory(plan)
    initial = initial_network(before, plan.network)
    record = with_initial(plan.record, initial)
    settings = flatness_settings(options)
    if settings is not None:
        record = msgspec.structs.replace(record, flatness=FlatnessRecord(settings))
        if past is None:
            observer.note(flatness_text(settings, plan))
    plan = replace(plan, record=record)
    codec = options.get("codec") or (past and codec_of(past)) or format_by_name(path).codecs[0]
    if past is not None:
        check_same(past, plan, codec)
    if past is not None and not is_complete(past):
        rows, there = sum(plan.rows.values()), sum(map(len, past.splits.values()))
        observer.note(f"resuming: {there:,} of {rows:,} rows are there")
    return Decided(path, plan, codec, resume, past, observer, initial)


def _taken(split: Split) -> int:
    """Count the samples that need no run any more."""
    return split.record.taken if split.record.complete else len(split)


@dataclass(frozen=True, slots=True)
class Begun:
    """A dump of which nothing is written yet: its first blocks are through the model.

    Attributes
    ----------
    plan : Plan
    exposed : ExposedModel
        The plan's model, ready to run.
    preflight : Preflight
        What the rest will take.
    checks : SampleChecks
        Gets every row.
    stages : Stages
        Told how long each stage is busy.
    pasts : mapping of str to Past
        What is committed of each split, where the dump goes on with a store.
    split : str
        The split that was begun with.
    blocks : iterator of ProcessedBlock
        Its blocks.
    """

    plan: Plan
    exposed: ExposedModel
    preflight: Preflight
    checks: SampleChecks
    stages: Stages
    pasts: Mapping[str, Past]
    split: str
    blocks: Iterator[ProcessedBlock]

    def blocks_of(self, split: str) -> Generator[ProcessedBlock]:
        """Give the blocks of a split, those that were already run among them."""
        past = self.pasts.get(split)
        if split == self.split:
            yield from self.blocks
            return
        with closing(run_blocks(self.plan, self.exposed, split, self.stages, past)) as ran:
            yield from ran


@contextmanager
def begun_dump(decided: Decided, *, announced: bool = True) -> Generator[Begun]:
    """Run the first blocks, and judge by them what the rest will take.

    The observer is told of the split that is begun with if ``announced``.

    Splits that are finished are compared with their data first, so that data that are not those of
    the store are found before anything is written. Leaving the context ends all threads.
    """
    plan, left = decided.plan, decided.left
    exposed = build_exposed_model(
        plan.network,
        plan.probed,
        plan.record.tensors,
        plan.outputs,
        plan.statistics,
        plan.run,
    )
    finished = [] if plan.schedule.stateful else [name for name, rows in left.items() if not rows]
    # Finished splits are read first.
    last = [*finished, *(name for name in plan.rows if name not in finished)][-1]
    checks, stages = SampleChecks(plan.record.tensors, last), Stages()
    past = {} if decided.past is None else decided.past.splits
    pasts = {name: Past(split, checks, decided.observer) for name, split in past.items()}
    if plan.schedule.stateful:
        # Results depend on the runs before: everything runs once more, in the same order.
        wanted = plan.rows
    else:
        wanted = left
        for name, one in pasts.items():
            if not left[name]:
                blocks = plan.sources[name].blocks(plan.schedule.block, plan.rows[name])
                with closing(prefetch(blocks)) as read:
                    for block in read:
                        one.compare(block)
    split = next((name for name, rows in wanted.items() if rows), next(iter(plan.rows)))
    if announced:
        there = pasts[split].rows if split in pasts else 0
        decided.observer.progress(split, there, plan.rows[split])
    with closing(run_blocks(plan, exposed, split, stages, pasts.get(split))) as ran:
        trial = first_blocks(ran, plan, sum(left.values()))
        found = estimated(plan, decided.path, trial, decided.codec, left)
        first = _in_turn(trial, ran)
        yield Begun(plan, exposed, found, checks, stages, pasts, split, first)


def _in_turn(
    first: list[ProcessedBlock], rest: Iterable[ProcessedBlock]
) -> Iterator[ProcessedBlock]:
    """Give the blocks of a list, which lets go of them, and then the rest."""
    while first:
        yield first.pop(0)
    yield from rest
