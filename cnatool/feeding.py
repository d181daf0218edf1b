"""Where a dump's samples come from, and how they become what the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.find import find_splits, open_source
from cnatool.data.preprocess import ModelInput, PreprocessOptions, apply, plan
from cnatool.errors import DataError
from cnatool.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.backend.network import FeedSpec, Network
    from cnatool.data.source import Block, Source
    from cnatool.store.records import Preprocessing

__all__ = ["Feed", "opened_sources"]

_PROBE_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Feed:
    """How raw samples become what the model's input takes."""

    spec: FeedSpec
    preprocessing: Preprocessing
    note: str

    @classmethod
    def planned(
        cls, network: Network, sources: Mapping[str, Source], options: PreprocessOptions
    ) -> Feed:
        """Decide how samples are fed.

        Raises
        ------
        DataError, UsageError
            If model and data do not have one input each, or these do not fit.
        """
        source = next(iter(sources.values()))
        if len(network.feeds) != 1 or len(source.inputs) != 1:
            needs = ", ".join(f"{f.name!r} {_shape_text(f)}" for f in network.feeds) or "nothing"
            gives = ", ".join(f"{i.name!r} {i.shape}" for i in source.inputs)
            raise DataError(
                f"{network.graph.path} takes {len(network.feeds)} inputs ({needs}) and "
                f"{source.name} gives {len(source.inputs)} ({gives}). "
                "Models with exactly one input can be dumped."
            )
        (feed,) = network.feeds
        (given,) = source.inputs
        shape = (None,) * len(given.shape) if feed.shape is None else feed.shape
        target = ModelInput(feed.name, feed.dtype, shape)
        preprocessing, note = plan(given, target, options)
        return cls(feed, preprocessing, note)

    def batches(self, block: Block, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Preprocess a block, a batch of samples at a time.

        The last batch is padded where the model is bound to a number of samples.
        """
        (raw,) = block.inputs
        for start in range(0, len(raw), batch):
            values = apply(raw[start : start + batch], self.preprocessing)
            missing = (self.spec.batch or 0) - len(values)
            if missing > 0:
                values = np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
            yield {self.spec.name: values}

    def unscaled(self, probe: Mapping[str, NDArray[Any]]) -> str | None:
        """Say so where whole numbers up to 255 go in as they are: they look like raw pictures."""
        given = self.preprocessing
        if given.scale != 1.0 or given.mean or given.std or np.dtype(given.dtype).kind != "f":
            return None
        values = probe[self.spec.name].round()
        # Tables of numbers may be large; pictures have at least two axes.
        pictures = max(len(given.shape), len(given.source_shape)) > 1
        if not pictures or values.min() < 0 or not 128 <= values.max() <= 256:
            return None
        return (
            f"input {self.spec.name!r} receives values up to {values.max():g} as they are; if the "
            "model was trained on values from 0 to 1, pass --scale 1/255"
        )

    def probe(self, sources: Mapping[str, Source]) -> dict[str, NDArray[Any]]:
        """Give the first samples of the first split, repeated where there are too few.

        Floating samples get some noise, so that no two are the same.
        """
        count = self.spec.batch or _PROBE_SAMPLES
        source = next(iter(sources.values()))
        (feeds,) = self.batches(next(iter(source.blocks(count, count))), count)
        values = feeds[self.spec.name]
        values = np.resize(values, (count, *values.shape[1:]))
        if values.dtype.kind == "f":
            noise = np.random.default_rng(0).normal(0, 0.1, values.shape)
            values = values + noise.astype(values.dtype)
        return {self.spec.name: values}


def opened_sources(data: str | Path | None, splits: Mapping[str, str | Path]) -> dict[str, Source]:
    """Open the samples of each split.

    Parameters
    ----------
    data : str, Path or None
        One source, or a folder with the parts of several splits.
    splits : mapping of str to path
        Split names and their sources, instead of ``data``.

    Raises
    ------
    UsageError
        If both or neither are given, or a name cannot be one of a split.
    DataError
        If a source cannot be read, or the splits hold different samples or classes.
    """
    named = {name: Path(part) for name, part in splits.items()}
    parts = find_splits(None if data is None else Path(data), named)
    sources = {name: open_source(part) for name, part in parts.items()}
    (first, reference), *others = sources.items()
    for name, source in others:
        if [(i.shape, i.dtype) for i in source.inputs] != [
            (i.shape, i.dtype) for i in reference.inputs
        ]:
            raise DataError(
                f"splits {first!r} and {name!r} hold different samples: "
                f"{_inputs_text(reference)} and {_inputs_text(source)}. "
                "One store holds samples of one shape and type."
            )
        if source.classes != reference.classes:
            raise DataError(
                f"splits {first!r} and {name!r} have different classes, so one label would mean "
                f"two things: {_difference(reference.classes, source.classes)}. Give each split a "
                "folder for every class; it may be empty."
            )
    return sources


def _difference(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> str:
    names = sorted(set(first or ()) ^ set(second or ()))
    return f"only one of them has {', '.join(map(printable, names[:5]))}"


def _shape_text(feed: FeedSpec) -> str:
    if feed.shape is None:
        return "of any shape"
    sizes = ", ".join("?" if size is None else str(size) for size in feed.shape)
    return f"({sizes})"


def _inputs_text(source: Source) -> str:
    return ", ".join(f"{i.shape} {i.dtype}" for i in source.inputs)
