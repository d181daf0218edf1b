"""``cnatool dump``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool.cli.console import ConsoleObserver, note_next, print_json, print_line, print_path
from cnatool.cli.dump_options import with_dump_options
from cnatool.cli.options import DaskOption, DataArgument, ModelArgument, connect_client
from cnatool.cli.parameter_names import with_options
from cnatool.cli.shared_options import print_config as print_options
from cnatool.dumping.options import RUN, STORE
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from cnatool.dumping.preflight import Preflight


@with_dump_options()
def dump(
    model: ModelArgument,
    data: DataArgument = None,
    *,
    options: dict[str, Any],
    store: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="STORE",
            rich_help_panel=STORE,
            help="Path of the store, ending in .zarr, .h5 or .hdf5; by default the model's name "
            "with .zarr, and with the number of the part if there is one.",
        ),
    ] = None,
    client: DaskOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=RUN,
            help="Estimate disk space, time and memory, and exit.",
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel=RUN,
            help="Print one JSON document instead; with --dry-run, the estimate.",
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", rich_help_panel=RUN, help="Print neither notes nor progress."
        ),
    ] = False,
    print_config: bool = False,
) -> None:
    """Run a model over data and store every intermediate tensor.

    Notes and progress go to standard error, the path of the store to standard output. Nothing is
    written if the store would not fit on the disk.
    """
    from cnatool.dumping.dump import dump as dump_model
    from cnatool.dumping.dump import preflight
    from cnatool.dumping.results import dump_result

    if print_config:
        print_options(_decide(model, data, store, options, here=client is None))
        return
    with connect_client(client) as connected, ConsoleObserver(quiet=quiet) as observer:
        options["client"] = connected
        if dry_run:
            estimate = preflight(model, data, store, **options, observer=observer)
            if json:
                print_json(estimate.document(observer.notes).to_json())
            _check_fits(estimate, printed=json)
            return
        dumped = dump_model(model, data, store, **options, observer=observer)
    if json:
        print_json(dump_result(dumped, observer.notes).to_json())
        return
    print_path(dumped.path)
    if not quiet:
        note_next(dumped)


def _check_fits(estimate: Preflight, *, printed: bool) -> None:
    """Print the estimate unless that is done; raise a UsageError if the store would not fit."""
    if not printed:
        for line in estimate.lines():
            print_line(with_options(line))
    if not estimate.fits:
        raise UsageError(estimate.refusal)


def _decide(
    model: Path, data: str | None, store: Path | None, options: dict[str, Any], *, here: bool
) -> dict[str, Any]:
    """Return what a dump decides where no option does, by option.

    What workers decide is not known here.
    """
    from cnatool.dumping.dump import store_path
    from cnatool.dumping.options import DumpOptions
    from cnatool.dumping.plan import plan_dump

    asked = DumpOptions(**options)
    path = store_path(model, store, asked)
    decided: dict[str, Any] = {"output": str(path)}
    if here:
        # A store that is there already decides nothing, unless it is resumed.
        plan = plan_dump(model, data, path, replace(asked, overwrite=not asked.resume))
        runtime = plan.record.runtime
        if runtime is not None:
            # Those of all batches that are run side by side.
            threads = plan.schedule.runs * plan.schedule.threads
            decided |= {"batch-size": runtime.batch_size, "threads": asked.threads or threads}
    return decided
