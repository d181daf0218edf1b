"""Texts whose tokens are words, and stores of them that are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cnatool

WORDS = ["the", "a", "of", "cat", "dog", "runs", "slowly", "house", "tree", "over", "river"]
# Id of the token that each text begins with, and that is no part of it.
START = 0


def make_texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 60))) for _ in range(count)]
    texts[3], texts[4] = "", "zwölf Boxkämpfer — 12"
    return texts


TEXTS = make_texts(60)
IDS = [
    np.array([START, *(WORDS.index(w) + 1 if w in WORDS else 99 for w in text.split())])
    for text in TEXTS
]


def record_texts(path: Path, inputs: dict[str, Any], *, seed: int = 1, **described: Any) -> Path:
    """Record two layers that are summed over the tokens, whose number decides about β."""
    rng = np.random.default_rng(seed)
    hidden = [
        [rng.normal(mean, 1, size=(len(row), 3)).astype(np.float32) for row in IDS]
        for mean in (1, 2)
    ]
    with cnatool.create_store(
        path,
        tensors=["first", "second", "logits"],
        inputs=list(inputs),
        outputs=["logits"],
        ragged=["first", "second", *(n for n in inputs if n != "text" and n != "table")],
        **described,
    ) as store:
        for split, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
            store.append(
                split,
                inputs={name: values[rows] for name, values in inputs.items()},
                outputs=rng.normal(size=(len(IDS[rows]), 3)).astype(np.float32),
                labels=np.arange(len(IDS[rows])) % 3,
                activations={"first": hidden[0][rows], "second": hidden[1][rows]},
            )
    return path
