"""``cnatool dump``."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.arguments import CodecOption, ConstantOption, CustomOpsOption, constants
from cnatool.cli.console import ConsoleObserver, key_values, note
from cnatool.errors import UsageError

__all__ = ["dump"]


class _Keep(StrEnum):
    full = "full"
    statistics = "statistics"


class _Dtype(StrEnum):
    float32 = "float32"
    float16 = "float16"


def dump(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Samples: an IDX images file, a .npz, .npy or .parquet file, a folder of pictures "
            "by class, or a folder with train and test parts of any of these."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The store, in .zarr, .h5 or .hdf5; by default the model's name with .zarr.",
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="A split and its data, instead of DATA. Repeat it."),
    ] = None,
    keep: Annotated[
        _Keep, typer.Option(help="Store whole activations, or only their sums over each sample.")
    ] = _Keep.full,
    tensors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="all|layers|GLOB", help="Which tensors to store: a word, a name, or a glob."
        ),
    ] = None,
    dtype: Annotated[
        _Dtype | None, typer.Option(help="Narrow floating activations to this type.")
    ] = None,
    codec: CodecOption = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples of one run; by default what fits the cache.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take the first N samples of each split.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A word of your own, kept in the store. Repeat it."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="S|1/N", help="Factor for each value; by default 1/255 for 8-bit pictures."
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="M[,M…]", help="Taken off after the scale; one, or one a channel."),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="S[,S…]", help="Divided by after the mean; one, or one a channel."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="[FROM->]TO",
            help="How to arrange a sample: chw, hwc, flat, flat-chw, flat-hwc.",
        ),
    ] = None,
    provider: Annotated[str, typer.Option(help="Where ONNX Runtime runs: cpu, cuda, …")] = "cpu",
    threads: Annotated[
        int, typer.Option(min=0, help="Threads that run the model; 0 for one a processor.")
    ] = 0,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="INPUT=ARRAY",
            help="The array or column that feeds an input, where their names differ. Repeat it.",
        ),
    ] = None,
    constant: ConstantOption = None,
    custom_ops: CustomOpsOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store that is already there.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No notes and no progress.")] = False,
) -> None:
    """Run a model over data and store every intermediate tensor.

    Notes and progress go to standard error; the path of the store to standard output.
    """
    from cnatool.dumping import dump as dump_model

    with ConsoleObserver(quiet=quiet) as observer:
        store = dump_model(
            model,
            data,
            output,
            splits=key_values("--split", split or (), "NAME=PATH"),
            keep=keep.value,
            tensors=tensors or "all",
            dtype=dtype.value if dtype else None,
            codec=codec.value if codec else None,
            batch_size=batch_size,
            limit=limit,
            tags=key_values("--tag", tag or ()),
            provider=provider,
            threads=threads,
            scale=_fraction("--scale", scale),
            mean=_numbers("--mean", mean),
            std=_numbers("--std", std),
            layout=layout,
            inputs=key_values("--input", input_ or (), "INPUT=ARRAY"),
            constants=constants(constant or ()),
            custom_ops=custom_ops or (),
            overwrite=overwrite,
            observer=observer,
        )
    typer.echo(store.path)
    if not quiet:
        note(f"next: cnatool score {shlex.quote(str(store.path))}")


def _fraction(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text}: a number, or a fraction as in 1/255.") from None


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: numbers with commas between them.") from None
