"""``cnatool report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cnatool.cli.completion import complete_store
from cnatool.cli.console import PATIENCE, ConsoleObserver, exit_incomplete, note, read_pairs
from cnatool.cli.options import (
    ConventionOption,
    InputsOption,
    ScoresOutputOption,
    SetOption,
    StrictOption,
    TestOption,
)

_PAGE = "Page"
_SEVERAL = "report.html"


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY|STORE",
            autocompletion=complete_store,
            help="Stores, folders of stores, and folders of studies.",
        ),
    ],
    path: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.html",
            help="Path of the page; by default a file in the current folder, named after the "
            f"store, or {_SEVERAL} if there are several.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
    open_page: Annotated[
        bool,
        typer.Option("--open", help="Open the page in the browser.", rich_help_panel=_PAGE),
    ] = False,
    title: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Title of the page; by default the name of the store, or the number of stores.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
    max_samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Maximum number of samples to show of each store, and of networks of a study; if "
            "there are more, they are chosen at random.",
            rich_help_panel=_PAGE,
        ),
    ] = 10_000,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing page.", rich_help_panel=_PAGE),
    ] = False,
    test: TestOption = None,
    convention: ConventionOption = "paper",
    overrides: SetOption = None,
    output: ScoresOutputOption = None,
    inputs: InputsOption = None,
    strict: StrictOption = False,
) -> None:
    """Make a page about stores and studies to view in a browser.

    The page is a single file that works offline. It shows what was run, scores with their
    intervals, samples with their pictures, layers, and the networks of a study.
    """
    from cnatool._util.text import bytes_text
    from cnatool.page.report import report as write_report

    if path is None:
        path = _default_path(sources)
    with ConsoleObserver(unit="", patience=PATIENCE) as observer:
        written = write_report(
            sources,
            path,
            title=title,
            max_samples=max_samples,
            test=test,
            convention=convention,
            overrides=read_pairs("--set", overrides),
            output=output,
            inputs=inputs or (),
            overwrite=overwrite,
            strict=strict,
            observer=observer,
        )
    note(f"wrote {path}, {bytes_text(path.stat().st_size)}")
    if open_page:
        _open(path)
    exit_incomplete(written.not_scored)


def _default_path(sources: list[Path]) -> Path:
    """Name the page after the store or study, if there is one."""
    if len(sources) > 1:
        return Path(_SEVERAL)
    name = sources[0].name
    for suffix in (".zip", ".zarr", ".hdf5", ".h5"):
        name = name.removesuffix(suffix)
    return Path(f"{name}.html" if name else _SEVERAL)


def _open(path: Path) -> None:
    """Open a page in the browser of this machine, if it has one."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        note(f"no browser could be started: open {path.resolve()} in one")
