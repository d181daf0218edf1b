"""Measurements of full dumps beside the other ways to look inside a network.

Those that are commands or scripts run as whole processes, and so does cnatool's command beside
them: interpreter and imports are part of the times of both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import loops
import numpy as np
from cases import Case, open_case
from dumps import count_few, dump
from figures import Row, compare_times
from machine import find_versions
from processes import Usage, run_process
from registry import NotMeasuredError, Run, register
from timing import Taken, alternate, find_fastest

HERE = Path(__file__).parent


def measure_peers(run: Run, network: str, rows: int) -> list[Row]:
    """Compare a command that dumps everything with each peer that is installed."""
    case = open_case(network, rows, run.cache)
    few, sizes = count_few(case), case.network.batches
    batch = find_fastest(lambda size: loops.run_all_outputs(case, size, few), sizes)
    with run.open_folder() as folder:
        data = folder.path.with_suffix(".npy")
        _write_raw(case, data)
        task = (case.model, data, batch)
        used: dict[str, list[Usage]] = {}

        def ours() -> list[object]:
            store = folder.new_path(".zarr")
            words = ("dump", case.model, data, "-q", "-o", store, "--scale", "1/255")
            return [sys.executable, "-m", "cnatool", *words]

        commands: dict[str, Callable[[], list[object]]] = {"cnatool": ours}
        commands |= dict(_list_peers(run, task, folder.new_path))
        try:
            for _ in range(run.count_rounds(3, 1)):
                for name, command in commands.items():
                    folder.clear()
                    used.setdefault(name, []).append(run_process(*command()))
        finally:
            data.unlink()
    what = f"full dump by a command, {case.title}"
    return [
        compare_times(what, (f"{name}, batch {batch}", used[name]), ("cnatool", used["cnatool"]))
        for name in commands
        if name != "cnatool"
    ]


def _list_peers(
    run: Run, task: tuple[Path, Path, int], new_path: Callable[[str], Path]
) -> Iterator[tuple[str, Callable[[], list[object]]]]:
    """Yield the commands of the peers that are installed; note why others are left out."""

    def script(way: str, suffix: str) -> list[object]:
        words = json.dumps([str(task[0]), str(task[1]), task[2], str(new_path(suffix))])
        return [run.python, HERE / "contestants.py", way, words]

    def polygraphy() -> list[object]:
        model, data, batch = task
        loader = new_path(".py")
        loader.write_text(
            "import numpy as np\n"
            "def load_data():\n"
            f"    data = np.load({str(data)!r}, mmap_mode='r')\n"
            f"    for start in range(0, len(data), {batch}):\n"
            f"        batch = data[start : start + {batch}].astype(np.float32)\n"
            "        yield {'x': batch / np.float32(255)}\n"
        )
        return [
            run.python.parent / "polygraphy", "run", model, "--onnxrt",
            "--onnx-outputs", "mark", "all", "--data-loader-script", loader,
            "--save-outputs", new_path(".json"),
        ]  # fmt: skip

    for name, needed, command in (
        (
            "qdq_loss_debug, nothing stored",
            ("onnxruntime", "onnx"),
            lambda: script("qdq_loss_debug", ".onnx"),
        ),
        ("PyTorch hooks into HDF5", ("torch", "h5py", "onnx"), lambda: script("hooks", ".h5")),
        ("Polygraphy", ("polygraphy", "onnxruntime", "onnx"), polygraphy),
    ):
        if _is_installed(run, name, needed):
            yield name, command


def measure_torchlens(run: Run) -> list[Row]:
    """Compare TorchLens with plain PyTorch, and cnatool with plain ONNX Runtime, on one network."""
    case = open_case("resnet18-norm", run.count_rows(192, 96), run.cache)
    few, rounds = count_few(case), run.count_rounds(3, 2)
    batch = find_fastest(lambda size: loops.run_inference(case, size, few), case.network.batches)
    with run.open_folder() as folder:
        dump(case, folder.new_path(".zarr"), "full", rows=few)
        calls = {
            "peer": lambda: loops.run_inference(case, batch),
            "cnatool": lambda: dump(case, folder.new_path(".zarr"), "full"),
        }
        times = alternate(calls, rounds, folder.clear)
        folder.clear()
        lens = _run_torchlens(run, case, rounds, folder.path)
    what = f"full dump, {case.title}"
    ours, runtime = times["cnatool"], times["peer"]
    rows = [
        compare_times(what, (f"ONNX Runtime alone, batch {batch}", runtime), ("cnatool", ours), 1.6)
    ]
    if lens is not None:
        titles, plain, taken = lens
        alone = (f"PyTorch alone, {titles['plain']}", plain)
        theirs = (f"TorchLens, {titles['torchlens']}", taken)
        rows.append(compare_times(f"TorchLens to disk, {case.title}", alone, theirs))
    return rows


def _run_torchlens(
    run: Run, case: Case, rounds: int, folder: Path
) -> tuple[dict[str, str], list[Taken], list[Taken]] | None:
    """Return what plain PyTorch and TorchLens took, and with which settings."""
    if not _is_installed(run, "TorchLens", ("torchlens", "torch", "onnx")):
        return None
    words = (run.python, "-W", "ignore", HERE / "torchlens_loop.py", case.model, case.images)
    command = [*map(str, words), str(rounds), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasuredError(done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    plain, taken = ([Taken(*each) for each in found["times"][n]] for n in ("plain", "torchlens"))
    return found["titles"], plain, taken


def _is_installed(run: Run, peer: str, needed: Sequence[str]) -> bool:
    """Whether a peer can run; if not, note why."""
    missing = sorted({*needed} - find_versions(run.python, needed).keys())
    if missing:
        run.left_out[peer] = f"{' and '.join(missing)} not installed for {run.python.name}"
    return not missing


def _write_raw(case: Case, path: Path) -> None:
    """Write the images as an array file, which every peer reads."""
    levels = [np.rint(batch * 255).astype(np.uint8) for batch in loops.read_batches(case, 4096)]
    np.save(path, np.concatenate(levels))


register("torchlens/resnet18", measure_torchlens)
register("peers/mlp", lambda run: measure_peers(run, "mlp", run.count_rows(40_000, 10_000)))
register("peers/convnet", lambda run: measure_peers(run, "convnet", run.count_rows(4_096, 1_024)))
register("peers/resnet18", lambda run: measure_peers(run, "resnet18", run.count_rows(256, 64)))
