"""Why a tensor is not stored: the kinds of reasons, and their wording, which stores record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cnatool.records.store import SkippedTensor, TensorRecord, UnselectedTensor

SkipKind = Literal[
    "random",
    "constant",
    "shape arithmetic",
    "no sample axis",
    "counted",
    "in a subgraph",
    "in an operator",
    "not asked for",
    "not numeric",
    "other",
]

# Operators that draw random numbers.
RANDOM_OPERATORS = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Sampling",
    }
)
CONSTANT = "constant"
SHAPE_ARITHMETIC = "depends on an input's shape alone"
INSIDE_OPERATOR = "inside the operator, which does not return it"
NOT_ASKED = "offered by the operator and left out by the model: `tensors='inner'` stores it"
ITERATION = "depends on the iteration or an input's shape alone"
CHANGING_RANK = "its number of axes changes from one iteration to the next"
CHANGING_UNKNOWN = "its shape changes from one iteration to the next, so its sample axis is unknown"
BACKWARDS = "inside Scan: it takes the samples from the last to the first"
NOT_ALWAYS = "inside an If or Loop: not all batches of the probe compute it"
NOT_ALWAYS_IN_BATCHES = f"{NOT_ALWAYS}, and `batch_size=1` stores it"
NEVER = "inside an If or Loop: no sample of the probe computes it"
SUMS_ALONE = "only its sums are kept, since its shape depends on the data"
NOT_SELECTED = "left out with `tensors`"
_NO_AXIS = "no sample axis"
_NO_SINGLE_AXIS = "no one sample axis"
_COUNTED = "its rows count"
_NOTHING = "nothing was found in the first"
_INSIDE = "inside "
_NOT_NUMERIC = ", not an array of numbers"


def skip_kind(tensor: SkippedTensor) -> SkipKind:
    """Classify the reason for which a tensor is not stored."""
    reason = tensor.reason
    if reason == INSIDE_OPERATOR:
        return "in an operator"
    if reason == NOT_ASKED:
        return "not asked for"
    if tensor.operator in RANDOM_OPERATORS or "random" in reason:
        return "random"
    if reason == CONSTANT:
        return "constant"
    if reason in (SHAPE_ARITHMETIC, ITERATION):
        return "shape arithmetic"
    if reason.startswith((_NO_AXIS, _NO_SINGLE_AXIS)):
        return "no sample axis"
    if reason.startswith(_COUNTED):
        return "counted"
    if reason.startswith(_INSIDE):
        return "in a subgraph"
    return "not numeric" if _NOT_NUMERIC in reason else "other"


def random_reason(operator: str) -> str:
    """Describe a tensor that depends on random numbers alone."""
    return f"random ({operator}), whatever the input"


def unknown_axis_reason(operator: str, shape: tuple[int, ...]) -> str:
    """Describe a random tensor, in which samples cannot be compared."""
    return f"random ({operator}), so its sample axis is unknown: shape {shape}"


def subgraph_reason(operator: str, why: str) -> str:
    """Describe a tensor inside an operator such as If or Loop that cannot be handed out."""
    return f"{_INSIDE}{operator}: {why}"


def find_subgraph_operator(reason: str) -> str:
    """Find the operator in whose subgraph a tensor lies, by the reason; empty for other reasons."""
    start, colon, _ = reason.partition(":")
    return start.removeprefix(_INSIDE) if colon and start.startswith(_INSIDE) else ""


def counted_reason(shape: tuple[int, ...], *, tried: int | None = None) -> str:
    """Describe a tensor whose rows count something in the data, such as detections.

    ``tried`` is the number of samples that were tried, if nothing was found in them.
    """
    why = "no index says which sample each is of"
    if tried is not None:
        why = f"{_NOTHING} {tried} samples, those that were tried"
    return f"{_COUNTED} what was found in the data, not samples, and {why}: shape {shape}"


def is_counted_empty(tensor: SkippedTensor) -> bool:
    """Whether a tensor is not stored because nothing was found in the samples that were tried."""
    return tensor.reason.startswith(_COUNTED) and _NOTHING in tensor.reason


def not_numeric_reason(kind: str) -> str:
    """Describe a tensor of a kind that NumPy arrays of numbers do not hold."""
    return f"{kind}{_NOT_NUMERIC}"


def no_axis_reason(shape: tuple[int, ...]) -> str:
    """Describe a tensor whose shape is the same whatever the number of samples."""
    return f"{_NO_AXIS}: shape {shape} whatever the number of samples"


def no_fixed_axis_reason(shape: tuple[int, ...], batch: int) -> str:
    """Describe a tensor of a model with a fixed batch none of whose axes follows the samples."""
    return f"{_NO_AXIS}: shape {shape} for the model's fixed batch of {batch}"


def no_single_axis_reason(large: tuple[int, ...], small: tuple[int, ...], count: int) -> str:
    """Describe a tensor several of whose axes scale with the samples, or in no fixed ratio."""
    return f"{_NO_SINGLE_AXIS}: {large} for {count} samples, {small} for {count - 1}"


def list_missing_outputs(
    outputs: Iterable[str],
    skipped: Iterable[SkippedTensor],
    tensors: Iterable[TensorRecord],
    unselected: Iterable[UnselectedTensor] = (),
) -> dict[str, list[str]]:
    """List the outputs of a model of which no whole values are stored, by the reason."""
    reasons = {tensor.name: tensor.reason for tensor in skipped}
    reasons |= {tensor.name: NOT_SELECTED for tensor in unselected}
    reasons |= {t.name: SUMS_ALONE for t in tensors if t.varies and t.ragged_axis is msgspec.UNSET}
    missing = [name for name in outputs if name in reasons]
    # Reasons that differ in a shape alone are one.
    kinds = [reasons[name].partition(": shape ")[0] for name in missing]
    return {
        kind if kinds.count(kind) > 1 else reasons[name]: [
            other for other, its in zip(missing, kinds, strict=True) if its == kind
        ]
        for name, kind in zip(missing, kinds, strict=True)
    }


def format_missing_outputs(missing: Mapping[str, Sequence[str]]) -> str:
    """Format outputs by the reason why they are not stored."""
    return ", ".join(
        f"{', '.join(map(repr, names))} ({reason})" for reason, names in missing.items()
    )
