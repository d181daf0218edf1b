"""Tags that are hyperparameters, selected by their names and values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool.studying.statistics.granulated import find_coupled_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_REPETITIONS = frozenset({"seed", "repeat", "repetition", "replicate", "rep", "trial", "fold"})
_RUNS = frozenset({"run", "id", "uuid", "job"})
_OF_RUNS = frozenset({"id", "uuid", "name", "number", "run", "job", "trial", "experiment"})
# The place of a checkpoint in training; "epochs" and "steps" are lengths of training.
_STEPS = frozenset({"epoch", "step", "iteration", "iter", "checkpoint", "ckpt"})
_OF_STEPS = frozenset({"global", "train", "training", "number", "no"})


class HyperparameterTags(msgspec.Struct, frozen=True):
    """The role of each tag in the statistics that hold hyperparameters fixed.

    Attributes
    ----------
    names : tuple of str
        Hyperparameters, whose effect is studied one at a time.
    held : tuple of str
        Tags that are not hyperparameters, but are equal in both networks of every pair.
    others : dict of str to str
        Every other tag, with the reason.
    """

    names: tuple[str, ...]
    held: tuple[str, ...]
    others: dict[str, str]


def select_hyperparameters(
    tags: Mapping[str, Sequence[str | None]], cluster: str | None
) -> HyperparameterTags:
    """Select the tags that are hyperparameters.

    These exclude the cluster tag, seeds and other repetitions, names of runs, steps of training,
    and tags that are constant, name each network, or follow from others. Where networks are
    checkpoints at common steps, the step is held fixed.
    """
    levels = {tag: encode_levels(values) for tag, values in tags.items()}
    others: dict[str, str] = {}
    steps = []
    for tag, codes in levels.items():
        words = _split_words(tag)
        number = int(codes.max(initial=0)) + 1
        if number == 1:
            others[tag] = "the same for all networks"
        elif tag == cluster:
            others[tag] = "the clusters"
        elif _is_step(words):
            others[tag] = "a step of training"
            steps.append(tag)
        elif _REPETITIONS & set(words):
            others[tag] = "a repetition"
        elif words[0] in _RUNS and set(words[1:]) <= _OF_RUNS:
            others[tag] = "names runs"
        elif number == len(codes):
            others[tag] = "different for every network"
    names = [tag for tag in levels if tag not in others]
    repetitions = [levels[tag] for tag, why in others.items() if why == "a repetition"]
    runs = [tag for tag, why in others.items() if why in ("the clusters", "names runs")]
    for tag in _find_scheduled(names, levels, steps, runs):
        others[tag] = f"determined by {steps[0]}"
        names.remove(tag)
    for tag, why in _find_dependent(names, levels, repetitions):
        names.remove(tag)
        others[tag] = why
    held = _select_held(names, steps, levels)
    for tag in held:
        del others[tag]
    return HyperparameterTags(tuple(names), tuple(held), others)


def encode_levels(values: Sequence[str | None]) -> NDArray[np.intp]:
    """Return the rank of each value among a tag's distinct values; None comes first."""
    # None differs from every text.
    texts = [("", "") if text is None else ("+", text) for text in values]
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    return np.array([numbers[text] for text in texts], np.intp)


def _split_words(tag: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tag)
    return re.findall(r"[^\W\d_]+", spaced.lower()) or [tag]


def _is_step(words: Sequence[str]) -> bool:
    return bool(_STEPS & set(words)) and set(words) <= _STEPS | _OF_STEPS


def _find_scheduled(
    names: Sequence[str],
    levels: Mapping[str, NDArray[np.intp]],
    steps: Sequence[str],
    runs: Sequence[str],
) -> list[str]:
    """Return the candidates that change over training in the same way in all runs, as schedules.

    The step at which a network stopped may determine its hyperparameters; but then it is the same
    for all networks of a run, or determines all hyperparameters.
    """
    series = [
        step for step in steps if not any(_determines([levels[r]], levels[step]) for r in runs)
    ]
    return [
        tag
        for tag in names
        if any(
            _determines([levels[step]], levels[tag])
            and not all(_determines([levels[step]], levels[o]) for o in (*names, *runs))
            for step in series
        )
    ]


def _find_dependent(
    names: Sequence[str],
    levels: Mapping[str, NDArray[np.intp]],
    repetitions: Sequence[NDArray[np.intp]],
) -> list[tuple[str, str]]:
    """Find the candidates that follow from others, each with the reason, in order of removal."""
    left = list(names)
    dropped: list[tuple[str, str]] = []

    def drop(tag: str, why: str) -> None:
        left.remove(tag)
        dropped.append((tag, why))

    # First, tags that divide the networks in the same way; then names of combinations of tags.
    for tag in reversed(names):
        for other in [other for other in left if tag in left and other != tag]:
            if _determines([levels[other]], levels[tag]) and _determines(
                [levels[tag]], levels[other]
            ):
                drop(tag, f"goes with {other}")
                break
    for tag in [*left]:
        named = [
            other for other in left if other != tag and _determines([levels[tag]], levels[other])
        ]
        free = [
            other
            for other in named
            if not any(_determines([levels[o]], levels[other]) for o in named if o != other)
        ]
        # The name of a run often contains its seed.
        parts = [*(levels[other] for other in named), *repetitions]
        if (len(free) > 1 and len(named) == len(left) - 1) or (
            named and _determines(parts, levels[tag])
        ):
            drop(tag, f"names combinations of {', '.join(free)}")
    for tag in [*left]:
        for other in left:
            if other != tag and _determines([levels[other]], levels[tag]):
                drop(tag, f"determined by {other}")
                break
    for tag in [*left]:
        others = [levels[other] for other in left if other != tag]
        if (
            len(others) > 1
            and all(levels[tag].max() > codes.max() for codes in others)
            and _combine(others).max() + 1 < len(levels[tag])
            and _determines(others, levels[tag])
        ):
            drop(tag, f"determined by {', '.join(other for other in left if other != tag)}")
    return dropped


def _combine(codes: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the index of each network's combination of levels of several tags."""
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()


def _determines(codes: Sequence[NDArray[np.intp]], tag: NDArray[np.intp]) -> bool:
    """Whether networks that agree in some tags also agree in another one."""
    if not codes:
        return False
    combinations = _combine(codes)
    return bool(_combine([combinations, tag]).max() == combinations.max())


def _select_held(
    names: Sequence[str], steps: Sequence[str], levels: Mapping[str, NDArray[np.intp]]
) -> list[str]:
    """Select the step tag to hold fixed, if checkpoints of several runs share steps."""
    if not names:
        return []
    for step in sorted(steps, key=lambda tag: int(levels[tag].max())):
        others = [codes for tag, codes in levels.items() if tag not in steps]
        if _determines(others, levels[step]):
            continue
        axes = np.stack([levels[tag] for tag in (*names, step)], axis=1)
        if any(len(find_coupled_pairs(axes, axis)) for axis in range(len(names))):
            return [step]
    return []
