"""The meaning of the values in a column of labels, for every data format."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from cnatool._util.text import printable
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

# More different values than this are no classes.
MAX_CLASSES = 100_000
# What ``--labels`` takes for data whose labels are not wanted.
NO_LABELS = "none"
LABELS_ADVICE = (
    "say which column holds the labels with --labels NAME, or leave them out with --labels none."
)

_NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})(e[+-]?\d{1,3})?", re.ASCII | re.I)
_NOT_FINITE = frozenset({"inf", "+inf", "-inf", "infinity"})
# How tables write that a value is missing.
_MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none", "?", "-"})


@dataclass(frozen=True, slots=True)
class LabelEncoding:
    """The class number of each value of a column of labels.

    Attributes
    ----------
    numbers : dict of str to int
        By the value as it is written. A value that is missing here is no label.
    classes : tuple of str or None
        Names of the classes 0, 1, …; None where the values are class numbers themselves.
    """

    numbers: dict[str, int]
    classes: tuple[str, ...] | None = None


def encode_labels(
    values: Iterable[str], where: str, advice: str, *, mixed: bool = False
) -> LabelEncoding:
    """Decide what the values of a column of labels mean.

    Values that are all whole numbers are class numbers, however each is written (``3``, ``3.0``,
    `` +3``, ``03``, ``3e0``). Other values are names of classes, which count from 0 in the order
    of their code points. Space around a value is no part of it.

    Parameters
    ----------
    values : iterable of str
        The different values of the column, in all files of the split.
    where : str
        File and column, for messages.
    advice : str
        What to do about labels that are no classes.
    mixed : bool
        Whether a few names among many numbers are meant, as of folders.

    Raises
    ------
    DataError
        If the values are real numbers, which are targets of a regression and not classes; if most
        are whole numbers and some are names; or if names are mixed with two spellings of a number.
    """
    held = list(values)
    texts = {value: value.strip() for value in held}
    present = {text for text in texts.values() if text.lower() not in _MISSING}
    read = {text: parse_whole_number(text) for text in present}
    whole = {text: number for text, number in read.items() if number is not None}
    real = [text for text in present if text not in whole and _is_real(text)]
    names = present.difference(whole, real)
    if real and (not names or 2 * len(real) > len(present)):
        raise DataError(
            f"{where} holds real numbers ({_some(real)}), which are targets of a regression and "
            f"not classes: {advice}"
        )
    if not names and not real:
        return LabelEncoding({value: whole[text] for value, text in texts.items() if text in whole})
    if {name.lower() for name in names} <= {"true", "false"} and not whole and not real:
        booleans = {
            value: int(text.lower() == "true") for value, text in texts.items() if text in present
        }
        return LabelEncoding(booleans, ("false", "true"))
    _check_spelling(whole, where)
    classes = sorted({text for text in texts.values() if text})
    place = {name: i for i, name in enumerate(classes)}
    moved = sorted(text for text, number in whole.items() if place[text] != number)
    if moved and len(whole) > len(names) and not mixed:
        raise DataError(
            f"{where} holds whole numbers, and {_some(names)} among them, which would make names "
            f"of classes of them all, of which {moved[0]} is number {place[moved[0]]}: correct "
            f"these labels, or {advice}"
        )
    return LabelEncoding(
        {value: place[text] for value, text in texts.items() if text}, tuple(classes)
    )


def parse_whole_number(text: str) -> int | None:
    """Read a whole number of 64 bits, however it is written; None where it is none.

    Examples
    --------
    >>> [whole_number(text) for text in ("3.0", " +3", "03", "3e0", "3.5", "three")]
    [3, 3, 3, 3, None, None]
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = Decimal(text)
    if value != value.to_integral_value() or not -(1 << 63) <= value < 1 << 63:
        return None
    return int(value)


def _is_real(text: str) -> bool:
    return text.lower() in _NOT_FINITE or _NUMBER.fullmatch(text) is not None


def _check_spelling(whole: dict[str, int], where: str) -> None:
    """Refuse one number in two spellings among names: one class or two is in doubt."""
    spelled: dict[int, list[str]] = defaultdict(list)
    for text, number in whole.items():
        spelled[number].append(text)
    for texts in spelled.values():
        if len(texts) > 1:
            raise DataError(
                f"{where} holds names of classes, and among them {_some(texts)}, which are the "
                "same number and different names: write one class in one way."
            )


def _some(texts: Iterable[str]) -> str:
    found = sorted(texts)
    return ", ".join(printable(repr(text))[:40] for text in found[:2]) + (
        ", …" if len(found) > 2 else ""
    )
