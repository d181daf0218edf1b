"""Checks of numbers that a caller gives."""

from __future__ import annotations

from operator import index

from cnatool.errors import UsageError


def check_whole_number(name: str, value: object, least: int) -> int:
    """Return a parameter as an int.

    Raises UsageError unless it is an integer of Python or NumPy, not a truth value, and at least
    ``least``.
    """
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise UsageError(f"`{name}={value!r}` is not a whole number of at least {least}.")
    return number
