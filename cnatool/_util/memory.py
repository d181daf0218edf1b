"""How much memory this process holds, and how much more it may have."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")
_CGROUPS = Path("/sys/fs/cgroup")
# Names of a control group's limit and use, in versions 2 and 1.
_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def resident_memory() -> int:
    """Give the bytes of memory that this process holds; 0 where the system does not say."""
    return _kilobytes(_PROCESS / "status", "VmRSS") or 0


def peak_memory() -> int:
    """Give the most bytes of memory that this process ever held; 0 where that is not said."""
    return _kilobytes(_PROCESS / "status", "VmHWM") or 0


def available_memory() -> int | None:
    """Give the bytes that this process can still have; None where the system does not say.

    That is what the machine has left, or the control group, whichever is less.
    """
    known = [
        _kilobytes(Path("/proc/meminfo"), "MemAvailable"),
        *map(_memory_left, _control_groups()),
    ]
    return min((left for left in known if left is not None), default=None)


def _kilobytes(file: Path, field: str) -> int | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return next((int(number) * 1024 for number in found), None)


def _control_groups() -> list[Path]:
    """List the control groups that this process is in, each with those above it."""
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
