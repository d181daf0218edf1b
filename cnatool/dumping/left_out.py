"""A summary of the tensors that are not stored, by kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cnatool.records.store import SkippedTensor

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)


def _constant(tensor: SkippedTensor) -> bool:
    return tensor.reason == "constant"


def _shape_arithmetic(tensor: SkippedTensor) -> bool:
    return tensor.reason == "depends on an input's shape alone"


def _random(tensor: SkippedTensor) -> bool:
    return tensor.operator in _RANDOM or "random" in tensor.reason


# Kinds of tensors, singular and plural; the first that fits counts.
_Kind = tuple["Callable[[SkippedTensor], bool]", str, str]
_WITHOUT_SAMPLES: tuple[_Kind, ...] = (
    (_random, "random tensor", "random tensors"),
    (_constant, "constant", "constants"),
    (_shape_arithmetic, "result of shape arithmetic", "results of shape arithmetic"),
)
_OTHERS: tuple[_Kind, ...] = (
    (
        lambda tensor: tensor.reason.startswith(("no sample axis", "no one sample axis")),
        "without a sample axis",
        "without a sample axis",
    ),
    (
        lambda tensor: tensor.reason.startswith("its rows count"),
        "of what is found in the data",
        "of what is found in the data",
    ),
    (lambda tensor: tensor.reason.startswith("inside "), "inside a subgraph", "inside subgraphs"),
    (lambda tensor: "not an array" in tensor.reason, "not numeric", "not numeric"),
    (lambda tensor: True, "for another reason", "for other reasons"),
)


def needs_no_storing(tensor: SkippedTensor) -> bool:
    """Whether a tensor holds no values of samples, so that leaving it out loses nothing."""
    return any(holds(tensor) for holds, *_ in _WITHOUT_SAMPLES)


def left_out_lines(skipped: Iterable[SkippedTensor]) -> Iterator[str]:
    """Say in a line or two how many tensors are not stored, and of what kinds they are."""
    skipped = list(skipped)
    plain = [tensor for tensor in skipped if needs_no_storing(tensor)]
    others = [tensor for tensor in skipped if not needs_no_storing(tensor)]
    if plain:
        yield f"not counted: {_counts(plain, _WITHOUT_SAMPLES)}, which hold no values of samples"
    if others:
        yield (
            f"{len(others)} more cannot be stored by sample: {_counts(others, _OTHERS)} "
            "(inspect --skipped lists them)"
        )


def _counts(tensors: Iterable[SkippedTensor], kinds: tuple[_Kind, ...]) -> str:
    counts = Counter(
        next(place for place, (holds, *_) in enumerate(kinds) if holds(tensor))
        for tensor in tensors
    )
    return ", ".join(
        f"{counts[place]} {one if counts[place] == 1 else many}"
        for place, (_, one, many) in enumerate(kinds)
        if counts[place]
    )
