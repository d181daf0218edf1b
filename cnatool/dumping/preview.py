"""What a model would be fed, without running it: to look at before hours are spent on a dump."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnatool._util.text import list_names, printable
from cnatool.backend.network import open_network
from cnatool.data.wrappers import read_first_block
from cnatool.dumping.feed import Feed, opened_sources, wanted_arrays
from cnatool.dumping.options import DumpOptions, check_options, choices
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from numpy.typing import NDArray

    from cnatool.records.run import Preprocessing


@dataclass(frozen=True, slots=True)
class Preview:
    """The first samples as a model's inputs receive them.

    Attributes
    ----------
    ids : sequence of str
        Where they come from.
    inputs : tuple of Preprocessing
        What was decided for each input that data feed.
    values : mapping of str to ndarray
        The samples by input, (n, …) each.
    notes : tuple of str
        A line for the user for each input.
    """

    ids: Sequence[str]
    inputs: tuple[Preprocessing, ...]
    values: Mapping[str, NDArray[Any]]
    notes: tuple[str, ...]


def preview(
    model: str | Path,
    data: str | Path | None = None,
    *,
    samples: int = 16,
    split: str | None = None,
    **options: Unpack[DumpOptions],
) -> Preview:
    """Prepare the first samples of a split as `dump` would."""
    check_options(options)
    chosen, _, feeding = choices(options, None)
    network = open_network(Path(model))
    wanted = wanted_arrays(network, feeding.arrays, feeding.constants)
    sources = opened_sources(
        data, options.get("splits") or {}, wanted, feeding.reading, lambda _: None
    )
    # What is done with all splits depends on the first.
    first = next(iter(sources.values()))
    source = first if split is None else sources.get(split)
    if source is None:
        raise UsageError(f"there is no split {printable(split)}; there are {list_names(sources)}.")
    geometry = feeding.reading.images.geometry
    feed = Feed.planned(network, first, wanted, feeding.preprocessing, geometry, feeding.constants)
    block = read_first_block(source, min(samples, chosen.limit or samples))
    return Preview(block.ids, feed.preprocessing, feed.prepared(block), feed.notes)
