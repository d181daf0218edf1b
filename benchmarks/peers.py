"""What does a full dump cost beside other ways to look inside a network?

Every intermediate tensor of a network, whole, by cnatool and by its peers, over the same images in
the same batches. Times alternate in one process and are shown as ratios to cnatool's; Polygraphy is
a command, so it is compared with cnatool's command. Peak memory is that of whole processes over two
numbers of rows (Linux only).

The goal: a full dump takes at most 1.25 times the longer of two parts that it needs: inference that
outputs every tensor, and NumPy writing as many bytes. Memory must not grow with rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
import onnxruntime as ort
from networks import convnet, make_digits, mlp, resnet18
from numpy.typing import NDArray
from processes import run_process
from timing import seconds

import cnatool

# Title, network, shape of a sample, rows, and a batch that suits every contestant.
NETWORKS = {
    "mlp": ("MLP 784-500-500-500-10", mlp, (784,), 40_000, 256),
    "convnet": ("convnet 16-32-64", convnet, (1, 28, 28), 4_096, 32),
    "resnet18": ("ResNet-18", resnet18, (1, 28, 28), 256, 8),
}
# They take many times as long as the others, so they run one round only.
SLOW = ("PyTorch hooks to HDF5", "Polygraphy, command")
INPUT = "x"
PROVIDERS = ["CPUExecutionProvider"]


class Case:
    """A network, its images, and a folder for output."""

    def __init__(self, name: str, folder: Path, rows: int) -> None:
        self.title, write, self.shape, _, self.batch = NETWORKS[name]
        self.name, self.folder, self.rows = name, folder, rows
        self.model = folder / f"{name}.onnx"
        self.data = folder / f"{name}-{rows}.npy"
        if not self.model.exists():
            write(self.model)
        if not self.data.exists():
            images = make_digits(rows, np.random.default_rng(0))
            np.save(self.data, images.reshape(rows, *self.shape))

    def batches(self) -> Iterator[NDArray[np.float32]]:
        """Read and preprocess as a user's loop would."""
        data = np.load(self.data, mmap_mode="r")
        for start in range(0, self.rows, self.batch):
            yield data[start : start + self.batch].astype(np.float32) / np.float32(255)

    def new_path(self, suffix: str = "") -> Path:
        """Return a new path."""
        return self.folder / f"out-{uuid4()}{suffix}"


Contestant = Callable[[Case], float | None]


def expose_tensors(model: Path) -> onnx.ModelProto:
    """Return the model with every tensor as an output."""
    loaded = onnx.load(model)
    names = [name for node in loaded.graph.node for name in node.output]
    outputs = {output.name for output in loaded.graph.output}
    loaded.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in outputs)
    return loaded


def run_inference(case: Case) -> None:
    """Run the model and discard the results."""
    session = ort.InferenceSession(case.model, providers=PROVIDERS)
    for batch in case.batches():
        session.run(None, {INPUT: batch})


def run_all_outputs(case: Case) -> None:
    """Run the model, fetch every tensor, and discard the results."""
    model = expose_tensors(case.model).SerializeToString()
    session = ort.InferenceSession(model, providers=PROVIDERS)
    for batch in case.batches():
        session.run(None, {INPUT: batch})


def write_files(case: Case) -> float:
    """Write as many bytes as the tensors have, one file per tensor; return the time of writing."""
    model = expose_tensors(case.model).SerializeToString()
    session = ort.InferenceSession(model, providers=PROVIDERS)
    arrays = session.run(None, {INPUT: next(case.batches())})
    folder = case.new_path()
    folder.mkdir()

    def write() -> None:
        with ExitStack() as stack:
            files = [stack.enter_context((folder / f"{i}").open("wb")) for i in range(len(arrays))]
            for start in range(0, case.rows, case.batch):
                for array, file in zip(arrays, files, strict=True):
                    array[: case.rows - start].tofile(file)

    return seconds(write)


def dump_store(case: Case) -> None:
    """Dump into a store."""
    cnatool.dump(case.model, case.data, case.new_path(".zarr"), scale=1 / 255)


def run_cnatool(case: Case) -> None:
    """Dump with the command, including interpreter and imports."""
    command = Path(sys.executable).parent / "cnatool"
    _quiet(command, "dump", case.model, case.data, "-o", case.new_path(".zarr"), "--scale", "1/255")


def collect_with_runtime(case: Case) -> None:
    """Collect with ONNX Runtime's helpers, whose result stays in memory."""
    from onnxruntime.quantization import CalibrationDataReader, qdq_loss_debug

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = case.batches()

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    augmented = case.new_path(".onnx")
    qdq_loss_debug.modify_model_output_intermediate_tensors(str(case.model), str(augmented))
    qdq_loss_debug.collect_activations(str(augmented), Reader(), execution_providers=PROVIDERS)


