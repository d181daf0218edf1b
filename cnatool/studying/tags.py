"""Which tags of networks are hyperparameters, by how their values vary together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.text import listed

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

__all__ = ["find_hyperparameters"]

_SEED = "seed"
# A tag of one of these names is the name of a run, and its settings are the hyperparameters.
_RUN_NAMES = frozenset({"checkpoint", "experiment", "id", "job", "name", "run", "trial"})


def find_hyperparameters(
    tags: Mapping[str, Sequence[Hashable]], cluster: str | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tell hyperparameters from tags that name networks, repetitions or combinations.

    Measures are compared over networks that differ in one hyperparameter and agree in all others.
    A tag that changes with every change of another one, as the name of a run does, would leave no
    such pair.

    Parameters
    ----------
    tags : mapping of str to (n,) sequence
        Each tag's value for each network; None where a network does not have the tag.
    cluster : str or None
        The tag whose values are clusters of networks.

    Returns
    -------
    tuple of str
        The tags that are hyperparameters, in the order of `tags`.
    dict of str to str
        The others, each with the reason.
    """
    chosen = dict(tags)
    reasons: dict[str, str] = {}

    def leave_out(tag: str, reason: str) -> None:
        reasons[tag] = reason
        del chosen[tag]

    for tag, values in tags.items():
        if len(set(values)) < 2:
            leave_out(tag, "the same for all networks")
        elif tag == cluster:
            leave_out(tag, "the cluster")
        elif tag == _SEED:
            leave_out(tag, "a repetition")
        elif len(set(values)) == len(values):
            leave_out(tag, "different for every network")
    # The tags with most values first: a run's name, then an architecture's, then a family's.
    for tag in sorted(chosen, key=lambda tag: -len(set(tags[tag]))):
        coarser = [
            name
            for name in chosen
            if _determines(tags, [tag], name) and not _determines(tags, [name], tag)
        ]
        # The name of a run often has its seed in it.
        parts = [*coarser, _SEED] if _SEED in tags else coarser
        if len(coarser) > 1 or (coarser and (tag in _RUN_NAMES or _determines(tags, parts, tag))):
            verb = "follows" if len(coarser) == 1 else "follow"
            leave_out(tag, f"names a combination: {listed(coarser)} {verb} from it")
    for tag in reversed(list(chosen)):
        finer = [name for name in chosen if name != tag and _determines(tags, [name], tag)]
        if finer:
            leave_out(tag, f"follows from {finer[0]}")
    return tuple(chosen), {tag: reasons[tag] for tag in tags if tag in reasons}


def _determines(tags: Mapping[str, Sequence[Hashable]], names: Sequence[str], tag: str) -> bool:
    """Whether networks that agree in all tags of `names` agree in `tag`, too."""
    rows = list(zip(*(tags[name] for name in names), strict=True))
    return len(set(zip(rows, tags[tag], strict=True))) == len(set(rows))
