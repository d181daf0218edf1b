"""Memory that this process uses, and how much more is available."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self")
_CGROUPS = Path("/sys/fs/cgroup")
# Files of a control group's limit and use, in versions 2 and 1.
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def resident_memory() -> int:
    """Read the resident memory of this process in bytes; 0 if the system does not report it."""
    return _read_kilobytes(_PROCESS / "status", "VmRSS") or 0


def peak_memory() -> int:
    """Read the peak resident memory of this process in bytes; 0 if it is not reported."""
    return _read_kilobytes(_PROCESS / "status", "VmHWM") or 0


def available_memory() -> int | None:
    """Compute the bytes still available to this process; None if the system does not report it.

    The least of what is free on the machine, in each control group, and of the address space that
    the process may take (``ulimit -v``).
    """
    known = [
        _read_kilobytes(Path("/proc/meminfo"), "MemAvailable"),
        _address_space_left(),
        *map(_memory_left, _control_groups()),
    ]
    return min((left for left in known if left is not None), default=None)


def return_free_memory() -> None:
    """Return to the system the freed memory that the C library keeps, where it can."""
    # None stands for this process; other systems have no such function, or refuse None.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _read_kilobytes(file: Path, field: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    numbers = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return next((int(number) * 1024 for number in numbers), None)


def _address_space_left() -> int | None:
    try:
        import resource
    except ImportError:  # on Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _read_kilobytes(_PROCESS / "status", "VmSize")
    if limit == resource.RLIM_INFINITY or taken is None:
        return None
    return max(0, limit - taken)


def _control_groups() -> list[Path]:
    """List the control groups of this process, each with its parents."""
    try:
        lines = (_PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = [_CGROUPS, _CGROUPS / "memory"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _CGROUPS / controllers
            inside = root / path.lstrip("/")
            groups += [inside, *(p for p in inside.parents if p.is_relative_to(root))]
    return groups


def _memory_left(group: Path) -> int | None:
    for limit, used in _LIMITS:
        try:
            most, taken = (group / limit).read_text(), (group / used).read_text()
        except OSError:
            continue
        # Version 2 writes "max" for no limit; version 1 a number beyond any machine.
        return max(0, int(most) - int(taken)) if most.strip().isdecimal() else None
    return None
