"""Names of statistics, as a user gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from cnatool.errors import UsageError
from cnatool.records.choices import Statistic

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_statistics(given: str | Sequence[str]) -> tuple[Statistic, ...]:
    """Read names of statistics; ``sum`` is always among them."""
    names = [given] if isinstance(given, str) else list(given)
    known = get_args(Statistic)
    unknown = next((name for name in names if name not in (*known, "all")), None)
    if unknown is not None:
        raise UsageError(f"statistics: {unknown!r} is none of {', '.join(known)}.")
    return tuple(name for name in known if name == "sum" or name in names or "all" in names)
