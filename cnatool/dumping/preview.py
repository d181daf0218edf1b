"""The first samples as a model would receive them, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.text import list_names, printable
from cnatool.backend.network import open_network
from cnatool.data.wrappers import read_first_block
from cnatool.dumping.inputs import open_inputs
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cnatool.dumping.options import DumpOptions
    from cnatool.records.ragged import Rows
    from cnatool.records.run import Preprocessing


@dataclass(frozen=True, slots=True)
class Preview:
    """The first samples as a model's inputs receive them."""

    ids: Sequence[str]
    inputs: tuple[Preprocessing, ...]  # of each input that is fed from data
    values: Mapping[str, Rows]  # by input, (n, …) each
    notes: tuple[str, ...]  # a line for each input


def preview(
    model: str | Path,
    data: str | Path | None,
    options: DumpOptions,
    *,
    samples: int = 16,
    split: str | None = None,
) -> Preview:
    """Preprocess the first samples of a split as `dump` would."""
    network = open_network(model)
    _, sources, feed, _ = open_inputs(network, data, options, lambda _: None)
    source = next(iter(sources.values())) if split is None else sources.get(split)
    if source is None:
        raise UsageError(f"there is no split {printable(split)}; there are {list_names(sources)}.")
    block = read_first_block(source, min(samples, options.limit or samples))
    return Preview(block.ids, feed.preprocessing, feed.preprocess(block), feed.notes)
