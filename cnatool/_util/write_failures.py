"""The error of a file that cannot be written."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from cnatool._util.text import one_line
from cnatool.errors import StoreWriteError

if TYPE_CHECKING:
    from pathlib import Path

# Where there is no room left. Windows has no quota.
FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
# How polars ends the system's own error, between texts of each library that it went through. On
# Windows these numbers are not those of `errno`.
_NUMBER = re.compile(r"\(os error (\d+)\)")


def make_write_error(path: Path, error: Exception, thing: str = "file") -> StoreWriteError:
    """Make the error of a file, or another ``thing``, that cannot be written, with advice.

    ``error`` is that of the system, or of a library that has it in its text.
    """
    number, why = None, one_line(error)
    if isinstance(error, OSError) and error.strerror:
        number, why = error.errno, error.strerror
    elif os.name == "posix" and (matched := _NUMBER.search(why)):
        number = int(matched[1])
        why = os.strerror(number)
    advice = f"Name another {thing}."
    if number in FULL:
        advice = f"{make_room(number)}, or name another {thing}."
    return StoreWriteError(f"{path} cannot be written: {why}. {advice}")


def make_room(number: int | None) -> str:
    """Return what to do about an error for lack of room, as the beginning of a sentence."""
    return "Allow larger files (`ulimit -f`)" if number == errno.EFBIG else "Free some space"
