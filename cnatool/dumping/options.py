"""What a dump can be told, checked before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_args

from cnatool._util.local_paths import real_path
from cnatool.backend.schedule import processors
from cnatool.data.preprocess.recipe import Recipe, read_recipe, replace_fields
from cnatool.data.source import ImageOptions
from cnatool.data.splits import ReaderOptions
from cnatool.dumping.plan import Choices, FeedChoices, RunChoices
from cnatool.errors import UsageError
from cnatool.records.choices import Codec, Kept, KeptInputs, Narrowing, OnError, Statistic
from cnatool.records.weights import Flatness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from cnatool._util.observer import Observer
    from cnatool.records.choices import Colour, Interpolation
    from cnatool.records.run import RuntimeRecord

# More would only wait for each other, and each takes memory.
_THREADS_A_PROCESSOR = 8


class PreparedBy(TypedDict, total=False):
    """The keyword arguments of `dump` that say how samples are prepared."""

    preprocess: str | Path | None
    resize: int | tuple[int, int] | None
    crop: int | tuple[int, int] | None
    interpolation: Interpolation | None
    colour: Colour | None
    scale: float | None
    mean: Sequence[float]
    std: Sequence[float]
    layout: str | None


class DumpOptions(PreparedBy, total=False):
    """The keyword arguments of `dump`, which `preflight` takes too."""

    splits: Mapping[str, str | Path] | None
    keep: Kept
    tensors: str | Sequence[str]
    dtype: Narrowing | None
    statistics: str | Sequence[str]
    batch_size: int | None
    limit: int | None
    tags: Mapping[str, str] | None
    provider: str
    threads: int
    format: str | None
    labels: str | None
    label_offset: int
    split_column: str | None
    holdout: float | None
    seed: int
    on_error: OnError
    follow_links: bool
    keep_inputs: KeptInputs | None
    inputs_from: str | Path | None
    inputs: Mapping[str, str] | None
    constants: Mapping[str, ArrayLike] | None
    custom_ops: Sequence[str | Path]
    initial_model: str | Path | None
    flatness: Flatness | bool
    codec: Codec | None
    overwrite: bool
    resume: bool
    verbose: bool
    observer: Observer | None


def choices(
    options: DumpOptions, begun: RuntimeRecord | None
) -> tuple[Choices, RunChoices, FeedChoices]:
    """Give the options to the rooms that know them.

    Parameters
    ----------
    options : DumpOptions
    begun : RuntimeRecord or None
        How the dump that is resumed ran, from which comes what ``options`` leave open.
    """
    tensors = options.get("tensors", "all")
    recipe = _recipe(options)
    threads = options.get("threads", 0)
    return (
        Choices(
            keep=options.get("keep", "full"),
            tensors=(tensors,) if isinstance(tensors, str) else tuple(tensors),
            dtype=options.get("dtype"),
            statistics=_chosen_statistics(options.get("statistics", "sum")),
            limit=options.get("limit"),
            tags=dict(options.get("tags") or {}),
        ),
        RunChoices(
            batch_size=options.get("batch_size") or (begun.batch_size if begun else None),
            provider=options.get("provider", "cpu"),
            threads=threads,
            custom_ops=tuple(map(Path, options.get("custom_ops", ()))),
            operator_threads=begun.threads if begun and not threads else None,
        ),
        FeedChoices(
            preprocessing=recipe.options(),
            reading=ReaderOptions(
                format=options.get("format"),
                labels=options.get("labels"),
                label_offset=options.get("label_offset", 0),
                split_column=options.get("split_column"),
                holdout=options.get("holdout"),
                seed=options.get("seed", 0),
                images=ImageOptions(
                    recipe.geometry(),
                    options.get("keep_inputs"),
                    options.get("on_error") == "skip",
                    recipe.axes(),
                    options.get("follow_links", False),
                ),
            ),
            arrays=dict(options.get("inputs") or {}),
            constants=dict(options.get("constants") or {}),
        ),
    )


def check_options(options: DumpOptions) -> None:
    """Refuse what the type checker would, before anything is written.

    Raises
    ------
    UsageError
        If an option cannot be meant.
    """
    if options.get("resume") and options.get("overwrite"):
        raise UsageError(
            "--resume goes on with a store and --overwrite begins anew: pass one of them."
        )
    keep, dtype = options.get("keep", "full"), options.get("dtype")
    if keep not in get_args(Kept):
        raise UsageError(f"keep={keep!r}: full or statistics.")
    if dtype is not None and dtype not in get_args(Narrowing):
        raise UsageError(f"dtype={dtype!r}: float32 or float16.")
    kept, on_error = options.get("keep_inputs"), options.get("on_error", "stop")
    if kept is not None and kept not in get_args(KeptInputs):
        raise UsageError(f"keep_inputs={kept!r}: values or levels.")
    if on_error not in get_args(OnError):
        raise UsageError(f"on_error={on_error!r}: stop or skip.")
    if dtype is not None and keep == "statistics":
        raise UsageError(
            f"--dtype {dtype} narrows activations, and --keep statistics stores none: leave one of "
            "them out."
        )
    codec = options.get("codec")
    if codec is not None and codec not in get_args(Codec):
        raise UsageError(f"codec={codec!r}: {', '.join(get_args(Codec))}.")
    counts = (("--batch-size", options.get("batch_size")), ("--limit", options.get("limit")))
    for option, count in counts:
        if count is not None and count < 1:
            raise UsageError(f"{option} {count}: at least 1.")
    threads, most = options.get("threads", 0), _THREADS_A_PROCESSOR * processors()
    if not 0 <= threads <= most:
        raise UsageError(
            f"--threads {threads}: up to {most} on {processors()} processors, or 0 for one each."
        )
    _check_flatness(options)
    for key, value in (options.get("tags") or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise UsageError(f"tag {key!r}: {value!r}: both must be text.")


def flatness_settings(options: DumpOptions) -> Flatness | None:
    """Say how flatness is to be measured; None where it is not."""
    asked = options.get("flatness", False)
    return asked if isinstance(asked, Flatness) else Flatness() if asked else None


def _check_flatness(options: DumpOptions) -> None:
    settings = flatness_settings(options)
    if settings is None:
        return
    for name, count in (("samples", settings.samples), ("draws", settings.draws)):
        if count < 1:
            raise UsageError(f"--flatness-{name} {count}: at least 1.")
    if not 0 < settings.target < 1:
        raise UsageError(f"--flatness-target {settings.target:g}: between 0 and 1.")
    if settings.seed < 0:
        raise UsageError(f"--seed {settings.seed}: 0 or more.")


def _recipe(options: DumpOptions) -> Recipe:
    """Read how samples are prepared: from a file, whose fields the other options replace."""
    path = options.get("preprocess")
    if path is not None and not isinstance(path, str | Path):
        raise UsageError(f"preprocess={path!r}: the path of a file.")
    recipe = Recipe("cnatool.preprocess/1") if path is None else read_recipe(path)
    fields: dict[str, Any] = {
        "resize": options.get("resize"),
        "crop": options.get("crop"),
        "interpolation": options.get("interpolation"),
        "colour": options.get("colour"),
        "layout": options.get("layout"),
        "scale": options.get("scale"),
        "mean": _floats("mean", options.get("mean", ())),
        "std": _floats("std", options.get("std", ())),
    }
    given = {name: value for name, value in fields.items() if value is not None}
    if "resize" in given:
        given["fit"] = None
    recipe = replace_fields(recipe, given)
    if "interpolation" in given and recipe.resize is None:
        raise UsageError("--interpolation does nothing without --resize.")
    return recipe


def _floats(name: str, values: Sequence[float]) -> tuple[float, ...] | None:
    try:
        return tuple(map(float, values)) or None
    except (TypeError, ValueError):
        raise UsageError(f"{name}={values!r}: numbers.") from None


def _chosen_statistics(names: str | Sequence[str]) -> tuple[Statistic, ...]:
    known = get_args(Statistic)
    wanted = {names} if isinstance(names, str) else set(names)
    unknown = sorted(wanted - {"all", *known})
    if unknown:
        raise UsageError(f"--statistics {unknown[0]}: there are {', '.join(known)}, and all.")
    # Without sums there is nothing to score.
    return tuple(name for name in known if name in {"sum", *wanted} or "all" in wanted)


def check_apart(store: Path, sources: Sequence[str | Path]) -> None:
    """Refuse to replace a store by a dump of what lies inside it."""
    for source in sources:
        # What follows :: is an array inside.
        if real_path(Path(str(source).partition("::")[0])).is_relative_to(real_path(store)):
            raise UsageError(f"{source} lies inside {store}, which this dump would replace.")
