"""The data of a dump, opened, and how they feed the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cnatool.dumping.feed import Feed
from cnatool.dumping.input_plan import list_fed
from cnatool.dumping.masks import mask_sources
from cnatool.dumping.sources import open_sources, read_preprocessing, select_arrays
from cnatool.dumping.tokens import (
    advise_tokenizer,
    plan_tokens,
    record_tokenizer,
    select_tokens,
)
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cnatool.backend.network import Network
    from cnatool.data.source import Source
    from cnatool.data.tokenize import TokenInput
    from cnatool.dumping.options import DumpOptions


class DumpInputs(NamedTuple):
    """The data of each split, and how they feed the model."""

    network: Network  # without the Ifs that take the same branch for every sample
    sources: dict[str, Source]
    feed: Feed
    tokens: TokenInput | None  # the input that takes the tokens of texts


def open_inputs(
    network: Network, data: str | Path | None, options: DumpOptions, note: Callable[[str], None]
) -> DumpInputs:
    """Open the data of a model, and plan how they feed it; the first split decides that."""
    recipe, constants = read_preprocessing(options), options.constants or {}
    selection = select_arrays(network, options.inputs or {}, constants)
    tokens = plan_tokens(network, options, note)
    if tokens is not None:
        selection = select_tokens(selection, tokens)
    try:
        sources = open_sources(data, options, selection, recipe, note, tokens)
    except DataError as error:
        advice = None if tokens else advise_tokenizer(network, data, options, selection)
        if advice is None:
            raise
        raise DataError(advice) from error
    first = next(iter(sources.values()))
    fed = [target.name for target in list_fed(network, first, selection)]
    network = network.put_samples_first(fed)
    for name, axis in network.moved.items():
        note(
            f"input {name!r}: the model expects samples along axis {axis}, so they are moved there"
        )
    feed = Feed.plan(network, first, selection, recipe, constants)
    inlined = network.take_branches(feed.known, feed.shapes)
    if inlined is not network:
        # What a model does to its input first may have been in a branch.
        feed = Feed.plan(inlined, first, selection, recipe, constants)
    if tokens is not None:
        feed = record_tokenizer(feed, tokens)
    masked = mask_sources(sources, feed, options.mask)
    if masked.note is not None:
        note(masked.note)
    return DumpInputs(inlined, masked.sources, replace(feed, mask=masked.mask), tokens)
