"""What a measure returns: a number, or the reason why there is none."""

from __future__ import annotations

import msgspec

__all__ = ["Correlation", "Estimate"]


class Estimate(msgspec.Struct, frozen=True):
    """One number, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        Always finite; None where the measure is undefined.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    reason: str | None = None

    @classmethod
    def undefined(cls, reason: str) -> Estimate:
        """Return the estimate that has no value, for this reason."""
        return cls(None, reason)


class Correlation(msgspec.Struct, frozen=True):
    """A correlation coefficient with its interval, or the reason why it is undefined.

    Attributes
    ----------
    value : float or None
        In [−1, 1]; None where the correlation is undefined.
    interval : (float, float) or None
        95 % confidence interval; None where there are too few samples for one.
    reason : str or None
        Why there is no value; None where there is one.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    reason: str | None = None

    @classmethod
    def undefined(cls, reason: str) -> Correlation:
        """Return the correlation that has no value, for this reason."""
        return cls(None, None, reason)
