"""The first blocks of a dump: run to estimate the rest, before anything is written."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from cnatool._util.threads import Stages, prefetch
from cnatool.backend.statistics.checked import build_exposed_model
from cnatool.dumping.compression import Compression, plan_compression
from cnatool.dumping.flatness import describe_effort
from cnatool.dumping.preflight import Preflight, estimate, take_first_blocks
from cnatool.dumping.resume import Past
from cnatool.dumping.run import ProcessedBlock, run_blocks
from cnatool.dumping.sample_checks import SampleChecks

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from cnatool.backend.statistics.exposed_model import ExposedModel
    from cnatool.dumping.plan import DumpPlan


@dataclass(frozen=True, slots=True)
class PreparedDump:
    """A dump whose first blocks went through the model; nothing is written yet."""

    plan: DumpPlan
    exposed: ExposedModel
    compression: Compression
    preflight: Preflight
    checks: SampleChecks
    stages: Stages
    pasts: Mapping[str, Past]  # by split, the committed rows of a store that is resumed
    split: str  # the split of the first blocks
    blocks: Iterator[ProcessedBlock]  # of this split, the first blocks included

    def blocks_of(self, split: str) -> Generator[ProcessedBlock]:
        """Yield the blocks of a split."""
        if split == self.split:
            yield from self.blocks
            return
        past = self.pasts.get(split)
        with closing(run_blocks(self.plan, self.exposed, split, self.stages, past)) as blocks:
            yield from blocks


@contextmanager
def prepare_dump(plan: DumpPlan, *, announce: bool = True) -> Generator[PreparedDump]:
    """Run the first blocks, and estimate from them the time and space that the rest takes.

    Finished splits of a store that is resumed are compared with their data first, so that a
    difference is found before anything is written. Leaving the context ends all threads. With
    ``announce``, the observer learns which split comes first.
    """
    observer, left = plan.observer, plan.left
    if plan.record.flatness is not None and plan.past is None and plan.measures_model:
        observer.note(describe_effort(plan.record.flatness.settings, plan.whole.rows))
    exposed = build_exposed_model(
        plan.network,
        plan.probed,
        plan.exposed,
        plan.outputs,
        plan.statistics,
        plan.run,
        plan.feed.mask,
        plan.record.tokens or None,
        plan.reduced,
    )
    for line in exposed.notes:
        observer.note(line)
    # The results of a stateful model depend on earlier runs: everything runs again, in order.
    stateful = plan.schedule.stateful
    finished = [] if stateful else [name for name, rows in left.items() if not rows]
    last = [*finished, *(name for name in plan.rows if name not in finished)][-1]
    checks, stages = SampleChecks(plan.record.tensors, last), Stages()
    splits = {} if plan.past is None else plan.past.splits
    pasts = {name: Past(split, checks, observer) for name, split in splits.items()}
    for name in finished:
        if name in pasts:
            _compare_split(plan, name, pasts[name])
    to_run = plan.rows if stateful else left
    split = next((name for name, rows in to_run.items() if rows), next(iter(plan.rows)))
    if announce:
        done = pasts[split].rows if split in pasts else 0
        observer.progress(split, done, plan.rows[split])
    with closing(run_blocks(plan, exposed, split, stages, pasts.get(split))) as blocks:
        first = take_first_blocks(blocks, plan)
        compression = plan_compression(plan, _first_of_all(plan, exposed, first))
        preflight = estimate(plan, first, compression)
        # Each of the first blocks is freed once it is written.
        released = (first.pop(0) for _ in range(len(first)))
        rest = chain(released, blocks)
        yield PreparedDump(
            plan, exposed, compression, preflight, checks, stages, pasts, split, rest
        )


def _first_of_all(
    plan: DumpPlan, exposed: ExposedModel, first: Sequence[ProcessedBlock]
) -> ProcessedBlock | None:
    """Return the first block of the whole dump; run it again for a part without all its rows."""
    part = plan.part
    if part is None or plan.codec is not None or plan.past is not None:
        return first[0] if first else None
    sources, rows = plan.whole
    split = next(name for name, count in rows.items() if count)
    if part.number == 1 and len(first[0].rows) == min(plan.schedule.block, rows[split]):
        return first[0]
    whole = replace(plan, sources=sources, rows=rows, shared=None)
    with closing(run_blocks(whole, exposed, split, Stages())) as blocks:
        return next(blocks, None)


def _compare_split(plan: DumpPlan, name: str, past: Past) -> None:
    """Compare all rows of a finished split with its data."""
    blocks = plan.sources[name].blocks(plan.schedule.block, plan.rows[name])
    with closing(prefetch(blocks)) as read:
        for block in read:
            past.compare(block)
