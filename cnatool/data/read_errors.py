"""The wording of errors about files that cannot be read."""

from __future__ import annotations

from cnatool._util.text import one_line, printable
from cnatool.data.source import COPY_ADVICE
from cnatool.errors import CnatoolError, DataError


def describe_error(error: BaseException) -> str:
    """Return the reason in one printable line: of the system, or of the library that failed."""
    if isinstance(error, OSError) and error.strerror:
        error = Exception(error.strerror)
    # A panic of polars is no Exception.
    return printable(one_line(error if isinstance(error, Exception) else Exception(error)))


def read_error(
    where: object,
    error: BaseException,
    advice: str = COPY_ADVICE,
    *,
    problem: str = "cannot be read",
) -> CnatoolError:
    """Return the error that a file, or an array in it, cannot be read.

    Where a bucket refused, or an object changed, that is the error, whatever a reader made of it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CnatoolError):
            return cause
        cause = cause.__context__
    return DataError(f"{where} {problem} ({describe_error(error)}). {advice}".rstrip())
