"""Names of splits in the names of files and folders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The split by its name, in names of files and folders and in columns.
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
# A digest at the end of a file's name, as data hubs add it.
_DIGEST = re.compile(r"(?=.*\d)[0-9a-f]{8,}")
# In the numbered files of a data hub, the first word is the split, whatever it is.
_HUB_SHARD = re.compile(r"(?P<split>[A-Za-z]\w*)-\d{5}-of-\d{5}(-[0-9a-f]{8,})?")
_SHARD = re.compile(r"(?P<before>.*?)(?P<number>\d{5})-of-(?P<count>\d{5})(?P<after>.*)")
# Stands for the number in a pattern; no file name contains it.
_NUMBER = "\0"
# Higher numbers are not searched for.
_MAX_SHARDS = 10_000


@dataclass(frozen=True, slots=True)
class SplitName:
    """The splits that a name contains."""

    splits: frozenset[str]  # none, one, or several that contradict each other
    rest: str  # the other words of the name, in lower case, without numbers and digests

    @property
    def split(self) -> str | None:
        """The split, if there is exactly one."""
        return next(iter(self.splits)) if len(self.splits) == 1 else None


def parse_split_name(stem: str) -> SplitName:
    """Find the splits in the name of a folder, or of a file without its ending.

    Every word of letters and digits that is the name of a split counts: ``cifar10-train`` and
    ``train-00000-of-00002-0f1e2d3c`` both name train, and ``train-test`` contradicts itself.

    Examples
    --------
    >>> parse_split_name("digits_Training_01").split, parse_split_name("digits_Training_01").rest
    ('train', 'digits')
    """
    words = [word.lower() for word in _WORD.findall(stem)]
    splits = frozenset(split for split in map(_parse_word, words) if split)
    if (shard := _HUB_SHARD.fullmatch(stem)) and not any(
        map(_parse_word, _WORD.findall(shard["split"].lower()))
    ):
        return SplitName(frozenset({shard["split"]}), "")
    rest = [
        word
        for word in words
        if not (_parse_word(word) or word.isdigit() or word == "of" or _DIGEST.fullmatch(word))
    ]
    return SplitName(splits, "-".join(rest))


def list_missing_shards(names: Sequence[str]) -> list[str]:
    """List the files that are missing from sets of numbered files.

    The digest that may follow the number is left out, as it is unknown for a missing file.

    Examples
    --------
    >>> list_missing_shards(["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"])
    ['train-00001-of-00003.parquet']
    """
    present: dict[tuple[str, str], set[int]] = {}
    for name in names:
        if shard := _SHARD.fullmatch(name):
            ending = re.sub(r"^-[0-9a-f]{8,}", "", shard["after"])
            pattern = f"{shard['before']}{_NUMBER}-of-{shard['count']}{ending}"
            present.setdefault((pattern, shard["count"]), set()).add(int(shard["number"]))
    return [
        pattern.replace(_NUMBER, f"{number:05d}")
        for (pattern, count), numbers in present.items()
        for number in range(min(int(count), _MAX_SHARDS))
        if number not in numbers
    ]


def _parse_word(word: str) -> str | None:
    if word in SPLIT_NAMES:
        return SPLIT_NAMES[word]
    match = _NUMBERED.fullmatch(word)
    return SPLIT_NAMES[match["split"] or match["set"]] if match else None
