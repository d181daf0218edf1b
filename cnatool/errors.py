"""Every error a user can cause.

::

    CnatoolError
    ├── UsageError         an option or argument that is not valid           exit code 2
    ├── DataError          the samples, their labels, or their shape         exit code 2
    ├── ModelError         the model file, or what it declares               exit code 2
    ├── NotAStoreError     a path that holds no store, or is taken           exit code 2
    ├── MetricError        a score that the store does not allow             exit code 2
    ├── StoreDamagedError  a store that is broken                            exit code 3
    │   └── StoreVersionError  made by another version of cnatool            exit code 2
    ├── StoreInUseError    a store that another process is writing           exit code 3
    ├── StoreWriteError    a file that cannot be written (disk full, …)      exit code 3
    └── BackendError       the runtime refused or failed                     exit code 4

A message is one short paragraph: what, where (file, tensor, row), what to do. `StoreWarning` is a
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
        """Return the message with hidden characters escaped, cut to what a terminal shows."""
        from cnatool._util.text import format_message

        return format_message(super().__str__())


class UsageError(CnatoolError, ValueError):
    """An option or an argument that is not valid."""


class DataError(CnatoolError, ValueError):
    """Samples or labels that cannot be read, or do not fit each other or the model."""


class ModelError(CnatoolError, ValueError):
    """A model file that cannot be read, or that declares what cannot be run."""


class NotAStoreError(CnatoolError, ValueError):
    """A path that holds no store, or one that is taken where a new store should go."""


class MetricError(CnatoolError, ValueError):
    """A score that cannot be computed from what the store holds."""


class StoreDamagedError(CnatoolError, OSError):
    """A store whose arrays or whose attribute are broken."""

    exit_code = 3


class StoreVersionError(StoreDamagedError):
    """A store that another version of cnatool made, in a form that this one does not know."""

    exit_code = 2


class StoreInUseError(CnatoolError, OSError):
    """A store that another process is writing, or has replaced during a read."""

    exit_code = 3


class StoreWriteError(CnatoolError, OSError):
    """A store, or a file of results, that the operating system does not let us write."""

    exit_code = 3


class BackendError(CnatoolError, RuntimeError):
    """The runtime refused the model or failed while running it."""

    exit_code = 4


class StoreWarning(UserWarning):
    """A store can be read, but its last commit may be missing, or an older store lies beside it."""
