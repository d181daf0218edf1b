"""Texts as the ids of their tokens, beside the texts themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from cnatool._util.text import count_text, printable
from cnatool.data.source import InputSpec, SampleError
from cnatool.data.text_batch import TYPICAL, typical_length
from cnatool.data.wrappers import SourceWrapper
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.data.source import Block, Source
    from cnatool.data.tokenizer import TextTokenizer

_EMPTY = "has no tokens, not even special ones, and a model cannot run on none: leave the text out."


@dataclass(slots=True)
class TokenLimit:
    """The number of tokens that a model takes.

    Attributes
    ----------
    length : int or None
        None if there is no limit.
    why : str
        What limits it.
    enforced : bool
        Whether longer texts are refused; not while texts are measured.
    """

    length: int | None = None
    why: str = ""
    enforced: bool = False

    def check(self, where: str, ids: str, length: int) -> None:
        """Refuse a text with more tokens."""
        if self.enforced and self.length is not None and length > self.length:
            raise DataError(
                f"{where}: text {printable(ids)} has {length:,} tokens, and the model takes "
                f"{self.length:,} ({self.why}). `max_length={self.length}` truncates longer texts."
            )


@dataclass(frozen=True, slots=True)
class TokenInput:
    """The input of a model that takes token ids.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype
    tokenizer : TextTokenizer
    limit : TokenLimit
    """

    name: str
    dtype: np.dtype[np.integer]
    tokenizer: TextTokenizer
    limit: TokenLimit


@dataclass(frozen=True, slots=True)
class TokenizedSource(SourceWrapper):
    """A source of texts, and the ids of their tokens as a second input."""

    target: TokenInput
    skip: bool
    length: int  # of the first texts, for the shape

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The bytes of texts, and the ids of their tokens."""
        tokenizer = self.target.tokenizer
        ids = InputSpec(
            self.target.name,
            self.target.dtype,
            (self.length,),
            ragged_axis=0,
            kind="tokens",
            tokenizer=tokenizer.record,
            special=tokenizer.special,
        )
        return (*self.source.inputs, ids)

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` texts from ``start`` on, ``limit`` in all."""
        for block in self.source.blocks(rows, limit, start):
            yield self._tokenize(block)

    def _tokenize(self, block: Block) -> Block:
        texts = cast("Ragged", block.inputs[0])
        encoded = list(self.target.tokenizer.encode([text.tobytes() for text in texts]))
        lengths = [len(ids) for ids, _ in encoded]
        faults = dict(block.faults)
        for row, length in enumerate(lengths):
            if row in block.faults:
                continue
            self.target.limit.check(self.name, block.ids[row], length)
            if not length:
                faults[row] = f"{self.name}, text {printable(block.ids[row])}, {_EMPTY}"
        if faults and not self.skip:
            raise SampleError(faults[min(faults)])
        values = [ids for ids, _ in encoded]
        ids = np.concatenate(values) if values else np.empty(0, np.int64)
        return replace(
            block,
            inputs=(*block.inputs, Ragged.from_lengths(ids.astype(self.target.dtype), lengths)),
            faults=faults,
            cut=np.array([cut for _, cut in encoded], np.int64),
        )


def tokenize_source(source: Source, target: TokenInput, *, skip: bool) -> TokenizedSource:
    """Tokenise the texts of a source, whose first ones say how long they are."""
    block = next(iter(source.blocks(min(TYPICAL, max(1, source.rows)), TYPICAL)), None)
    texts = () if block is None else cast("Ragged", block.inputs[0])
    faults = {} if block is None else block.faults
    first = [text.tobytes() for row, text in enumerate(texts) if row not in faults]
    length = typical_length([ids for ids, _ in target.tokenizer.encode(first)])
    return TokenizedSource(source, target, skip, length)


@dataclass(slots=True)
class TokenCounts:
    """Numbers of texts and tokens of a split.

    Attributes
    ----------
    texts, tokens : int
    shortest, longest : int
        Numbers of tokens of single texts.
    longest_id : str
        The longest text.
    truncated, cut : int
        Texts that are truncated, and tokens that they lose.
    above : int
        Texts with more tokens than the model takes.
    skipped : int
        Texts that cannot be read; they are not among the others.
    """

    texts: int = 0
    tokens: int = 0
    shortest: int = 0
    longest: int = 0
    longest_id: str = field(default="")
    truncated: int = 0
    cut: int = 0
    above: int = 0
    skipped: int = 0

    def add(self, block: Block, limit: int | None) -> None:
        """Count the texts of a block."""
        self.skipped += len(block.skipped)
        ids = next(part for part in block.inputs[1:] if isinstance(part, Ragged))
        lengths = ids.lengths
        if not len(lengths):
            return
        shortest, longest = int(lengths.min()), int(lengths.max())
        self.shortest = shortest if not self.texts else min(self.shortest, shortest)
        if longest > self.longest:
            self.longest, self.longest_id = longest, block.ids[int(lengths.argmax())]
        self.texts += len(lengths)
        self.tokens += int(lengths.sum())
        if limit is not None:
            self.above += int((lengths > limit).sum())
        if block.cut is not None:
            self.truncated += int((block.cut > 0).sum())
            self.cut += int(block.cut.sum())

    def describe(self, split: str, most: int | None) -> str:
        """Describe the counts in a line."""
        span = (
            f"{self.shortest:,}"
            if self.shortest == self.longest
            else (f"{self.shortest:,} to {self.longest:,}")
        )
        text = (
            f"split {split}: {count_text(self.texts, 'text')} of {span} tokens, "
            f"{self.tokens:,} in all"
        )
        if self.truncated:
            text += (
                f"; {self.truncated:,} truncated to {most:,} tokens, which "
                f"cost{'s' * (self.truncated == 1)} {count_text(self.cut, 'token')}"
            )
        if self.skipped:
            be = "is" if self.skipped == 1 else "are"
            text += f"; {self.skipped:,} more cannot be read and {be} skipped"
        return text
