"""One writer per store in a bucket: an object beside it, which its owner keeps alive.

A killed process cannot delete the object. So its owner replaces it every few seconds, and whoever
finds an object that stays the same takes it over: at once if the process that put it was one of
this machine and is gone, else after some time. No clocks are compared.

A process that was stopped for so long that another took over is no danger: it cannot commit any
more (`cnatool.store.zarr.object_tree`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cnatool.errors import CnatoolError
from cnatool.store.object_errors import (
    ConflictError,
    MissingObjectError,
    make_unconditional_error,
)
from cnatool.store.object_store import Objects
from cnatool.store.write_errors import make_in_use_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool._util.urls import ObjectURL
    from cnatool.store.object_store import Version

# Seconds between two signs of life, and seconds without any after which the owner counts as gone.
_BEAT = 5.0
_PATIENCE = 20.0


class _Owner(msgspec.Struct, frozen=True):
    """Content of the object."""

    machine: str  # and the processes that are visible to each other there; empty if unknown
    process: int
    started: str
    token: str
    beat: int = 0


# A version that no object has.
_NO_VERSION: Version = {"e_tag": '"0"', "version": "1"}

# The locks of this process.
_HELD: dict[ObjectURL, _Lock] = {}


@contextmanager
def lock_object(store: ObjectURL) -> Iterator[None]:
    """Hold the right to write a store in a bucket during the context."""
    lock = _Lock(store)
    lock.acquire()
    _HELD[store] = lock
    try:
        yield
    finally:
        del _HELD[store]
        lock.release()


def holds_lock(store: ObjectURL) -> bool:
    """Whether this process holds the lock of a store, and no other has taken it over."""
    lock = _HELD.get(store)
    return lock is not None and lock.holds()


class _Lock:
    """The lock of one store."""

    def __init__(self, store: ObjectURL) -> None:
        self._store = store
        self._objects = Objects(store.parent)
        self._name = f".{store.name}.lock"
        self._owner = _describe_process()
        self._over = threading.Event()
        self._beating = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="cnatool-lock", daemon=True)

    def acquire(self) -> None:
        """Create or take over the object; raise StoreInUseError if its owner is alive."""
        content = msgspec.json.encode(self._owner)
        try:
            self._version = self._objects.create(self._name, content)
        except ConflictError:
            self._version = self._take_over(content)
        self._check_conditions(content)
        self._thread.start()

    def release(self) -> None:
        """Delete the object, if it is still the one of this process."""
        self._over.set()
        self._thread.join()
        # An object that is left is taken over by the next writer.
        with suppress(CnatoolError):
            if self.holds():
                self._objects.delete(self._name)

    def holds(self) -> bool:
        """Whether the object is still the one of this process."""
        with self._beating, suppress(MissingObjectError):
            return self._objects.version(self._name) == self._version
        return False

    def _check_conditions(self, content: bytes) -> None:
        """Raise StoreAccessError if the server ignores the conditions of puts, of either kind."""
        ignored = False
        with suppress(ConflictError):
            self._objects.create(self._name, content)
            ignored = True
        with suppress(ConflictError):
            self._objects.replace(self._name, content, _NO_VERSION)
            ignored = True
        if ignored:
            # Some of these servers cannot delete either.
            with suppress(CnatoolError):
                self._objects.delete(self._name)
            raise make_unconditional_error(self._store, "ignores the conditions of puts")

    def _take_over(self, content: bytes) -> Version:
        try:
            found, version = self._objects.get(self._name)
            if found == content:
                return version  # the answer to its put was lost
            end = time.monotonic() + _PATIENCE
            while not _is_gone(found) and time.monotonic() < end:
                time.sleep(1)
                if self._objects.version(self._name) != version:
                    raise make_in_use_error(self._store)
            return self._objects.replace(self._name, content, version)
        except MissingObjectError:
            # Its owner finished meanwhile, and another may have come.
            with suppress(ConflictError):
                return self._objects.create(self._name, content)
        except ConflictError:
            pass
        raise make_in_use_error(self._store) from None

    def _beat(self) -> None:
        """Replace the object every few seconds, until another process has taken it over."""
        owner = self._owner
        while not self._over.wait(_BEAT):
            owner = msgspec.structs.replace(owner, beat=owner.beat + 1)
            try:
                with self._beating:
                    content = msgspec.json.encode(owner)
                    try:
                        self._version = self._objects.replace(self._name, content, self._version)
                    except ConflictError:
                        self._version = self._find_own()
            except (ConflictError, MissingObjectError):
                return
            except CnatoolError:
                continue  # the bucket may answer again

    def _find_own(self) -> Version:
        """Return the version of the object if this process has put it; raise ConflictError if not.

        The answer to a put may be lost; what follows then meets its result.
        """
        content, version = self._objects.get(self._name)
        owner = _read_owner(content)
        if owner is None or owner.token != self._owner.token:
            raise ConflictError
        return version


def _describe_process() -> _Owner:
    process = os.getpid()
    return _Owner(_identify_machine(), process, _read_start(process), secrets.token_hex(8))


def _identify_machine() -> str:
    """Identify this start of this machine, and the processes that see each other on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        return hashlib.sha256(f"{boot}{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()
    except OSError:
        return ""


def _read_start(process: int) -> str:
    """Read when a process was started, which tells two of the same number apart."""
    try:
        status = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    # Behind the name, which may contain anything.
    return status.rpartition(")")[2].split()[19]


def _read_owner(content: bytes) -> _Owner | None:
    """Read who put the object; None if it is no writer's."""
    try:
        return msgspec.json.decode(content, type=_Owner)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _is_gone(content: bytes) -> bool:
    """Whether the process that put the object is known to have ended."""
    owner = _read_owner(content)
    if owner is None:
        return False
    here = owner.machine and owner.machine == _identify_machine()
    return bool(here) and _read_start(owner.process) != owner.started
