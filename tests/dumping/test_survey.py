"""What a worker of a cluster is told about a dump."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnatool.dumping.options import DumpOptions
from cnatool.dumping.survey import ClusterJob


def test_paths_do_not_depend_on_the_folder_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named: dict[str, Any] = {"tokenizer": "tok", "preprocess": "p.json", "inputs_from": "i.zarr"}
    job = ClusterJob.from_options(
        "m.onnx", "texts.txt", tmp_path / "s.zarr", DumpOptions(**named, max_length=8)
    )
    assert {name: job.options[name] for name in named} == {
        name: str(tmp_path / path) for name, path in named.items()
    }
    assert {tmp_path / path for path in ("m.onnx", "texts.txt", *named.values())} == {*job.places}
