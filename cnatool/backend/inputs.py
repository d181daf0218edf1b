"""The inputs of one run of a model: samples, and constants that are the same for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.tensor_sizes import check_bytes
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.derived_inputs import DerivedInput

# Words in the names of inputs, or of their axes, that hold what was computed for earlier tokens.
_PAST = ("past", "cache", "history", "present")

_SMALLER = "Export the model for a smaller one."


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model, as it declares it."""

    name: str
    dtype: np.dtype[Any]
    # Lengths, names of symbolic axes, None for axes without a name; None without a shape.
    dims: tuple[int | str | None, ...] | None
    # It holds positions that begin behind that of padding.
    reserves_padding: bool = False

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of one sample, None for a free axis; empty where no shape is declared."""
        return tuple(size if isinstance(size, int) else None for size in (self.dims or ())[1:])

    @property
    def batch_symbol(self) -> str | None:
        """Name of the symbolic sample axis; None where it is fixed or has no name."""
        return self.dims[0] if self.dims and isinstance(self.dims[0], str) else None

    @property
    def may_be_time_major(self) -> bool:
        """Whether the first axis is fixed and a later one is not."""
        dims = self.dims or ()
        return bool(dims) and isinstance(dims[0], int) and not all(isinstance(d, int) for d in dims)

    @property
    def batch(self) -> int | None:
        """Number of samples that each run takes; None where it is free."""
        return self.dims[0] if self.dims and isinstance(self.dims[0], int) else None

    def __str__(self) -> str:
        if self.dims is None:
            return f"{self.name!r} {self.dtype} of any shape"
        sizes = ", ".join("?" if size is None else str(size) for size in self.dims)
        return f"{self.name!r} {self.dtype} ({sizes})"


@dataclass(frozen=True, slots=True)
class ConstantInput:
    """A model input that is the same in every run: a sampling rate, a state, an empty past."""

    name: str
    # With length 1 along ``batch_axis``, the axis as long as there are samples in a run.
    value: NDArray[Any]
    batch_axis: int | None

    def array(self, samples: int) -> NDArray[Any]:
        """Return the array for a run of this many samples."""
        if self.batch_axis is None:
            return self.value
        return np.repeat(self.value, samples, axis=self.batch_axis)


def list_known(
    constants: Iterable[ConstantInput], derived: Iterable[DerivedInput]
) -> Iterator[ConstantInput]:
    """Yield constants, and what rules fill in alike whatever the data."""
    yield from constants
    for each in derived:
        value = each.constant
        if value is not None:
            yield ConstantInput(each.name, value, next(iter(each.sample_axes), None))


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples for every input of a model that data feed, and the constants for the others."""

    # By input, sample axis first, equally many each.
    values: Mapping[str, NDArray[Any]]
    constants: tuple[ConstantInput, ...] = ()
    derived: tuple[DerivedInput, ...] = ()
    # Length of each sample, (n,), of the inputs that are padded.
    lengths: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def sample_axes(self) -> dict[str, tuple[int, ...]]:
        """The axes of each input, but for constants, that are as long as there are samples."""
        axes: dict[str, tuple[int, ...]] = dict.fromkeys(self.values, (0,))
        return axes | {each.name: each.sample_axes for each in self.derived}

    @property
    def distinct(self) -> bool:
        """Whether no two samples are the same."""
        rows = zip(*self.values.values(), strict=True)
        return len({tuple(np.asarray(part).tobytes() for part in row) for row in rows}) == len(self)

    def first(self, count: int) -> Samples:
        """Return the first samples, and the same constants."""
        return replace(
            self,
            values={name: value[:count] for name, value in self.values.items()},
            lengths={name: lengths[:count] for name, lengths in self.lengths.items()},
        )

    def feeds(self, rows: NDArray[np.intp] | slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Return the inputs of a run over some of the samples."""
        fed = {name: np.ascontiguousarray(value[rows]) for name, value in self.values.items()}
        count = len(next(iter(fed.values())))
        fed.update({constant.name: constant.array(count) for constant in self.constants})
        lengths = {name: each[rows] for name, each in self.lengths.items()}
        fed.update({each.name: each.fill(fed, lengths.get(each.source)) for each in self.derived})
        return fed


def make_constants(
    inputs: Sequence[ModelInput],
    values: Mapping[str, ArrayLike],
    shapes: Mapping[str, tuple[int | None, ...]] | None = None,
) -> tuple[ConstantInput, ...]:
    """Make the constant inputs of a model from the values that the user set.

    ``shapes`` are those of one sample of the other inputs, as far as they are known.
    """
    shapes = shapes or {}
    fed = [target for target in inputs if target.name in shapes or not shapes]
    symbol = next(target.batch_symbol for target in fed if target.name not in values)
    sizes: dict[str, int] = {}
    for target in inputs:
        pairs = zip((target.dims or ())[1:], shapes.get(target.name, ()), strict=False)
        known = ((axis, size) for axis, size in pairs if size is not None)
        sizes.update((axis, size) for axis, size in known if isinstance(axis, str))
    return tuple(
        make_constant(target, values[target.name], symbol, sizes)
        for target in inputs
        if target.name in values
    )


def format_neutral_values(inputs: Sequence[ModelInput]) -> dict[str, str]:
    """Format, as Python, a constant for each input of a model that has little effect on results.

    Masks are 1 everywhere, other inputs are 0, and a past is empty. Lengths that depend on the
    data are those of the first input.
    """
    first = inputs[0]
    known = {size for size in first.dims or () if isinstance(size, str)}
    return {target.name: _format_neutral_value(target, first, known) for target in inputs}


def _format_neutral_value(target: ModelInput, first: ModelInput, known: set[str]) -> str:
    value = "1" if "mask" in target.name.lower() else "0"
    sizes = target.dims or ()
    if all(isinstance(size, int) or size in known for size in sizes):
        return value
    lengths: list[str] = []
    for size in sizes:
        past = any(word in f"{target.name} {size}".lower() for word in _PAST)
        if isinstance(size, int):
            lengths.append(str(size))
        elif size == first.batch_symbol and size is not None:
            lengths.append("1")
        else:
            lengths.append("0" if past and value == "0" else "N" if lengths else "1")
    return format_filled_array(lengths, value)


def format_filled_array(lengths: Sequence[object], value: object) -> str:
    """Format an array of one value as Python."""
    shape = ", ".join(map(str, lengths)) + ("," if len(lengths) == 1 else "")
    return f"np.full(({shape}), {value})"


def make_constant(
    target: ModelInput,
    value: ArrayLike,
    batch: str | None,
    sizes: Mapping[str, int] | None = None,
) -> ConstantInput:
    """Make a constant input from the value that the user set."""
    array = np.asarray(value)
    subject = f"constant {target.name!r}"
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{subject}: {array.dtype} is not numeric. The model takes {target}.")
    check_bytes(f"{subject}: the value takes", array.size * target.dtype.itemsize, _SMALLER)
    with np.errstate(all="ignore"):
        cast = array.astype(target.dtype)
        exact = target.dtype.kind == "f" or (cast == array).all()
    if not exact or (np.isfinite(array).all() and not np.isfinite(cast).all()):
        raise UsageError(
            f"{subject}: the value does not fit {target.dtype}, which the model takes."
        )
    if target.dims is None:
        return ConstantInput(target.name, cast, None)
    axes = [i for i, size in enumerate(target.dims) if batch is not None and size == batch]
    axis = axes[0] if len(axes) == 1 else None
    if not array.ndim:
        return ConstantInput(target.name, _fill(target, array, batch, axis, sizes or {}), axis)
    fits = len(target.dims) == array.ndim and all(
        not isinstance(size, int) or size == length
        for size, length in zip(target.dims, array.shape, strict=False)
    )
    if not fits:
        raise UsageError(f"{subject}: its shape is {array.shape}, and the model takes {target}.")
    if axis is not None and cast.shape[axis] != 1:
        first = np.take(cast, [0], axis)
        if not np.array_equal(np.broadcast_to(first, cast.shape), cast):
            data = f", or a row for each sample as an array {target.name!r} of the data"
            raise UsageError(
                f"{subject}: its shape is {array.shape}, and axis {axis} is that of the samples "
                f"({batch}), along which it differs. A constant is the same for every sample: give "
                f"it length 1 there{data * (axis == 0)}."
            )
        cast = first
    return ConstantInput(target.name, cast, axis)


def _fill(
    target: ModelInput,
    value: NDArray[Any],
    batch: str | None,
    axis: int | None,
    sizes: Mapping[str, int],
) -> NDArray[Any]:
    """Fill the shape of an input, as declared and as known from the data, with one number."""
    known = {**sizes, **({batch: 1} if batch is not None and axis is not None else {})}
    shape = [s if isinstance(s, int) else known.get(s or "", -1) for s in target.dims or ()]
    subject = f"constant {target.name!r}: the model takes {target}"
    if -1 in shape:
        lengths = ["N" if size < 0 else size for size in shape]
        filled = f"`constants={{{target.name!r}: {format_filled_array(lengths, value)}}}`"
        loaded = f"`constants={{{target.name!r}: np.load('FILE.npy')}}`"
        raise UsageError(
            f"{subject}, whose shape is dynamic, so one number is not enough. Give the shape as "
            f"well, as in {filled} with numbers for N, or an array: {loaded}"
        )
    check_bytes(f"{subject}, which are", math.prod(shape) * target.dtype.itemsize, _SMALLER)
    return np.full(shape, value, target.dtype)
