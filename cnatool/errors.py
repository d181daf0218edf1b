"""Every error a user can cause.

::

    CnatoolError
    ├── UsageError         an invalid parameter or option                    exit code 2
    ├── DataError          unusable samples or labels                        exit code 2
    ├── ModelError         an unusable model file                            exit code 2
    ├── NotAStoreError     a path without a store, or one already taken      exit code 2
    ├── MetricError        a measure that the store does not allow           exit code 2
    │   └── MissingSplitError  a split that the store does not have, a KeyError
    ├── StoreDamagedError  a damaged store                                   exit code 3
    │   └── StoreVersionError  a store of another version of cnatool         exit code 2
    ├── StoreInUseError    a store that another process is writing           exit code 3
    ├── StoreWriteError    a failed write (disk full, no permission)         exit code 3
    ├── StoreAccessError   a bucket that does not answer or refuses          exit code 3
    └── BackendError       a failure of the runtime                          exit code 4

A message is one short paragraph: what, where (file, tensor, row), what to do. It names parameters
as Python does, in backquotes; the command line shows its options instead. `StoreWarning` is a
warning about a store that can be read.
"""

from __future__ import annotations

# Without `typing`, for which the start of the command should not wait.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import ClassVar


class CnatoolError(Exception):
    """Base of every error that cnatool raises on purpose."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        """Return the message with hidden characters escaped, no longer than a terminal shows."""
        from cnatool._util.text import format_message

        # Not the method of KeyError, which puts the message in quotes.
        return format_message(Exception.__str__(self))


class UsageError(CnatoolError, ValueError):
    """An invalid parameter, or an invalid combination of parameters."""


class DataError(CnatoolError, ValueError):
    """Samples or labels that cannot be read, or that do not fit each other or the model."""


class ModelError(CnatoolError, ValueError):
    """A model file that cannot be read or run."""


class NotAStoreError(CnatoolError, ValueError):
    """A path that contains no store, or that is already taken where a new store should go."""


class MetricError(CnatoolError, ValueError):
    """A measure that cannot be computed from the store."""


class MissingSplitError(MetricError, KeyError):
    """A split that the store does not have."""


class StoreDamagedError(CnatoolError, OSError):
    """A store with damaged arrays or a damaged attribute."""

    exit_code = 3


class StoreVersionError(StoreDamagedError):
    """A store in the format of another version of cnatool."""

    exit_code = 2


class StoreInUseError(CnatoolError, OSError):
    """A store that another process is writing, or has replaced during a read."""

    exit_code = 3


class StoreWriteError(CnatoolError, OSError):
    """A store or a result that the operating system does not let cnatool write."""

    exit_code = 3


class StoreAccessError(CnatoolError, OSError):
    """A bucket that cannot be reached, or rejects the credentials."""

    exit_code = 3


class BackendError(CnatoolError, RuntimeError):
    """The runtime rejects the model, or fails while running it."""

    exit_code = 4


class StoreWarning(UserWarning):
    """A readable store in which something may be missing.

    Its last commit may be missing, an older store may lie next to it, or narrowing made values
    infinite.
    """
