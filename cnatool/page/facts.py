"""What was run, as a list of short texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cnatool._util.text import bytes_text, classes_text, count_text, list_names, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.records.run import ModelRecord, Preprocessing
    from cnatool.records.store import StoreRecord
    from cnatool.store.store import Split, Store


class Fact(msgspec.Struct, frozen=True):
    """One line about what was run.

    Attributes
    ----------
    name, text : str
        What it is, and what is said of it.
    """

    name: str
    text: str


def list_facts(store: Store) -> tuple[Fact, ...]:
    """List what a store records of its model, data, runtime and content."""
    return tuple(Fact(name, text) for name, text in _list_texts(store))


def _list_texts(store: Store) -> Iterator[tuple[str, str]]:
    record = store.record
    yield "store", printable(store.path)
    if record.model is None:
        yield "model", "recorded as it ran; the store does not name a file"
    else:
        yield "model", _model_text(record.model)
    if record.initial is not None:
        yield "before training", _model_text(record.initial)
    for split in store.splits.values():
        yield f"data, {printable(split.name)}", _split_text(split)
    for recipe in record.preprocessing:
        yield f"input {printable(recipe.input)}", _recipe_text(recipe)
    if (runtime := record.runtime) is not None:
        yield (
            "runtime",
            f"{printable(runtime.name)} {printable(runtime.version)}, "
            f"{printable(runtime.provider)}, batches of {runtime.batch_size:,}",
        )
    yield "stored", _content_text(record)
    if record.tags:
        tags = (f"{printable(key)} = {printable(value)}" for key, value in record.tags.items())
        yield "tags", ", ".join(tags)
    yield "written by", printable(record.created_by)


def _model_text(model: ModelRecord) -> str:
    size = bytes_text(sum(file.bytes for file in model.files))
    by = f", exported by {printable(model.producer)}" if model.producer else ""
    return f"{printable(model.name)}, {size}{by}; SHA-256 {model.files[0].sha256}"


def _split_text(split: Split) -> str:
    record = split.record
    rows = count_text(len(split), "sample")
    if not record.complete:
        rows = f"{len(split):,} of {record.rows:,} samples so far"
    elif record.available is not None and record.available > record.rows:
        rows = f"the first {record.rows:,} of {record.available:,} samples"
    labels = ", labelled" if record.labels else ", without labels"
    classes = f": {classes_text(record.classes)}" if record.classes else ""
    skipped = f"; {count_text(len(record.skipped), 'sample')} skipped" if record.skipped else ""
    return f"{rows} from {printable(record.source)}{labels}{classes}{skipped}"


def _recipe_text(recipe: Preprocessing) -> str:
    steps = [f"{_shape_text(recipe.source_shape)} {recipe.source_dtype}"]
    if recipe.layout != "as is":
        steps.append(recipe.layout)
    if recipe.scale != 1:
        steps.append(f"× {recipe.scale:.6g}")
    if recipe.mean:
        steps.append(f"− {list_names(recipe.mean)}")
    if recipe.std:
        steps.append(f"÷ {list_names(recipe.std)}")
    return f"{', '.join(steps)}; the model receives {_shape_text(recipe.shape)} {recipe.dtype}"


def _shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _content_text(record: StoreRecord) -> str:
    whole = sum(tensor.stored is not None for tensor in record.tensors)
    kept = "all" if whole == len(record.tensors) else f"{whole:,}"
    texts = [f"{count_text(len(record.tensors), 'tensor')}, {kept} of them whole"]
    if record.statistics:
        texts.append(f"of each, the {list_names(record.statistics)} for every sample")
    for missing, why in ((record.skipped, "could not be stored"), (record.unselected, "left out")):
        if missing:
            texts.append(f"{count_text(len(missing), 'other tensor')} {why}")
    return "; ".join(texts)
