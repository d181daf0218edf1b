"""Model inputs that follow from the length of the samples: masks, positions, an empty past.

A language model takes more than tokens. What it takes beside them is the same rule for every run,
and is filled in where a name, a type and a shape leave no doubt (`derived_rules` decides).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.records.run import Rule

    Size = int | Literal["samples", "length"]

# What each rule fills in, for notes.
TEXTS: dict[Rule, str] = {
    "mask": "1 at each token",
    "causal mask": "each token attends to itself and to those before it",
    "positions": "0, 1, 2, …",
    "zeros": "0",
    "empty": "empty",
    "false": "false",
    "all positions": "0, for all positions",
    "last position": "the position of the last token",
    "total length": "the length of the run",
    "lengths": "the length of each sample",
}
# Rules whose arrays do not depend on the length of the samples.
_FIXED: tuple[Rule, ...] = ("empty", "false", "all positions")
# Rules that a mask in the data decides about, where there is one.
_MASKED: tuple[Rule, ...] = ("positions", "last position", "lengths")


@dataclass(frozen=True, slots=True)
class DerivedInput:
    """A model input that is filled in by rule for each run.

    Attributes
    ----------
    name : str
        The model's input.
    rule : Rule
        What fills it.
    dtype : numpy.dtype
    dims : tuple of int, "samples" or "length"
        Its shape in a run; "length" is that of the padded samples.
    source : str
        The model input whose samples decide about the length.
    axis : int
        The axis of that input, samples first, along which its length lies.
    mask : str
        A mask that the data give; empty if there is none.
    """

    name: str
    rule: Rule
    dtype: np.dtype[Any]
    dims: tuple[Size, ...]
    source: str
    axis: int = 1
    mask: str = ""

    def array(
        self,
        lengths: NDArray[np.int64],
        padded_length: int,
        mask: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return the array of a run.

        Parameters
        ----------
        lengths : ndarray of int, (n,)
            Length of each sample without its padding, which lies at the end.
        padded_length : int
            Length of all samples in the run.
        mask : ndarray, (n, padded_length), optional
            A mask that the data give, by which positions and lengths are counted.
        """
        sizes = {"samples": len(lengths), "length": padded_length}
        shape = tuple(size if isinstance(size, int) else sizes[size] for size in self.dims)
        if self.rule in ("zeros", *_FIXED):
            return np.zeros(shape, self.dtype)
        places = np.arange(padded_length)
        real = places < np.asarray(lengths)[:, None]
        given = mask if mask is not None and mask.shape == real.shape else None
        if given is not None and self.rule in _MASKED:
            lengths = np.count_nonzero(given, axis=1)
        values: NDArray[Any]
        if self.rule == "mask":
            values = real
        elif self.rule == "causal mask":
            return self._causal(places, real, shape)
        elif self.rule == "positions":
            values = places
            if given is not None and "samples" in self.dims:
                values = np.maximum(np.cumsum(given != 0, axis=1) - 1, 0)
        elif self.rule == "total length":
            values = np.array(padded_length)
        else:
            values = np.asarray(lengths) - (self.rule == "last position")
            values = values.reshape(-1, *(1,) * (len(shape) - 1))
        return np.array(np.broadcast_to(values, shape), self.dtype, order="C")

    def _causal(
        self, places: NDArray[np.int64], real: NDArray[np.bool_], shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """Return true or 0 where a token attends to another, false or very negative elsewhere."""
        allowed: NDArray[np.bool_] = (places <= places[:, None])[None, None]
        if self.dims[0] == "samples":  # otherwise, padding at the end is behind every token
            allowed = allowed & real[:, None, None, :]
        allowed = np.broadcast_to(allowed, shape)
        if self.dtype.kind == "b":
            return np.ascontiguousarray(allowed)
        return np.where(allowed, 0, np.finfo(self.dtype).min).astype(self.dtype)

    def fill(
        self, fed: Mapping[str, NDArray[Any]], lengths: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Return the array of a run with these inputs; without ``lengths``, nothing is padding."""
        samples = fed[self.source]
        padded = samples.shape[self.axis]
        if lengths is None:
            lengths = np.full(len(samples), padded)
        return self.array(lengths, padded, fed.get(self.mask))

    @property
    def constant(self) -> NDArray[Any] | None:
        """The array of a run of one sample; None where it follows from the length of samples."""
        if self.rule not in _FIXED or "length" in self.dims:
            return None
        return self.array(np.ones(1, np.int64), 1)

    @property
    def sample_axes(self) -> tuple[int, ...]:
        """The axes that are as long as there are samples in a run."""
        return tuple(axis for axis, size in enumerate(self.dims) if size == "samples")


def describe_rules(rules: Mapping[str, Rule]) -> str | None:
    """Describe in a line which inputs are filled in, by rule of each; None if none is."""
    groups: dict[Rule, list[str]] = {}
    for name, rule in rules.items():
        groups.setdefault(rule, []).append(name)
    texts = [
        f"{_list_inputs(names)} ({TEXTS[rule]})"
        for rule, names in sorted(groups.items(), key=lambda group: len(group[1]) > 1)
    ]
    if not texts:
        return None
    return f"inputs that are not in the data, filled in by rule: {', '.join(texts)}"


def _list_inputs(names: Sequence[str]) -> str:
    """List a few names, or count many."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{len(names)} inputs, first {names[0]!r}"
