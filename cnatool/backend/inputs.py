"""What one run of a model is fed: samples, and beside them inputs that are the same for all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.tensor_sizes import check_bytes
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray


# What inputs, or their axes, are called that hold what was computed for earlier tokens.
_PAST = ("past", "cache", "history", "present")

_SMALLER = "Export the model for a smaller one."


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What one input of a model takes.

    Attributes
    ----------
    name : str
        Name of the input.
    dtype : numpy.dtype
        Element type.
    dims : tuple of (int, str or None), or None
        The declared shape: lengths, names of symbolic axes, None for axes without a name. None
        for a model that declares no shape.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str | None, ...] | None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of one sample, None for a free axis; empty where no shape is declared."""
        return tuple(size if isinstance(size, int) else None for size in (self.dims or ())[1:])

    @property
    def batch_symbol(self) -> str | None:
        """Name of the symbolic axis of the samples; None where it is bound or has no name."""
        return self.dims[0] if self.dims and isinstance(self.dims[0], str) else None

    @property
    def may_be_time_major(self) -> bool:
        """Whether the first axis is bound and a later one is not."""
        dims = self.dims or ()
        return bool(dims) and isinstance(dims[0], int) and not all(isinstance(d, int) for d in dims)

    @property
    def batch(self) -> int | None:
        """Number of samples that the model is bound to; None where it takes any."""
        return self.dims[0] if self.dims and isinstance(self.dims[0], int) else None

    def __str__(self) -> str:
        if self.dims is None:
            return f"{self.name!r} {self.dtype} of any shape"
        sizes = ", ".join("?" if size is None else str(size) for size in self.dims)
        return f"{self.name!r} {self.dtype} ({sizes})"


@dataclass(frozen=True, slots=True)
class ConstantInput:
    """A model input that is the same at every run: a sampling rate, a state, an empty past.

    Attributes
    ----------
    name : str
        The model's input.
    value : ndarray
        What it receives, with length 1 along ``batch_axis``.
    batch_axis : int or None
        The axis that is as long as there are samples in a run, if it has one.
    """

    name: str
    value: NDArray[Any]
    batch_axis: int | None

    def array(self, samples: int) -> NDArray[Any]:
        """Return the input for a run of this many samples."""
        if self.batch_axis is None:
            return self.value
        return np.repeat(self.value, samples, axis=self.batch_axis)


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples for every input of a model that data feed, and the constants for the others.

    Attributes
    ----------
    values : dict of str to ndarray
        By input, sample axis first, equally many each.
    constants : tuple of ConstantInput
        The inputs beside them.
    """

    values: Mapping[str, NDArray[Any]]
    constants: tuple[ConstantInput, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def distinct(self) -> bool:
        """Whether no two samples are the same."""
        rows = zip(*self.values.values(), strict=True)
        return len({tuple(np.asarray(part).tobytes() for part in row) for row in rows}) == len(self)

    def first(self, count: int) -> Samples:
        """Return the first of them, and the same constants."""
        return Samples({name: v[:count] for name, v in self.values.items()}, self.constants)

    def feeds(self, rows: NDArray[np.intp] | slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Return what a run over some of the samples is fed."""
        fed = {name: np.ascontiguousarray(value[rows]) for name, value in self.values.items()}
        count = len(next(iter(fed.values())))
        fed.update({constant.name: constant.array(count) for constant in self.constants})
        return fed


