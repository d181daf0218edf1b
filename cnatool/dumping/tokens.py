"""Texts for a language model: which input takes their tokens, and how many tokens it takes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np

from cnatool._util.text import count_text, printable
from cnatool._util.threads import prefetch
from cnatool._util.urls import parse_path
from cnatool.backend.derived_rules import find_derived_inputs
from cnatool.backend.token_tables import find_position_table, find_token_table
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.data.tokenize import TokenCounts, TokenInput, TokenLimit
from cnatool.data.tokenizer import load_tokenizer
from cnatool.errors import CnatoolError, DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from cnatool.backend.inputs import ModelInput
    from cnatool.backend.network import Network
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Block, Source
    from cnatool.dumping.feed import Feed
    from cnatool.dumping.options import DumpOptions

# Names of inputs that take token ids, whatever other integers a model takes.
_NAMES = ("input_ids", "token_ids", "tokens", "ids")
# Words in the names of integer inputs that take something else about each token.
_OTHERS = ("mask", "type", "segment", "position", "length", "past", "cache")
# Inputs that a message names.
_LISTED = 3
# Texts that are measured at a time.
_ROWS = 256


def plan_tokens(
    network: Network, options: DumpOptions, note: Callable[[str], None]
) -> TokenInput | None:
    """Load the tokenizer, and choose the input that takes token ids; None without one.

    Raises
    ------
    UsageError
        If the model takes no ids, or several inputs could take them, or `max_length` exceeds what
        the model takes.
    DataError
        If the tokenizer has more ids than the model has rows for them.
    """
    if options.tokenizer is None:
        if options.max_length is not None:
            raise UsageError(
                f"`max_length={options.max_length}` truncates texts to tokens: pass the model's "
                "`tokenizer` too."
            )
        return None
    target = _choose_input(network, options)
    path = parse_path(str(options.tokenizer))
    tokenizer = load_tokenizer(path, options.max_length)
    table = find_token_table(network.graph, target.name)
    size = tokenizer.record.vocabulary
    if table is not None and size > table.rows:
        raise DataError(
            f"{path} has {size:,} token ids, and {network.graph.path} has {table.rows:,} rows "
            f"for them ({table.name!r}): it belongs to a different model. Pass the "
            "tokenizer of this model."
        )
    most_id = int(np.iinfo(target.dtype).max)
    if size - 1 > most_id:
        raise DataError(
            f"{path} has {size:,} token ids, and input {target.name!r} of "
            f"{network.graph.path}, which is {target.dtype}, takes none above {most_id:,}: it "
            "belongs to a different model. Pass the tokenizer of this model, or export the model "
            "with an input of int64."
        )
    added = tokenizer.before + tokenizer.after
    specials = (
        f"{count_text(added, 'special token')} beside each text" if added else "no special ones"
    )
    note(
        f"input {target.name!r} receives the tokens of texts, as {tokenizer.record.name} computes "
        f"them: {size:,} ids; {specials}"
    )
    if table is not None and size < table.rows:
        note(
            f"{tokenizer.record.name} has {size:,} ids, but the model has {table.rows:,} rows for "
            "them: the rest may be reserved, or the tokenizer may belong to a different model"
        )
    limit = _find_limit(network, target, tokenizer.model_length)
    limit.enforced = True
    most = tokenizer.max_length
    if most is not None and limit.length is not None and most > limit.length:
        raise UsageError(
            f"`max_length={most}`: the model takes {limit.length:,} tokens at most ({limit.why})."
        )
    return TokenInput(target.name, target.dtype, tokenizer, limit)


def select_tokens(selection: ArraySelection, tokens: TokenInput) -> ArraySelection:
    """Select texts for the input of tokens; refuse a model with inputs that nothing fills in."""
    missing = [
        name for name in selection.inputs if name != tokens.name and name not in selection.optional
    ]
    if missing:
        # A hint that several inputs share is given once.
        hints = dict.fromkeys(selection.hints[n] for n in missing if n in selection.hints)
        advice = "give all inputs as arrays, without `tokenizer`"
        if all(name in selection.constant_advice for name in missing):
            same = selection.constants_text(missing)
            advice = f"set what is the same for every sample with {same}, or {advice}"
        more = len(missing) - _LISTED
        listed = ", ".join(missing[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        raise DataError(
            f"texts give the tokens of {tokens.name!r}, and the model also takes {listed}: "
            f"{advice}.{''.join(f' {hint}' for hint in hints)}"
        )
    return replace(
        selection,
        inputs=(tokens.name,),
        tokens=tokens.name,
        optional=selection.optional - {tokens.name},
    )


def measure_texts(
    sources: Mapping[str, Source],
    rows: Mapping[str, int],
    tokens: TokenInput,
    note: Callable[[str], None],
) -> None:
    """Tokenise all texts once, so that one that is too long is found before any is run.

    From now on, reading such a text raises a DataError.
    """
    limit = tokens.limit
    limit.enforced = False
    for split, source in sources.items():
        counts = TokenCounts()
        blocks = cast("Generator[Block]", source.blocks(_ROWS, rows[split]))
        with closing(blocks), closing(prefetch(blocks)) as read:
            for block in read:
                counts.add(block, limit.length)
        if counts.above:
            raise DataError(
                f"{source.name}: {counts.above:,} of {count_text(counts.texts, 'text')} "
                f"{'has' if counts.above == 1 else 'have'} more tokens than the "
                f"{limit.length:,} that the model takes ({limit.why}); the longest, "
                f"text {printable(counts.longest_id)}, has {counts.longest:,}. "
                f"`max_length={limit.length}` truncates longer texts."
            )
        note(counts.describe(split, tokens.tokenizer.max_length))
    limit.enforced = True


def _choose_input(network: Network, options: DumpOptions) -> ModelInput:
    """Choose the input that takes ids: by the user, by its name, or the only one of integers."""
    constants, arrays = options.constants or {}, options.inputs or {}
    derived = {each.name for each in find_derived_inputs(network.inputs, arrays, constants)}
    integers = [
        target
        for target in network.inputs
        if target.dtype.kind in "iu"
        and target.name not in constants
        and target.name not in derived
        and (target.dims is None or len(target.dims) == 2)
    ]
    chosen = [target for target in integers if target.name in arrays]
    named = [target for target in integers if target.name.lower() in _NAMES]
    others = [t for t in integers if not any(word in t.name.lower() for word in _OTHERS)]
    for targets in (chosen, named, others):
        if len(targets) == 1:
            return targets[0]
        if targets:
            raise UsageError(
                f"`tokenizer`: {network.graph.path} has several inputs that could take token "
                f"ids ({', '.join(target.name for target in targets)}): name one, and the "
                "column of texts, with `inputs={'INPUT': 'COLUMN'}`, and set the others with "
                "`constants`."
            )
    taken = ", ".join(map(str, network.inputs))
    texts = any(target.dtype == object for target in network.inputs)
    way = (
        "It takes texts as they are: leave `tokenizer` out."
        if texts
        else "Leave `tokenizer` out, and give the data that it takes."
    )
    raise UsageError(
        f"`tokenizer`: {network.graph.path} has no input of integers (samples, tokens), which "
        f"would take token ids. It takes {taken}. {way}"
    )


def _find_limit(network: Network, target: ModelInput, said: int | None) -> TokenLimit:
    """Find how many tokens a model takes, and what says so."""
    limits: list[tuple[int, str]] = []
    declared = target.shape[-1] if target.shape else None
    if declared is not None:
        limits.append((declared, f"the length of its input {target.name!r}"))
    else:
        table = find_position_table(network.graph, network.inputs, target.name)
        if table is not None:
            limits.append((table.rows, f"the positions in its table {table.name!r}"))
    if said is not None:
        limits.append((said, "model_max_length in tokenizer_config.json"))
    return TokenLimit(*min(limits)) if limits else TokenLimit()


def record_tokenizer(feed: Feed, tokens: TokenInput) -> Feed:
    """Record the tokenizer beside the preprocessing of the input that takes ids."""
    steps = tuple(
        msgspec.structs.replace(step, tokenizer=tokens.tokenizer.record)
        if step.input == tokens.name
        else step
        for step in feed.preprocessing
    )
    return replace(feed, preprocessing=steps)


def advise_tokenizer(
    network: Network, data: str | Path | None, options: DumpOptions, selection: ArraySelection
) -> str | None:
    """Advise a tokenizer if a model takes token ids and the data are texts; else None."""
    try:
        target = _choose_input(network, options)
        texts = replace(selection, inputs=(target.name,), tokens=target.name)
        reading = ReaderOptions(labels="none", split_column=options.split_column)
        open_splits(data, options.splits or {}, texts, reading, lambda _: None)
    except CnatoolError:
        return None
    return (
        f"{network.graph.path} takes token ids (input {target}), and the data are texts: "
        "give the model's tokenizer with `tokenizer=PATH`, its tokenizer.json or the folder that "
        "holds it."
    )
