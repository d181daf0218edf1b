"""What is wrong with the value of an option, as cnatool says it."""

from __future__ import annotations

import re

# What checks the values says, and what stands for it. An unknown choice has only a prefix.
_TEXTS = (
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"must be \1 or more"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"must be \1 or less"),
    (re.compile(r"Input should be a valid integer\b.*"), "must be a whole number"),
    (re.compile(r"Input should be a valid number\b.*"), "must be a number"),
    (re.compile(r"Value error, (.*)", re.DOTALL), r"\1"),
)


def value_error_text(message: str) -> str:
    """Return the message about a value in cnatool's words; one that is not known stays."""
    for pattern, text in _TEXTS:
        if matched := pattern.fullmatch(message):
            return matched.expand(text)
    return message