def record_hooks(case: Case) -> None:
    """Run the network in PyTorch, with hooks that append every output to HDF5."""
    import h5py
    import torch
    from torch_twin import build_twin

    model = build_twin(case.model)
    caught: dict[str, Any] = {}

    def catch(name: str, module: object, inputs: object, output: Any) -> None:
        caught[name] = output.detach().numpy()

    for name, module in model.named_modules():
        if not any(module.children()):
            module.register_forward_hook(partial(catch, name))
    with h5py.File(case.new_path(".h5"), "w") as file, torch.no_grad():
        for batch in case.batches():
            caught.clear()
            model(torch.from_numpy(batch))
            for name, values in caught.items():
                if name not in file:
                    shape = (None, *values.shape[1:])
                    file.create_dataset(name, (0, *values.shape[1:]), "f4", maxshape=shape)
                dataset = file[name]
                dataset.resize(len(dataset) + len(values), axis=0)
                dataset[-len(values) :] = values


def run_polygraphy(case: Case, python: Path) -> None:
    """Run Polygraphy's command over all batches."""
    loader = case.new_path(".py")
    loader.write_text(
        "import numpy as np\n"
        "def load_data():\n"
        f"    data = np.load({str(case.data)!r}, mmap_mode='r')\n"
        f"    for start in range(0, {case.rows}, {case.batch}):\n"
        f"        batch = data[start : start + {case.batch}].astype(np.float32)\n"
        f"        yield {{{INPUT!r}: batch / np.float32(255)}}\n"
    )
    _quiet(
        python.parent / "polygraphy", "run", case.model, "--onnxrt",
        "--onnx-outputs", "mark", "all", "--data-loader-script", loader,
        "--save-outputs", case.new_path(".json"),
    )  # fmt: skip


def _quiet(*words: object) -> None:
    subprocess.run(
        list(map(str, words)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def find_contestants(
    venv: Path | None,
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the contestants that can run here, and why the others cannot."""
    calls: dict[str, Contestant] = {
        "inference": run_inference,
        "inference, all outputs": run_all_outputs,
        "NumPy writes the bytes": write_files,
        "cnatool": dump_store,
        "qdq_loss_debug": collect_with_runtime,
    }
    missing = {}
    if all(importlib.util.find_spec(name) for name in ("torch", "h5py")):
        calls["PyTorch hooks to HDF5"] = record_hooks
    else:
        missing["PyTorch hooks to HDF5"] = "torch and h5py are not both installed"
    python = venv / "bin" / "python" if venv else Path(sys.executable)
    if (python.parent / "polygraphy").exists():
        calls["cnatool, command"] = run_cnatool
        calls["Polygraphy, command"] = partial(run_polygraphy, python=python)
    else:
        missing["Polygraphy"] = (
            "no polygraphy command; `pip install polygraphy onnxruntime onnx` in a separate "
            "environment, and name that with --polygraphy"
        )
    return calls, missing


def measure_times(case: Case, calls: dict[str, Contestant], rounds: int) -> None:
    """Print the time of each contestant, and its ratio to cnatool's."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            if name in SLOW and round_ != 1:
                continue
            start = time.perf_counter()
            duration = call(case) or time.perf_counter() - start
            if round_:
                times[name].append(duration)
            for path in case.folder.glob("out-*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{case.title}, {case.rows} rows:")
    for name, taken in times.items():
        ours = times["cnatool, command" if "command" in name else "cnatool"]
        ratios = [b / a for a, b in zip(ours, taken, strict=False)]
        print(
            f"  {name:24} {statistics.median(taken):7.3f} s, {statistics.median(ratios):6.2f} "
            f"times cnatool ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    floors = zip(times["inference, all outputs"], times["NumPy writes the bytes"], strict=True)
    ratios = [a / max(b) for a, b in zip(times["cnatool"], floors, strict=True)]
    print(
        f"  cnatool against the longer of all outputs and NumPy: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def measure_memory(name: str, folder: Path, calls: list[str], options: argparse.Namespace) -> None:
    """Print the peak memory of a process per contestant, over two numbers of rows."""
    rows = NETWORKS[name][3]
    print(f"{NETWORKS[name][0]}, peak memory:")
    for call in ("", *calls):  # the first creates the files
        peaks = {}
        for count in (rows // 4, rows):
            asked = json.dumps([name, str(folder), count, call])
            words = [sys.executable, __file__, "--alone", asked]
            if options.polygraphy:
                words += ["--polygraphy", options.polygraphy]
            peaks[count] = run_process(*words).megabytes
            for path in folder.glob("out-*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not call:
            continue
        each = ", ".join(f"{peak:5.0f} MB over {count}" for count, peak in peaks.items())
        print(f"  {call:24} {each}; ratio {peaks[rows] / peaks[rows // 4]:.2f}", flush=True)


def main() -> None:
    """Print times and peak memory of every contestant on every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--polygraphy", type=Path, help="a virtual environment that holds it")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    calls, missing = find_contestants(options.polygraphy)
    if options.alone:
        name, folder, rows, call = json.loads(options.alone)
        # The measured peak is the larger of this process and a command that it starts.
        case = Case(name, Path(folder), rows)
        if call:
            calls[call](case)
        return
    for name, reason in missing.items():
        print(f"{name} left out: {reason}")
    # The peak of a process includes that of its parent, so memory is measured while that is small.
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            measure_memory(name, Path(folder), list(calls), options)
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            measure_times(Case(name, Path(folder), NETWORKS[name][3]), calls, options.rounds)


if __name__ == "__main__":
    main()
