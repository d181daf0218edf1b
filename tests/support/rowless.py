"""Stores without rows, as a kill before the first commit leaves them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

import cnatool
from cnatool.store import writer
from support.fork_server import forks

_CODE = 9


def leave_rowless(folder: Path, kind: str, method: str, name: str) -> str:
    """Begin a dump or a recording in a folder, and end its process before a method of the writer.

    Parameters
    ----------
    folder : Path
        A folder with a network and data.
    kind : str
        ``dump`` or ``record``.
    method : str
        What is not called any more: a class of `cnatool.store.writer` and its method.
    name : str
        The store; it is returned.
    """
    process = forks().Process(target=_die, args=(str(folder), kind, method, name))
    process.start()
    process.join()
    assert process.exitcode == _CODE
    return name


def _die(folder: str, kind: str, method: str, name: str) -> None:
    def die(*arguments: object, **options: object) -> NoReturn:
        os._exit(_CODE)

    kind_of_writer, function = method.split(".")
    setattr(getattr(writer, kind_of_writer), function, die)
    os.chdir(folder)
    if kind == "dump":
        cnatool.dump("net.onnx", "data", name)
    with cnatool.create_store(name, tensors=["z"], outputs=["z"]) as store:
        store.append("train", inputs=np.zeros((3, 2)), outputs=np.zeros((3, 2)))
