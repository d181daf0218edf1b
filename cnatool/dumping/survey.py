"""What a dump is on a cluster, and what a worker finds out about it before any row is written."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cnatool._util.cluster_workers import absolute_path
from cnatool._util.urls import parse_path
from cnatool.dumping.cluster_progress import PartObserver
from cnatool.dumping.fitted_reductions import fit_reductions
from cnatool.dumping.options import DumpOptions
from cnatool.dumping.plan import plan_dump
from cnatool.dumping.prepare import prepare_dump

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cnatool.dumping.preflight import Preflight

# What follows :: is the name of an array inside a file.
_INSIDE = "::"
# Options that each name a file or a folder.
_PATHS = ("preprocess", "inputs_from", "initial_model", "tokenizer")


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A dump as workers see it: with absolute paths."""

    model: str
    data: str | None
    store: Path
    options: Mapping[str, Any]

    @classmethod
    def from_options(
        cls, model: str | Path, data: str | Path | None, store: Path, options: DumpOptions
    ) -> ClusterJob:
        """Take over the options of a dump that are not about the cluster."""
        kept: dict[str, Any] = {
            option.name: getattr(options, option.name)
            for option in fields(options)
            if option.name not in ("client", "parts", "observer", "overwrite", "resume", "verbose")
            and getattr(options, option.name) is not option.default
        }
        for name in _PATHS:
            if name in kept:
                kept[name] = _absolute(kept[name])
        if "splits" in kept:
            kept["splits"] = {name: _absolute(path) for name, path in kept["splits"].items()}
        if "custom_ops" in kept:
            kept["custom_ops"] = [_absolute(path) for path in kept["custom_ops"]]
        return cls(_absolute(model), None if data is None else _absolute(data), store, kept)

    @property
    def places(self) -> list[Path]:
        """The files, folders and URLs that it reads."""
        texts = [self.model, self.data, *(self.options.get(name) for name in _PATHS)]
        texts += [*self.options.get("splits", {}).values(), *self.options.get("custom_ops", ())]
        files = [str(text).partition(_INSIDE)[0] for text in texts if text is not None]
        return [*map(parse_path, files)]


def _absolute(path: str | Path) -> str:
    file, inside, name = str(path).partition(_INSIDE)
    return f"{absolute_path(file)}{inside}{name}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a worker finds out about a whole dump."""

    preflight: Preflight | None  # None for a complete store
    notes: tuple[str, ...]
    rows: dict[str, int]  # of each split
    batches: int
    stateful: bool


def survey_dump(model: str, data: str | None, store: Path, options: Mapping[str, Any]) -> Survey:
    """Plan a whole dump and run its first blocks, on a worker."""
    observer = PartObserver()
    plan = plan_dump(model, data, store, DumpOptions(**options, observer=observer))
    preflight = None
    if not plan.is_complete:
        with prepare_dump(fit_reductions(plan), announce=False) as prepared:
            preflight = prepared.preflight
            if options["verbose"]:
                observer.note(str(prepared.compression))
    rows = dict(plan.rows)
    batch, stateful = plan.schedule.unit, plan.schedule.stateful
    batches = sum(-(-count // batch) for count in rows.values())
    return Survey(preflight, tuple(observer.notes), rows, batches, stateful)
