"""What a reader of a score should know beside its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cnatool.metrics.convention import Convention
    from cnatool.results import SplitResult
    from cnatool.scored_output import ScoredOutput
    from cnatool.scored_pairs import PairScores
    from cnatool.store.reader import Store

__all__ = ["notes"]

_NAMED = 3


def notes(
    store: Store,
    convention: Convention,
    missing: Sequence[str],
    output: ScoredOutput,
    splits: Mapping[str, SplitResult],
    pair: PairScores,
) -> Iterator[str]:
    """Give a line for each thing that is not as one would take for granted.

    Parameters
    ----------
    store : Store
    convention : Convention
    missing : sequence of str
        Of `missing_layers`.
    output : ScoredOutput
    splits : mapping of str to SplitResult
    pair : PairScores
    """
    taken = [
        f"{split.samples:,} of {split.available:,} samples of {name}"
        for name, split in splits.items()
        if split.complete
        and split.available is not None
        and split.samples + split.skipped < split.available
    ]
    if taken:
        yield f"scored: the first {', '.join(taken)}"
    skipped = [
        f"{split.skipped:,} of {split.samples + split.skipped:,} samples of {name}"
        for name, split in splits.items()
        if split.skipped
    ]
    if skipped:
        yield f"could not be read and are left out: {', '.join(skipped)} (inspect lists them)"
    if output.others:
        yield (
            f"{', '.join(output.others)} could be the output as well as {output.name}: --output "
            "NAME chooses"
        )
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        yield (
            f"layers={convention.layers} would count {len(missing)} more, which the store lacks "
            f"({', '.join(missing[:_NAMED])}{more}): dump with --tensors all"
        )
    ruled = convention.layers in ("preactivation", "linear")
    if ruled and not convention.include_output and not any(layer.output for layer in store.layers):
        yield "no layer leads to an output, so all count as hidden ones (inspect --layers)"
    chance = pair.chance
    if chance.mean is not None:
        yield (
            f"CNA-A is above 0 by chance alone: {chance.mean:.4f} ± {chance.std:.4f} with train "
            "and test relabelled at random; its interval is no test of a difference, its p is one"
        )
    elif pair.area.value is not None and not convention.area_resamples:
        yield "CNA-A is above 0 by chance alone: --set area_resamples=100 says how far"
