"""Class numbers of the values in a column or array of labels, in every data format."""

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

MAX_CLASSES = 100_000
# The value of the option `labels` with which labels are ignored.
NO_LABELS = "none"
LABELS_ADVICE = "name the column of labels with `labels=NAME`, or ignore labels with `labels=none`."

_NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})(e[+-]?\d{1,3})?", re.ASCII | re.I)
_NOT_FINITE = frozenset({"inf", "+inf", "-inf", "infinity"})
# How tables write a missing value.
_MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "null", "none", "?", "-"})


@dataclass(frozen=True, slots=True)
class LabelEncoding:
    """The class number of each value in a column of labels."""

    numbers: dict[str, int]  # by the value as it is written; other values are no labels
    # Names of the classes 0, 1, …; None if the values are class numbers
    classes: tuple[str, ...] | None = None


def check_class_count(where: str, values: set[str]) -> None:
    """Refuse a column with more different values than there are classes in any data."""
    if len(values) > MAX_CLASSES:
        raise DataError(
            f"{where} has more than {MAX_CLASSES:,} different values, too many for classes: "
            f"{LABELS_ADVICE}"
        )


def encode_labels(
    values: Iterable[str], where: str, advice: str = LABELS_ADVICE, *, mixed: bool = False
) -> LabelEncoding:
    """Decide which class each value of a column of labels stands for.

    If all values are whole numbers, they are class numbers, however each is written (``3``,
    ``3.0``, `` +3``, ``03``, ``3e0``). Otherwise they are names of classes, which are numbered from
    0 in the order of their code points. Space around a value is ignored.

    Parameters
    ----------
    values : iterable of str
        The different values of the column, in all files of the split.
    where : str
        File and column, for messages.
    advice : str
        What to do if the values are no classes.
    mixed : bool
        Whether to accept a few names among many numbers, as in names of folders.

    Raises
    ------
    DataError
        If the values are real numbers, which are targets of a regression; if most are whole numbers
        and some are names; or if names are mixed with two spellings of one number.
    """
    texts = {value: value.strip() for value in values}
    present = {text for text in texts.values() if text.lower() not in _MISSING}
    numbers = {text: parse_whole_number(text) for text in present}
    whole = {text: number for text, number in numbers.items() if number is not None}
    real = [text for text in present if text not in whole and _is_real(text)]
    names = present.difference(whole, real)
    if real and (not names or 2 * len(real) > len(present)):
        raise DataError(
            f"{where} holds real numbers ({_examples(real)}), which are targets of a regression "
            f"and not classes: {advice}"
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
            f"{where} holds whole numbers, but also {_examples(names)}, so all would be names of "
            f"classes, and {moved[0]} would be class number {place[moved[0]]}: correct these "
            f"labels, or {advice}"
        )
    encoded = {value: place[text] for value, text in texts.items() if text}
    return LabelEncoding(encoded, tuple(classes))


def parse_whole_number(text: str) -> int | None:
    """Parse a whole number of 64 bits, however it is written; None if it is none.

    Examples
    --------
    >>> [parse_whole_number(text) for text in ("3.0", " +3", "03", "3e0", "3.5", "three")]
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
    """Refuse one number in two spellings among names, which may be one class or two."""
    spellings: dict[int, list[str]] = defaultdict(list)
    for text, number in whole.items():
        spellings[number].append(text)
    for texts in spellings.values():
        if len(texts) > 1:
            raise DataError(
                f"{where} holds names of classes, and among them {_examples(texts)}, which are the "
                "same number but different names: write each class in one way."
            )


def _examples(texts: Iterable[str]) -> str:
    shown = [printable(repr(text))[:40] for text in sorted(texts)]
    return ", ".join(shown if len(shown) < 3 else [*shown[:2], "…"])
