"""Split names in the names of files and folders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# What splits are called, in the names of files and folders and in columns.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
_WORD = re.compile(r"[A-Za-z0-9]+")
_NUMBERED = re.compile(
    rf"(?P<split>{'|'.join(SPLIT_NAMES)})\d+|(?P<set>{'|'.join(SPLIT_NAMES)})(?:set|data)"
)
# At the end of a file's name: a digest that a hub puts there.
_DIGEST = re.compile(r"(?=.*\d)[0-9a-f]{8,}")
# A hub's numbered files name their split, whatever it is.
_SHARD = re.compile(r"(?P<split>[A-Za-z]\w*)-\d{5}-of-\d{5}(-[0-9a-f]{8,})?")
# The name of a numbered file, which tells how many there are.
_PIECE = re.compile(r"(?P<before>.*?)(?P<number>\d{5})-of-(?P<count>\d{5})(?P<after>.*)")
# Placeholder for the number; no file name contains it.
_NUMBER = "\0"
# Higher numbers are not looked for.
_MOST_PIECES = 10_000


@dataclass(frozen=True, slots=True)
class SplitName:
    """What a name says.

    Attributes
    ----------
    splits : frozenset of str
        Splits that it names: none, one, or several that contradict each other.
    rest : str
        Its other words in lower case, without numbers and digests.
    """

    splits: frozenset[str]
    rest: str

    @property
    def split(self) -> str | None:
        """The one split that it names."""
        return next(iter(self.splits)) if len(self.splits) == 1 else None


def parse_split_name(stem: str) -> SplitName:
    """Read a file's name without its ending, or a folder's name.

    Every word of letters and digits that is a split's name counts, so that ``cifar10-train``
    and ``train-00000-of-00002-0f1e2d3c`` both name train, and ``train-test`` contradicts itself.

    Examples
    --------
    >>> read_name("digits_Training_01").split, read_name("digits_Training_01").rest
    ('train', 'digits')
    """
    if (shard := _SHARD.fullmatch(stem)) and not _splits_in(shard["split"]):
        return SplitName(frozenset({shard["split"]}), "")
    rest = [
        word
        for word in map(str.lower, _WORD.findall(stem))
        if not (_split(word) or word.isdigit() or word == "of" or _DIGEST.fullmatch(word))
    ]
    return SplitName(_splits_in(stem), "-".join(rest))


def list_missing_shards(names: Sequence[str]) -> list[str]:
    """List the numbered files that are missing beside files of these names.

    A digest that follows the number is left out, as it is unknown for a missing file.

    Examples
    --------
    >>> missing_pieces(["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"])
    ['train-00001-of-00003.parquet']
    """
    found: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        if piece := _PIECE.fullmatch(name):
            ending = re.sub(r"^-[0-9a-f]{8,}", "", piece["after"])
            key = (f"{piece['before']}{_NUMBER}-of-{piece['count']}{ending}", piece["count"])
            found.setdefault(key, {})[int(piece["number"])] = name
    return [
        pattern.replace(_NUMBER, f"{number:05d}")
        for (pattern, count), numbers in found.items()
        for number in range(min(int(count), _MOST_PIECES))
        if number not in numbers
    ]


def _splits_in(text: str) -> frozenset[str]:
    found = (_split(word) for word in map(str.lower, _WORD.findall(text)))
    return frozenset(split for split in found if split)


def _split(word: str) -> str | None:
    if word in SPLIT_NAMES:
        return SPLIT_NAMES[word]
    match = _NUMBERED.fullmatch(word)
    return SPLIT_NAMES[match["split"] or match["set"]] if match else None
