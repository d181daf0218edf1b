"""What a page shows of one store."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import msgspec

from cnatool._util.documents import Document
from cnatool._util.text import printable
from cnatool.errors import DataError, MetricError
from cnatool.page.facts import Fact, list_facts
from cnatool.page.network import Step, list_steps
from cnatool.page.pictures import Pictures, draw_pictures
from cnatool.page.samples import LayerValues, Samples, choose_rows, collect_samples
from cnatool.scoring.layer_results import LayerScores
from cnatool.scoring.layers import score_sampled_layers
from cnatool.scoring.results import ScoreResult
from cnatool.scoring.score import score_store
from cnatool.scoring.titles import alpha_title, beta_title, depth_title, z_title

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import Convention
    from cnatool.store.store import Split, Store


class Titles(msgspec.Struct, frozen=True):
    """Titles of axes.

    Attributes
    ----------
    alpha, beta, z, depth : str
        With their units.
    """

    alpha: str
    beta: str
    z: str
    depth: str


class StoreView(Document, frozen=True):
    """One store on a page.

    Attributes
    ----------
    kind : str
        ``store``.
    name, convention : str
        Its name on the page, and the convention behind the numbers.
    titles : Titles
        Of the axes.
    facts : tuple of Fact
        What was run.
    score : ScoreResult or None
        As `cnatool.score` gives it.
    score_reason : str or None
        Why the store has no score.
    layers : LayerScores or None
        As `cnatool.score_layers` gives it.
    layers_reason : str or None
        Why the layers have no score.
    network : tuple of Step
        The layers in order, whether they count or not.
    samples : Samples or None
        Samples with their numbers.
    classes : tuple of str or None
        Names of the labels.
    pictures : str or None
        Key of the pictures of the samples.
    pictures_reason : str or None
        Why samples have no pictures.
    notes : tuple of str
        Remarks on the results.
    """

    kind: Literal["store"]
    name: str
    convention: str
    titles: Titles
    facts: tuple[Fact, ...]
    score: ScoreResult | None
    score_reason: str | None
    layers: LayerScores | None
    layers_reason: str | None
    network: tuple[Step, ...]
    samples: Samples | None
    classes: tuple[str, ...] | None
    pictures: str | None
    pictures_reason: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How the stores of a page are scored, and what each may show."""

    convention: Convention
    test: Store | None  # holds the test split
    output: str | None  # the output that holds the class scores
    most: int  # samples of a store


class PictureSets:
    """The pictures on a page; stores of the same samples share theirs.

    Parameters
    ----------
    stores : sequence of Store
        The stores of the page.

    Attributes
    ----------
    drawn : dict of str to Pictures
        The pictures so far, by key.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._sets = len({_identify(store.splits) for store in stores})
        self._reasons: dict[str, str] = {}
        self.drawn: dict[str, Pictures] = {}

    def count(self, key: str) -> int:
        """Return how many pictures there are with a key."""
        return self.drawn[key].count

    def draw(
        self, splits: Mapping[str, Split], rows: Mapping[str, NDArray[np.intp]]
    ) -> tuple[str | None, str | None]:
        """Draw samples, unless they are drawn already; return their key, or why there is none."""
        key = _identify(splits)
        if key not in self.drawn and key not in self._reasons:
            pictures = draw_pictures(splits, rows, self._sets)
            if isinstance(pictures, str):
                self._reasons[key] = pictures
            else:
                self.drawn[key] = pictures
        return (key, None) if key in self.drawn else (None, self._reasons[key])


def _identify(splits: Mapping[str, Split]) -> str:
    """Return a key that splits with the same raw inputs have in common."""
    record = next(iter(splits.values())).store.record if splits else None
    parts = [] if record is None else [record.inputs, record.preprocessing]
    content = [
        (name, len(split), split.record.fingerprint or str(split.path))
        for name, split in splits.items()
    ]
    return sha256(msgspec.json.encode([content, *parts])).hexdigest()[:16]


def view_store(
    store: Store, name: str, options: StoreOptions, pictures: PictureSets, observer: Observer
) -> StoreView:
    """Score a store, and collect what the page shows of it.

    A store without what its scores need has the reason in place of them.
    """
    scored = score = layers = samples = key = None
    score_reason = layers_reason = pictures_reason = None
    try:
        scored = score_store(
            store, options.test, options.convention, output=options.output, observer=observer
        )
    except (DataError, MetricError) as error:
        score_reason = str(error)
        layers_reason = pictures_reason = "there are no scores."
        observer.note(score_reason)
    if scored is not None:
        score = scored.result(observer)
        rows = choose_rows(
            {split: len(part.alpha) for split, part in scored.splits.items()}, options.most
        )
        values = LayerValues(rows, len(score.layers))
        try:
            layers = score_sampled_layers(scored, values.take)
        except MetricError as error:
            layers_reason = str(error)
        samples = collect_samples(scored, rows, None if layers is None else values.whole())
        splits = {split: part.split for split, part in scored.splits.items()}
        key, pictures_reason = pictures.draw(splits, rows)
    fields = options.convention.fields
    return StoreView(
        kind="store",
        name=name,
        convention=str(options.convention),
        titles=Titles(
            alpha_title(fields), beta_title(fields), z_title(fields), depth_title(fields)
        ),
        facts=list_facts(store),
        score=score,
        score_reason=score_reason,
        layers=layers,
        layers_reason=layers_reason,
        network=list_steps(store.record, () if score is None else score.layers),
        samples=samples,
        classes=_list_classes(store, options.test),
        pictures=key,
        pictures_reason=pictures_reason,
        notes=_merge_notes(score, layers),
    )


def _list_classes(*stores: Store | None) -> tuple[str, ...] | None:
    """Return the names of the labels; None where splits have none, or differ in them."""
    splits = [split for store in stores if store is not None for split in store.splits.values()]
    named = {split.record.classes for split in splits if split.record.classes}
    return tuple(map(printable, named.pop())) if len(named) == 1 else None


def _merge_notes(score: ScoreResult | None, layers: LayerScores | None) -> tuple[str, ...]:
    notes = [*(score.notes if score else ()), *(layers.notes if layers else ())]
    return tuple(dict.fromkeys(notes))
