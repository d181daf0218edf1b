"""Titles of what is computed of each sample, with units, as a convention defines it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.metrics.convention import Aggregate, AlphaForm, ConventionFields

_ALPHA: Mapping[AlphaForm, str] = {
    "entropy": "α, input entropy (bits)",
    "entropy-density": "α, input entropy (density form)",
    "compression": "α, compressed share of the input",
}
_Z: Mapping[Aggregate, str] = {
    "sum": "activation sum",
    "mean": "mean activation",
    "channel-mean": "activation sum over channels",
    "channel-mean-spatial": "activation sum over channels",
}
_DEPTH = {"index": "depth d (layer)", "path": "depth d (layers on the longest path)"}


def alpha_title(fields: ConventionFields) -> str:
    """Name α with its unit."""
    return _ALPHA[fields.alpha]


def z_title(fields: ConventionFields) -> str:
    """Name z_d."""
    return f"z, {_Z[fields.aggregate]}"


def beta_title(fields: ConventionFields) -> str:
    """Name β with its unit."""
    return f"β ({_Z[fields.aggregate]} per layer)"


def depth_title(fields: ConventionFields) -> str:
    """Name d."""
    return _DEPTH[fields.depth]
