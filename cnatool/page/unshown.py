"""What a page leaves out, said in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import list_names
from cnatool.page.samples import SEED
from cnatool.page.study_view import StudyView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cnatool.page.store_view import PictureSets, StoreView


def list_unshown(views: Iterable[StoreView | StudyView], pictures: PictureSets) -> tuple[str, ...]:
    """Return what is not shown of all views; what holds for several of them is said once."""
    names: dict[str, list[str]] = {}
    for view in views:
        for text in _list_unshown(view, pictures):
            names.setdefault(text, []).append(view.name)
    return tuple(
        f"{first}{f' and {len(more):,} more' if more else ''}: {text}"
        for text, (first, *more) in names.items()
    )


def _list_unshown(view: StoreView | StudyView, pictures: PictureSets) -> Iterator[str]:
    """Yield how many samples, pictures or networks are shown, where these are not all."""
    if isinstance(view, StudyView):
        if len(view.ids) < view.total:
            yield (
                f"{len(view.ids):,} of {view.total:,} networks are shown, chosen at "
                f"random with seed {SEED}"
            )
        return
    if view.samples is None:
        return
    splits = view.samples.splits
    shown, total = (sum(s.shown for s in splits), sum(s.total for s in splits))
    if shown < total:
        parts = list_names(f"{split.shown:,} of {split.name}" for split in splits)
        yield (
            f"{shown:,} of {total:,} samples are shown, chosen at random with seed "
            f"{SEED}: {parts}; scores, curves and layers are of all samples"
        )
    if view.pictures is not None:
        drawn = pictures.count(view.pictures)
        if drawn < shown:
            yield f"{drawn:,} of {shown:,} samples have a picture, chosen at random"
    elif view.pictures_reason is not None and view.score_reason is None:
        yield f"samples have no pictures: {view.pictures_reason}"
