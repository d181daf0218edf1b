"""The table of the units of both sets, and the file that it is written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars

    from cnatool.comparing.drift.unit_drift import UnitDifferences

# Columns of the table that are those of `UnitDifferences`, and of its means over samples.
_VALUES = ("count", "count2", "nonfinite", "nonfinite2", "mean", "mean2", "std", "std2", "smd")


def units_schema() -> dict[str, polars.DataType]:
    """Return the names and types of the table's columns."""
    import polars as pl

    whole, number = pl.Int64(), pl.Float64()
    return {
        "tensor": pl.String(),
        "layer": whole,
        "unit": whole,
        **{name: whole if "count" in name or "nonfinite" in name else number for name in _VALUES},
        "ks": number,
        "ks_high": number,
        "samples": whole,
        "samples2": whole,
        "smd_samples": number,
        "tested": whole,
        "tested2": whole,
        "ks_samples": number,
        "p_value": number,
        "p_adjusted": number,
    }


def units_frame(
    tensors: Iterable[tuple[str, int | None, UnitDifferences, np.ndarray]],
) -> polars.DataFrame:
    """Return one row a unit, tensors and units in order.

    Parameters
    ----------
    tensors : iterable of (str, int or None, UnitDifferences, ndarray)
        Name, layer, differences and adjusted p-values of each tensor.
    """
    import polars as pl
    import polars.selectors as cs

    schema = units_schema()
    frames = [pl.DataFrame(schema=schema)]
    for name, layer, units, adjusted in tensors:
        samples = units.samples
        columns: Mapping[str, object] = {
            "tensor": [name] * len(adjusted),
            "layer": [layer] * len(adjusted),
            "unit": np.arange(len(adjusted)),
            **{column: getattr(units, column) for column in _VALUES},
            "ks": units.ks,
            "ks_high": units.ks_high,
            "samples": samples.samples,
            "samples2": samples.samples2,
            "smd_samples": samples.smd,
            "tested": samples.tested,
            "tested2": samples.tested2,
            "ks_samples": samples.ks,
            "p_value": samples.p,
            "p_adjusted": adjusted,
        }
        frames.append(pl.DataFrame(columns, schema=schema))
    # Undefined is null, here as everywhere, and never NaN.
    finite = pl.when(cs.float().is_finite()).then(cs.float())
    return pl.concat(frames).with_columns(finite)
