"""Opening the samples of a dump: which arrays feed the model, and how they are read."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cnatool._util.text import printable
from cnatool.backend.derived_rules import (
    MASK_RULES,
    comes_from_encoder,
    find_advice,
    find_derived_inputs,
)
from cnatool.backend.inputs import format_neutral_values
from cnatool.data.file_names import SOUNDS
from cnatool.data.preprocess.recipe import Recipe, read_recipe, replace_fields
from cnatool.data.selection import PLAIN_SOUND, ArraySelection, ImageOptions
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import ArrayLike

    from cnatool.backend.network import Network
    from cnatool.data.selection import SoundOptions
    from cnatool.data.source import Source
    from cnatool.data.tokenize import TokenInput
    from cnatool.dumping.options import DumpOptions


def read_preprocessing(options: DumpOptions) -> Recipe:
    """Read the preprocessing file, whose fields the other options override."""
    path = options.preprocess
    recipe = Recipe("cnatool.preprocess/1") if path is None else read_recipe(path)
    overrides: dict[str, Any] = {
        "resize": options.resize,
        "crop": options.crop,
        "interpolation": options.interpolation,
        "colour": options.colour,
        "layout": options.layout,
        "scale": options.scale,
        "mean": tuple(map(float, options.mean)) or None,
        "std": tuple(map(float, options.std)) or None,
        "sample_rate": options.sample_rate,
        "mono": options.mono or None,
        "duration": options.duration,
    }
    fields = {name: value for name, value in overrides.items() if value is not None}
    if "resize" in fields:
        fields["fit"] = None
    if recipe.spectrogram is not None and options.sample_rate not in (None, recipe.sample_rate):
        raise UsageError(
            f"`sample_rate={options.sample_rate}`: the spectrograms of {path} are those of sound "
            f"with {recipe.sample_rate} samples a second: leave it out."
        )
    recipe = replace_fields(recipe, fields)
    if "interpolation" in fields and recipe.resize is None:
        raise UsageError("`interpolation` has no effect without `resize`.")
    return recipe


def select_arrays(
    network: Network, arrays: Mapping[str, str], constants: Mapping[str, ArrayLike]
) -> ArraySelection:
    """Select the arrays of the data that feed the inputs of a model which are not constant.

    ``arrays`` names the array of an input where their names differ.
    """
    names = [target.name for target in network.inputs]
    for parameter, inputs in (("inputs", arrays), ("constants", constants)):
        for name in inputs:
            if name not in names:
                raise UsageError(
                    f"`{parameter}`: {network.graph.path} has no input {name!r}. It takes "
                    f"{', '.join(map(str, network.inputs))}."
                )
    both = sorted(set(constants).intersection(arrays))
    if both:
        raise UsageError(f"`constants` and `inputs` both name input {both[0]!r}: leave one out.")
    fed = tuple(name for name in names if name not in constants)
    derived = find_derived_inputs(network.inputs, arrays, constants)
    if not fed:
        raise UsageError("`constants` sets every input, so there is nothing to run the model over.")
    texts = {
        target.name: tuple(1 if size is None else size for size in target.shape)
        for target in network.inputs
        if target.name in fed and target.dtype == object
    }
    numbers = [name for name in fed if name not in texts]
    if texts and numbers:
        raise ModelError(
            f"{network.graph.path} takes texts ({', '.join(texts)}) as well as numbers "
            f"({', '.join(numbers)}), which cannot be fed together. Set one kind with "
            "`constants`, or export the part of the model that follows its text encoder."
        )
    for name, shape in texts.items():
        if math.prod(shape) != 1:
            raise ModelError(
                f"{network.graph.path}: input {name!r} takes {shape} texts per sample, and only "
                "one can be fed. Export the part of the model that follows its text encoder."
            )
    return ArraySelection(
        fed,
        dict(arrays),
        optional=frozenset(each.name for each in derived),
        constant_advice=format_neutral_values(
            [target for target in network.inputs if not comes_from_encoder(target)]
        ),
        hints={t.name: advice for t in network.inputs if (advice := find_advice(t)) is not None},
        text_shapes=texts,
        # Samples of any length are padded where a mask tells the model.
        any_length=frozenset(
            target.name
            for target in network.inputs
            if target.dims is None
            or None in target.shape
            or (target.dtype.kind in "iub" and any(each.rule in MASK_RULES for each in derived))
        ),
    )


def open_sources(
    data: str | Path | None,
    options: DumpOptions,
    selection: ArraySelection,
    recipe: Recipe,
    note: Callable[[str], None],
    tokens: TokenInput | None = None,
) -> dict[str, Source]:
    """Open the samples of each split, which must be of one form and have the same classes.

    With ``tokens``, samples are texts, and the ids of their tokens.
    """
    reading = ReaderOptions(
        format=options.format,
        labels=options.labels,
        label_offset=options.label_offset,
        split_column=options.split_column,
        holdout=options.holdout,
        seed=options.seed,
        images=ImageOptions(
            recipe.geometry(),
            options.keep_inputs,
            options.on_error == "skip",
            recipe.axes(),
            options.follow_links,
        ),
        sound=recipe.sound(),
        tokens=tokens,
        limit=options.limit,
    )
    sources = open_splits(data, options.splits or {}, selection, reading, note)
    _check_sound(sources, reading.sound)
    _check_rates(sources)
    (first, reference), *others = sources.items()
    for name, source in others:
        if _forms(source) != _forms(reference):
            raise DataError(
                f"splits {first!r} and {name!r} hold different samples: "
                f"{_describe_inputs(reference)} and {_describe_inputs(source)}. "
                "One store holds samples of one shape and type."
            )
    labelled = {name: source for name, source in sources.items() if source.labelled}
    for first, name in pairwise(labelled):
        if labelled[first].label_lists != labelled[name].label_lists:
            raise DataError(
                f"splits {first!r} and {name!r}: a sample of one has a list of labels, and one of "
                "the other a single label. Give both the same kind, or each a store of its own."
            )
        mine, theirs = labelled[first].classes, labelled[name].classes
        if mine != theirs:
            raise DataError(
                f"splits {first!r} and {name!r} have different classes, so one label would mean "
                f"two things: {_describe_difference(mine, theirs)}. Give both the same classes, or "
                "each a store of its own."
            )
    return sources


def _check_sound(sources: Mapping[str, Source], options: SoundOptions) -> None:
    """Refuse options for sound where there is none."""
    if options == PLAIN_SOUND:
        return
    for source in sources.values():
        if not any(spec.sound for spec in source.inputs):
            raise UsageError(
                f"{source.name} contains no sound, but `sample_rate`, `mono`, `duration`, and a "
                "`preprocess` file with any of these, apply only to sound: omit them. Sound is "
                f"read from files ({' '.join(sorted(SOUNDS.extensions))})."
            )


def _check_rates(sources: Mapping[str, Source]) -> None:
    """Refuse sound of other rates in other splits, where it is not resampled."""
    for (first, reference), (name, source) in pairwise(sources.items()):
        for mine, theirs in zip(reference.inputs, source.inputs, strict=False):
            if mine.sound is None or theirs.sound is None:
                continue
            rates = mine.sound.sample_rate, theirs.sound.sample_rate
            if rates[0] != rates[1]:
                raise DataError(
                    f"splits {first!r} and {name!r} hold sound of {rates[0]:,} and {rates[1]:,} "
                    "samples a second: resample all of it to the rate that the model was trained "
                    "with by `sample_rate=HZ`."
                )


def _forms(source: Source) -> list[tuple[object, ...]]:
    return [(i.form, i.dtype, i.for_model.form, i.for_model.dtype) for i in source.inputs]


def _describe_inputs(source: Source) -> str:
    return ", ".join(f"{i.for_model.form_text} {i.for_model.dtype}" for i in source.inputs)


def _describe_difference(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> str:
    names = sorted(set(first or ()) ^ set(second or ()))
    return f"only one of them has {', '.join(map(printable, names[:5]))}"
