"""What cnatool answers: a value, or a refusal that a person can read."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cnatool.errors import CnatoolError

# What a small terminal shows at once.
LONGEST_MESSAGE = 1_800

Value = TypeVar("Value")


@dataclass(frozen=True)
class Refused:
    """A refusal, by its message."""

    message: str


def answer(ask: Callable[[], Value], longest: int = LONGEST_MESSAGE) -> Value | Refused:
    """Ask; any exception but cnatool's own goes through."""
    try:
        return ask()
    except CnatoolError as error:
        check_message(str(error), longest)
        return Refused(str(error))


def check_equal(found: object, truths: list[object], what: str) -> None:
    """Raise AssertionError, with what differs, unless something found is one of several truths."""
    if found in truths:
        return
    lines = [
        text.splitlines() if isinstance(text, str) else [repr(text)[:99]]
        for text in (truths[0], found)
    ]
    differences = list(difflib.unified_diff(*lines, lineterm="", n=0))[2:22]
    raise AssertionError("\n".join([f"{what} gives another result", *differences]))


def check_message(text: str, longest: int = LONGEST_MESSAGE) -> None:
    """Raise AssertionError unless a message is short and can be printed."""
    assert text.strip(), "an error without a message"
    assert len(text) <= longest, f"a message of {len(text)} characters: {text[:300]!r}"
    assert text.replace("\n", "").isprintable(), f"a message that is not printable: {text!r}"
