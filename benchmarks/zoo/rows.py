"""Results: one row per network, in a journal while they come in, then in a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

Outcome = Literal[
    "equal",  # every stored tensor equals its recomputed value
    "unchecked",  # none differs, and some could not be recomputed or are disputed
    "different",  # a stored tensor, or a sum, is wrong
    "refused",  # the dump ends with a message, and ONNX Runtime runs the model
    "failed",  # anything else: another error, a crash, too much time or memory
    "runtime",  # ONNX Runtime does not run the model
    "exporter",  # no model file came about
    "no samples",  # no input takes samples, or no result has a row for each
]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """What became of one network.

    Parameters
    ----------
    source, family, name, exporter : str
        As of its `zoo.case.Case`.
    outcome : str
        See `Outcome`.
    message : str
        Why, where the outcome is no equality.
    operators : int
        Nodes of the model, those of subgraphs included.
    tensors, equal, sums, disputed, unchecked, different : int
        Stored tensors, and of them those whose whole values equal the recomputed ones, those of
        which only sums are stored and equal, those that ONNX Runtime by itself computes as they are
        stored and the evaluator otherwise, those that could not be recomputed, and those that
        differ.
    left_out : dict of str to int
        Tensors of the graph that are not stored, by the kind of reason.
    reasons : list of str
        These reasons, word for word, without those of constants and of arithmetic on shapes.
    layers, linear_calls : int or None
        Layers found, and linear operators that the framework ran.
    framework : bool or None
        Whether the model's outputs are those of the framework; None where that is not known.
    seconds, megabytes : float
        Processor time and peak memory of the process.
    versions : str
        Packages that made the row.
    """

    source: str
    family: str
    name: str
    exporter: str
    outcome: Outcome
    message: str = ""
    operators: int = 0
    tensors: int = 0
    equal: int = 0
    sums: int = 0
    disputed: int = 0
    unchecked: int = 0
    different: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    layers: int | None = None
    linear_calls: int | None = None
    framework: bool | None = None
    seconds: float = 0.0
    megabytes: float = 0.0
    versions: str = ""

    @property
    def key(self) -> Key:
        """What tells the row from all others."""
        return self.source, self.name, self.exporter


class Results:
    """The rows of a Parquet file, and of a journal beside it that grows row by row.

    A process that is killed loses at most the row that it is writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = path.with_suffix(".jsonl")
        self.rows: dict[Key, Row] = {}
        if path.exists():
            self.add(read_rows(path))
        self._unfinished = ""
        if self._journal.exists():
            *lines, self._unfinished = self._journal.read_text("utf-8").split("\n")
            self.add(Row(**json.loads(line)) for line in lines)

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows over, in place of those of the same networks."""
        self.rows.update((row.key, row) for row in rows)

    def append(self, row: Row) -> None:
        """Add a row, and write it to the journal."""
        self.add([row])
        if self._unfinished:
            text = self._journal.read_text("utf-8")
            self._journal.write_text(text.removesuffix(self._unfinished), "utf-8")
            self._unfinished = ""
        with self._journal.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(row)) + "\n")

    def save(self) -> None:
        """Write all rows to the Parquet file, and remove the journal."""
        import polars as pl  # its threads must not be there while children are forked

        def cells(name: str) -> list[Any]:
            values = [getattr(self.rows[key], name) for key in sorted(self.rows)]
            # A column of structs would have a field for every reason of any row.
            return [json.dumps(each) for each in values] if name == "left_out" else values

        types = {"reasons": pl.List(pl.String), "layers": pl.Int64, "linear_calls": pl.Int64}
        frame = pl.DataFrame(
            {each.name: cells(each.name) for each in fields(Row)},
            schema_overrides=types | {"framework": pl.Boolean},
        )
        partial = self.path.with_suffix(".partial")
        frame.write_parquet(partial, compression_level=19)
        partial.replace(self.path)
        self._journal.unlink(missing_ok=True)


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a Parquet file."""
    import polars as pl

    return [
        Row(**row | {"left_out": json.loads(row["left_out"])})
        for row in pl.read_parquet(path).to_dicts()
    ]
