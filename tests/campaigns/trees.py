"""Trees of JSON, changed in one place."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_WORDS = (
    *(None, True, False, 0, -1, 1, 2, 3, 2**31, 2**40, 2**63, 2**64, 2**70, 1.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "\0", "a\nb", "‮x", "\x9b31m", "../x", "/etc/passwd"),
    *("|O", "<f8", "float64", "NaN", "x" * 100_000, "é", "\ud800", "splits", "0", " 1", "1e5"),
    *([], {}, [[]], [0], [-1, 2**40], {"": ""}, {"name": "x"}, [None] * 50, ["x"] * 3),
)


def changed_tree(tree: Any, rng: random.Random) -> Any:
    """Give a copy of a tree in which one place differs."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    if not places:
        return rng.choice(_WORDS)
    where, key = rng.choice(places)
    how = rng.randrange(8)
    if how == 0:
        del where[key]
    elif how == 1 and isinstance(where, dict):
        where[rng.choice(("", "x", "\0", "name", "\ud800", "a/../b"))] = where[key]
    elif how == 1:
        where.insert(key, copy.deepcopy(where[key]))
    elif how == 2:
        other, name = rng.choice(places)
        where[key] = copy.deepcopy(other[name])
    elif how == 3 and isinstance(where, dict):
        where[rng.choice(("", "x", "name", "0"))] = where.pop(key)
    elif isinstance(where[key], int) and how < 6:
        where[key] += rng.choice((-1, 1, 7, -(10**9), 2**32))
    elif isinstance(where[key], str) and how < 6 and where[key]:
        at = rng.randrange(len(where[key]))
        new = rng.choice((*"0a/ \0\x9b\u202e.:", "é" * 999))
        where[key] = where[key][:at] + new + where[key][at + rng.randrange(2) :]
    else:
        where[key] = copy.deepcopy(rng.choice(_WORDS))
    return tree


def changed_json(tree: Any, rng: random.Random) -> bytes:
    """Write a tree in which one place differs, by chance as JSON that repeats a name."""
    text = json.dumps(changed_tree(tree, rng), ensure_ascii=bool(rng.randrange(4)))
    return text.encode("utf-8", "surrogatepass")


def _places(tree: Any) -> Any:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])
