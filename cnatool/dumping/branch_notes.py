"""What is said of Ifs that always take the same branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnatool.records.run import BranchName


def describe_branches(branches: Mapping[str, BranchName]) -> Iterator[str]:
    """Describe in a line the branches that replaced Ifs."""
    if branches:
        name, branch = next(iter(branches.items()))
        yield (
            f"If {name!r} takes its {branch} for every sample, and is replaced by it"
            if len(branches) == 1
            else f"{len(branches)} Ifs, first {name!r}, take the same branch for every sample, and "
            "are replaced by it"
        )
