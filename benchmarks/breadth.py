"""Of how many exported networks is every tensor dumped, and dumped right?

Each network is exported with random weights, dumped over a few samples in a process of its own, and
recomputed tensor by tensor with ONNX's reference evaluator. Every network gets one row of a Parquet
file, failures included; `breadth_page.py` makes docs/compatibility.md from it. What is done already
is not done again, so a run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.metadata
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from zoo.case import Case
from zoo.isolation import Limits, run_apart
from zoo.rows import Outcome, Results, Row
from zoo.trial import try_case

HERE = Path(__file__).parent
RESULTS = HERE / "breadth.parquet"
# What makes every row, whatever its source.
_PACKAGES = ("cnatool", "onnx", "onnxruntime")
# What a dump imports when it needs it: once here, rather than in the process of every network.
_PRELOADED = (
    "cnatool.data.formats.npy",
    "cnatool.dumping.prepare",
    "cnatool.dumping.process",
    "cnatool.dumping.write",
    "cnatool.store.zarr.array",
    "cnatool.store.zarr.object_shards",
    "cnatool.store.zarr.tree",
)


def list_sources() -> list[str]:
    """List the sources by name."""
    return sorted(p.stem for p in (HERE / "zoo" / "sources").glob("*.py") if p.stem[0] != "_")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", help=f"of {', '.join(list_sources())}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the Parquet file")
    parser.add_argument("--add", type=Path, nargs="*", default=(), help="take over their rows")
    parser.add_argument("--only", default="*", help="SOURCE/NAME/EXPORTER, with wildcards")
    parser.add_argument(
        "--again", nargs="*", default=(), help="outcomes, and kinds of tensors left out, to repeat"
    )
    parser.add_argument("--limit", type=int, help="at most so many networks")
    parser.add_argument("--seconds", type=int, default=240, help="of processor time, for each")
    parser.add_argument("--megabytes", type=int, default=12_000, help="of address space, for each")
    return parser.parse_args()


def main() -> None:
    """Run the sources, and write the Parquet file."""
    options = _parse()
    results = Results(options.results)
    for path in options.add:
        results.add(Results(path).rows.values())
    for name in _PRELOADED:
        importlib.import_module(name)
    limits = Limits(options.seconds, options.megabytes)
    try:
        for case, versions in _list_cases(options.sources, results, options):
            row = run_case(case, limits, versions)
            results.append(row)
            print(f"{'/'.join(row.key)}: {row.outcome} {row.message}", flush=True)
    finally:
        results.save()


def _list_cases(
    sources: Sequence[str], results: Results, options: argparse.Namespace
) -> Iterator[tuple[Case, str]]:
    """List what is left to do, and the versions of the packages that do it."""
    count = 0
    for source in sources:
        module = importlib.import_module(f"zoo.sources.{source}")
        versions = ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in dict.fromkeys((*_PACKAGES, *module.list_packages()))
        )
        for case in module.list_cases():
            done = results.rows.get(case.key)
            if done is not None and not _is_asked_for(done, options.again):
                continue
            if not fnmatch.fnmatchcase("/".join(case.key), options.only):
                continue
            if count == options.limit:
                return
            count += 1
            yield case, versions


def _is_asked_for(row: Row, again: Sequence[str]) -> bool:
    return not {row.outcome, *row.left_out}.isdisjoint(again)


def run_case(case: Case, limits: Limits, versions: str = "") -> Row:
    """Run one case in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="breadth-") as folder:
        ended = run_apart(partial(try_case, case), limits, Path(folder))
    row: Row | None = ended.result
    if row is None:
        # Who took too much, or crashed?
        outcome: Outcome = "exporter" if ended.stage == "export" else "failed"
        message = f"{ended.stage}: {ended.reason}"
        row = Row(case.source, case.family, case.name, case.exporter, outcome, message)
    return replace(
        row,
        seconds=round(ended.seconds, 1),
        megabytes=round(ended.megabytes),
        versions=versions,
    )


if __name__ == "__main__":
    main()