def make_constants(
    specs: Sequence[ModelInput],
    given: Mapping[str, ArrayLike],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[ConstantInput, ...]:
    """Make the constant inputs of a model, of values as the user gives them."""
    symbol = next(spec.batch_symbol for spec in specs if spec.name not in given)
    sizes: dict[str, int] = {}
    for spec in specs:
        lengths = (shapes or {}).get(spec.name, ())
        pairs = zip((spec.dims or ())[1:], lengths, strict=False)
        sizes.update((axis, size) for axis, size in pairs if isinstance(axis, str))
    return tuple(
        make_constant(spec, given[spec.name], symbol, sizes) for spec in specs if spec.name in given
    )


def constant_advice(specs: Sequence[ModelInput]) -> dict[str, str]:
    """Write for each input of a model the option that feeds it the same for every sample.

    Masks are 1 everywhere and all else is 0; a past is empty. Lengths that only data tell are
    those of the first input.
    """
    first = specs[0]
    known = {size for size in first.dims or () if isinstance(size, str)}
    return {spec.name: f"--constant {spec.name}={_neutral(spec, first, known)}" for spec in specs}


def _neutral(spec: ModelInput, first: ModelInput, known: set[str]) -> str:
    value = "1" if "mask" in spec.name.lower() else "0"
    sizes = spec.dims or ()
    if all(isinstance(size, int) or size in known for size in sizes):
        return value
    lengths = []
    for size in sizes:
        past = any(word in f"{spec.name} {size}".lower() for word in _PAST)
        if isinstance(size, int):
            lengths.append(str(size))
        elif size == first.batch_symbol and size is not None:
            lengths.append("1")
        else:
            lengths.append("0" if past and value == "0" else "N" if lengths else "1")
    return f"{value}:{'x'.join(lengths)}"


def make_constant(
    spec: ModelInput,
    given: ArrayLike,
    batch: str | None,
    sizes: Mapping[str, int] | None = None,
) -> ConstantInput:
    """Make a constant input of a value as the user gives it."""
    said = f"--constant {spec.name}"
    value = np.asarray(given)
    if value.dtype.kind not in "biuf":
        raise UsageError(f"{said}: {value.dtype} is no number. The model takes {spec}.")
    check_bytes(f"{said}: the value takes", value.size * spec.dtype.itemsize, _SMALLER)
    with np.errstate(all="ignore"):
        cast = value.astype(spec.dtype)
        exact = spec.dtype.kind == "f" or (cast == value).all()
    if not exact or (np.isfinite(value).all() and not np.isfinite(cast).all()):
        raise UsageError(f"{said}: the value does not fit {spec.dtype}, which the model takes.")
    if spec.dims is None:
        return ConstantInput(spec.name, cast, None)
    axes = [i for i, size in enumerate(spec.dims) if batch is not None and size == batch]
    axis = axes[0] if len(axes) == 1 else None
    if not value.ndim:
        lengths = {} if sizes is None else dict(sizes)
        lengths |= {batch: 1} if batch is not None and axis is not None else {}
        known = [s if isinstance(s, int) else lengths.get(s or "", -1) for s in spec.dims]
        if -1 in known:
            example = "x".join("N" if size < 0 else str(size) for size in known)
            raise UsageError(
                f"{said}: the model takes {spec}, whose shape is open, so one number does not "
                f"say how many. Say it, as in --constant {spec.name}={value}:{example} with "
                f"numbers for N, or give an array: --constant {spec.name}=FILE.npy"
            )
        size = math.prod(known) * spec.dtype.itemsize
        check_bytes(f"{said}: the model takes {spec}, which are", size, _SMALLER)
        return ConstantInput(spec.name, np.full(known, cast), axis)
    fits = len(spec.dims) == value.ndim and all(
        not isinstance(size, int) or size == length
        for size, length in zip(spec.dims, value.shape, strict=False)
    )
    if not fits:
        raise UsageError(f"{said}: its shape is {value.shape}, and the model takes {spec}.")
    if axis is not None and cast.shape[axis] != 1:
        first = np.take(cast, [0], axis)
        if not np.array_equal(np.broadcast_to(first, cast.shape), cast):
            data = f", or a row a sample as an array {spec.name!r} of the data" * (axis == 0)
            raise UsageError(
                f"{said}: its shape is {value.shape}, and axis {axis} is that of the samples "
                f"({batch}), along which it differs. A constant is the same for every sample: give "
                f"it length 1 there{data}."
            )
        cast = first
    return ConstantInput(spec.name, cast, axis)
