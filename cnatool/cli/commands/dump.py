"""``cnatool dump``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnatool.cli.console import (
    ConsoleObserver,
    key_values,
    note_next,
    print_json,
    print_path,
    say,
)
from cnatool.cli.options import (
    CodecOption,
    ColourOption,
    ConstantOption,
    CropOption,
    CustomOpsOption,
    DataArgument,
    FollowLinksOption,
    FormatOption,
    HoldoutOption,
    InputOption,
    InterpolationOption,
    KeepInputsOption,
    LabelOffsetOption,
    LabelsOption,
    LayoutOption,
    LimitOption,
    MeanOption,
    ModelArgument,
    OnError,
    OnErrorOption,
    PreprocessOption,
    ResizeOption,
    ScaleOption,
    SeedOption,
    SplitColumnOption,
    SplitOption,
    StdOption,
    prepared_by,
    read_constants,
)
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from cnatool.dumping.preflight import Preflight
    from cnatool.records.weights import Flatness


class _Keep(StrEnum):
    full = "full"
    statistics = "statistics"


class _Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"


def dump(
    model: ModelArgument,
    data: DataArgument = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="STORE",
            help="The store, in .zarr, .h5 or .hdf5; by default the model's name with .zarr.",
        ),
    ] = None,
    split: SplitOption = None,
    format_: FormatOption = None,
    labels: LabelsOption = None,
    label_offset: LabelOffsetOption = 0,
    split_column: SplitColumnOption = None,
    holdout: HoldoutOption = None,
    seed: SeedOption = 0,
    on_error: OnErrorOption = OnError.stop,
    follow_links: FollowLinksOption = False,
    keep_inputs: KeepInputsOption = None,
    inputs_from: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="A finished store of the same data, whose raw inputs are referred to, not copied.",
        ),
    ] = None,
    keep: Annotated[
        _Keep, typer.Option(help="Store whole activations, or only per-sample sums.")
    ] = _Keep.full,
    tensors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="all|layers|GLOB|!GLOB",
            help="Which tensors to store: a word, a name, or a glob; behind a ! what to leave out.",
        ),
    ] = None,
    dtype: Annotated[
        _Dtype | None, typer.Option(help="Narrow floating activations to this type.")
    ] = None,
    statistics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|all",
            help="Statistics besides per-sample sums: abs_sum, square_sum, positive_sum, "
            "nonzero_count, min, max. Repeatable.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Samples per run; by default as many as fit the cache."
        ),
    ] = None,
    limit: LimitOption = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Metadata to keep in the store. Repeatable."),
    ] = None,
    preprocess: PreprocessOption = None,
    resize: ResizeOption = None,
    crop: CropOption = None,
    interpolation: InterpolationOption = None,
    colour: ColourOption = None,
    scale: ScaleOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    layout: LayoutOption = None,
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="Execution provider of ONNX Runtime: cpu, cuda, …")
    ] = "cpu",
    threads: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Threads that run the model; 0 for one per processor."
        ),
    ] = 0,
    input_: InputOption = None,
    constant: ConstantOption = None,
    custom_ops: CustomOpsOption = None,
    initial_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The network before training, to measure the distance of its weights.",
        ),
    ] = None,
    flatness: Annotated[
        bool,
        typer.Option(
            "--flatness",
            help="Measure how much noise on the weights the network tolerates.",
        ),
    ] = False,
    flatness_samples: Annotated[
        int | None, typer.Option(metavar="N", help="Training samples for --flatness; default 2000.")
    ] = None,
    flatness_draws: Annotated[
        int | None, typer.Option(metavar="N", help="Noise samples for --flatness; default 10.")
    ] = None,
    flatness_target: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Loss of accuracy that --flatness allows; default 0.1."),
    ] = None,
    codec: CodecOption = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing store; if the dump is interrupted, the old one is kept as "
            "NAME.previous.zarr.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted dump with the same options; start one where there is "
            "none, and leave a complete store alone.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate disk space, time and memory, and stop."),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON document instead, with --dry-run what it would take."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print at the end which stage was the slowest.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No notes and no progress.")] = False,
) -> None:
    """Run a model over data and store every intermediate tensor.

    Notes and progress go to standard error; the path of the store to standard output. Nothing is
    written where the store would not fit the disk.
    """
    from cnatool.dumping.dump import dump as dump_model
    from cnatool.dumping.dump import preflight
    from cnatool.dumping.options import DumpOptions
    from cnatool.dumping.results import dump_result

    with ConsoleObserver(quiet=quiet) as observer:
        options = DumpOptions(
            splits=key_values("--split", split or (), "NAME=PATH"),
            keep=keep.value,
            tensors=tensors or "all",
            dtype=dtype.value if dtype else None,
            statistics=statistics or (),
            batch_size=batch_size,
            limit=limit,
            tags=key_values("--tag", tag or ()),
            provider=provider,
            threads=threads,
            **prepared_by(
                preprocess, resize, crop, interpolation, colour, scale, mean, std, layout
            ),
            format=format_,
            labels=labels,
            label_offset=label_offset,
            split_column=split_column,
            holdout=holdout,
            seed=seed,
            on_error=on_error.value,
            follow_links=follow_links,
            keep_inputs=keep_inputs.value if keep_inputs else None,
            inputs_from=inputs_from,
            inputs=key_values("--input", input_ or (), "INPUT=ARRAY"),
            constants=read_constants(constant or ()),
            custom_ops=custom_ops or (),
            initial_model=initial_model,
            flatness=_flatness(
                seed,
                asked=flatness,
                samples=flatness_samples,
                draws=flatness_draws,
                target=flatness_target,
            ),
            codec=codec.value if codec else None,
            overwrite=overwrite,
            resume=resume,
            verbose=verbose,
            observer=observer,
        )
        if dry_run:
            found = preflight(model, data, output, **options)
            if json:
                print_json(found.document(observer.notes).to_json())
            _check_fits(found, said=json)
            return
        store = dump_model(model, data, output, **options)
    if json:
        print_json(dump_result(store, observer.notes).to_json())
        return
    print_path(store.path)
    if not quiet:
        note_next(store)


def _flatness(seed: int, *, asked: bool, **given: float | None) -> Flatness | bool:
    """Read how flatness is to be measured."""
    import msgspec

    from cnatool.records.weights import Flatness

    fields = {name: value for name, value in given.items() if value is not None}
    if fields and not asked:
        raise UsageError(f"--flatness-{next(iter(fields))}: pass --flatness too.")
    return asked and msgspec.convert({**fields, "seed": seed}, Flatness)


def _check_fits(found: Preflight, *, said: bool) -> None:
    """Print what a dump would take, unless that was said already; refuse as the dump would."""
    if not said:
        for line in found.lines():
            say(line)
    if not found.fits:
        raise UsageError(found.refusal)
