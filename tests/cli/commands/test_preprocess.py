"""Pictures as users have them, resized and cropped for a model: through the installed command."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from campaigns.processes import Commands
from PIL import Image
from support.command import run
from support.dumps import commit_often, same_arrays
from support.networks import Builder, saved

import cnatool
from cnatool.errors import DataError, UsageError

TRAIN, TEST = 60, 20
DAMAGED = ("train/b/007.png", "train/b/055.png", "test/a/010.png")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A network for RGB pictures of 16×16, and pictures that are all of another size."""
    net = Builder(0)
    net.conv("x", "z1", 3, 4, 3)
    net.node("Relu", ["z1"], "a1")
    net.conv("a1", "z2", 4, 5, 3)
    net.node("Relu", ["z2"], "a2")
    net.node("GlobalAveragePool", ["a2"], "p")
    net.node("Flatten", ["p"], "f")
    net.gemm("f", "y", 5, 2)
    saved(net.model({"x": ("N", 3, 16, 16)}, {"y": ("N", 2)}), tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for i in range(count):
            h, w = (int(side) for side in rng.integers(12, 40, 2))
            shape = (h, w) if i % 5 == 0 else (h, w, 3)
            path = tmp_path / "data" / split / "ab"[i % 2] / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return tmp_path


def damage(folder: Path) -> None:
    for name in DAMAGED:
        path = folder / "data" / name
        path.write_bytes(path.read_bytes()[:70])


def literally(path: Path, offset: Callable[[float], int] = round) -> np.ndarray[Any, Any]:
    """Shorter side 18, bicubic; the middle 16×16; RGB: with Pillow alone.

    torchvision rounds the corner's place half to even, transformers rounds it down.
    """
    picture = Image.open(path).convert("RGB")
    w, h = picture.size
    size = (18, int(18 * h / w)) if w <= h else (int(18 * w / h), 18)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = offset((size[0] - 16) / 2), offset((size[1] - 16) / 2)
    return np.asarray(picture.crop((left, top, left + 16, top + 16)))


def entropy(path: Path) -> float:
    values = np.asarray(Image.open(path))
    p = np.unique(values, return_counts=True)[1] / values.size
    return float(-(p * np.log2(p)).sum())


WORDS = ("--resize", "18", "--crop", "16", "--interpolation", "bicubic", "--colour", "rgb")
NORMAL = ("--mean", "0.5,0.4,0.3", "--std", "0.2")
OWN = {
    "schema": "cnatool.preprocess/1",
    "resize": 18,
    "crop": 16,
    "interpolation": "bicubic",
    "colour": "rgb",
    "mean": [0.5, 0.4, 0.3],
    "std": 0.2,
}
TRANSFORMERS = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 18},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 16, "width": 16},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.2],
    "do_convert_rgb": True,
}


@pytest.mark.parametrize("way", ["options", "own.json", "preprocessor_config.json"])
def test_the_model_is_fed_what_training_fed_it(way: str, here: Path) -> None:
    words: tuple[str, ...] = WORDS + NORMAL
    if way != "options":
        (here / way).write_text(json.dumps(OWN if way == "own.json" else TRANSFORMERS))
        words = ("--preprocess", way)
    result = run("dump", "net.onnx", "data", *words, cwd=here)
    assert "shorter side of 18 (bicubic), cropped to the centre 16×16" in result.stderr
    splits = cnatool.open(here / "net.zarr").splits
    for name in ("train", "test"):
        paths = [here / "data" / name / one for one in splits[name].ids[:]]
        offset = int if way == "preprocessor_config.json" else round
        np.savez(here / f"{name}.npz", x=[literally(path, offset) for path in paths])
        run("dump", "net.onnx", f"{name}.npz", "-o", "by.zarr", "--overwrite", *NORMAL, cwd=here)
        fed = cnatool.open(here / "by.zarr").splits["all"]
        np.testing.assert_allclose(splits[name].outputs()[:], fed.outputs()[:], rtol=1e-6)
    run("score", "net.zarr", "--samples", "s.csv", cwd=here)
    frame = pl.read_csv(here / "s.csv")
    expected = [entropy(here / "data" / r["split"] / r["id"]) for r in frame.to_dicts()]
    np.testing.assert_allclose(frame["alpha"], expected, rtol=1e-12)


def test_levels_give_the_same_alpha_bit_for_bit(here: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (50, 16, 16, 3), np.uint8) // 3
    np.savez(here / "x.npz", x=x)
    for convention in ("paper", "reference"):
        alphas = []
        for kept in ("values", "levels"):
            words = ("x.npz", "--keep-inputs", kept, "-o", f"{kept}.zarr", "--overwrite")
            said = run("dump", "net.onnx", *words, cwd=here).stderr
            assert ("--keep-inputs values" in said) == (kept == "levels")
            split = cnatool.open(here / f"{kept}.zarr").splits["all"]
            assert split.holds_levels() == (kept == "levels")
            counted = [np.bincount(one.ravel(), minlength=256) for one in x]
            np.testing.assert_array_equal(
                split.inputs()[:][:, :256], x if kept == "values" else counted
            )
            words = (f"{kept}.zarr", "--convention", convention, "--samples", f"{kept}.parquet")
            run("score", *words, cwd=here)
            alphas.append(pl.read_parquet(here / f"{kept}.parquet")["alpha"])
        assert alphas[0].to_list() == alphas[1].to_list()
    compression = ("--set", "alpha=compression", "--set", "codec=png")
    run("score", "values.zarr", *compression, cwd=here)
    refused = run("score", "levels.zarr", *compression, cwd=here, code=2)
    assert "the store holds only how often each level occurs in an input" in refused.stderr


@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_damaged_pictures_are_skipped_and_listed(form: str, here: Path) -> None:
    damage(here)
    store = f"s.{form}"
    words = ("dump", "net.onnx", "data", "-o", store, *WORDS)
    result = run(*words, cwd=here, code=2)
    assert "007.png is damaged" in result.stderr
    assert "--on-error skip leaves such samples out" in result.stderr
    result = run(*words, "--on-error", "skip", cwd=here)
    assert "train: 2 samples could not be read and were skipped" in result.stderr
    run("verify", store, cwd=here)
    splits = cnatool.open(here / store).splits
    skipped = [f"{name}/{one.id}" for name in splits for one in splits[name].record.skipped]
    assert skipped == list(DAMAGED)
    for name, rows in (("train", TRAIN - 2), ("test", TEST - 1)):
        split = splits[name]
        assert (len(split), split.record.rows, split.record.taken) == (
            rows,
            rows,
            rows + 3 - len([one for one in DAMAGED if not one.startswith(name)]),
        )
        assert len(split.ids[:]) == len(split.outputs()[:]) == len(split.labels[:]) == rows
    listed = run("inspect", store, cwd=here, code=None).stdout
    assert "58 of 60 samples, 2 skipped" in listed
    assert "skipped b/007.png: " in listed
    score = run("score", store, cwd=here, code=None)
    assert "2 of 60 samples of train, 1 of 20 samples of test (inspect" in score.stdout
    found = json.loads(run("score", store, "--json", cwd=here, code=None).stdout)
    assert (found["splits"]["train"]["samples"], found["splits"]["train"]["skipped"]) == (58, 2)
    # A store with fewer rows than samples is resumed, converted and left alone as any other.
    again = run(*words, "--on-error", "skip", "--resume", cwd=here, code=None)
    assert "is complete" in again.stderr
    run(*words, "--resume", cwd=here, code=2)
    other = "t.h5" if form == "zarr" else "t.zarr"
    run("convert", store, other, cwd=here)
    run("verify", other, cwd=here)


@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_skipping_where_nothing_is_damaged(form: str, here: Path) -> None:
    words = ("dump", "net.onnx", "data", "-o", f"s.{form}", *WORDS, "--on-error", "skip")
    for more in ((), ("--resume",)):
        run(*words, *more, cwd=here)
        run("verify", f"s.{form}", cwd=here)
        splits = cnatool.open(here / f"s.{form}").splits
        assert [len(split.outputs()[:]) for split in splits.values()] == [TRAIN, TEST]
        run("score", f"s.{form}", cwd=here)


def test_links_out_of_a_folder_where_they_are_allowed(here: Path) -> None:
    moved = here / "elsewhere.png"
    (here / "data/train/a/002.png").rename(moved)
    (here / "data/train/a/002.png").symlink_to(moved)
    words = ("dump", "net.onnx", "data", "-o", "s.zarr", *WORDS)
    refused = run(*words, cwd=here, code=2)
    assert "002.png is a symbolic link to a place outside" in refused.stderr
    run(*words, "--follow-links", cwd=here)
    assert "a/002.png" in list(cnatool.open(here / "s.zarr").splits["train"].ids[:])


def test_many_damaged_pictures_at_the_start(here: Path) -> None:
    source = here / "data/train/a/002.png"
    for i in range(150):
        (here / f"data/train/a/-{i:03}.png").write_bytes(b"x")
    words = (*WORDS, "--on-error", "skip", "--split", "train=data/train")
    result = run("dump", "net.onnx", *words, cwd=here)
    assert "150 samples could not be read" in result.stderr
    words = ("preprocess", "show", "net.onnx", "data/train", *WORDS)
    result = run(*words, "--on-error", "skip", "--format", "pictures", "--samples", "4", cwd=here)
    assert source.exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"colour": "purple"}, "`colour='purple'`: as-is or rgb"),
        ({"resize": (8,)}, "resize: expected array of length 2"),
        ({"resize": 8.0}, "resize: expected int"),
        ({"resize": True}, "resize: expected int"),
        ({"crop": "8"}, "crop: expected int"),
        ({"resize": 8, "interpolation": "x"}, "`interpolation='x'`: nearest or box"),
        ({"resize": np.int64(8)}, "numpy.int64"),
        ({"mean": ["a"]}, "mean=.*numbers"),
        ({"preprocess": 3}, "preprocess=3"),
    ],
)
def test_what_cannot_be_meant_from_python(options: Any, text: str, here: Path) -> None:
    with pytest.raises(UsageError, match=text):
        cnatool.dump(here / "net.onnx", here / "data", here / "s.zarr", **options)
    assert not (here / "s.zarr").exists()


@pytest.mark.parametrize("form", ["zarr", "h5"])
def test_killed_dumps_that_skip_are_resumed(
    form: str, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Enough rows for several commits, with damaged ones on both sides of most.
    for i in range(60, 240):
        shutil.copy(here / f"data/train/a/{i % 30 * 2:03}.png", here / f"data/train/a/{i}.png")
    damage(here)
    for i in range(63, 240, 29):
        (here / f"data/train/a/{i}.png").write_bytes(b"x")
    words = ("dump", "net.onnx", "data", *WORDS, "--on-error", "skip", "--batch-size", 16, "-o")
    lots = random.Random(form)
    store = here / f"s.{form}"
    with Commands(tmp_path_factory.mktemp("said")) as commands:
        whole = commands.run(*words, f"whole.{form}", cwd=here)
        assert len(cnatool.open(here / f"whole.{form}").splits["train"].record.skipped) == 9
        for _ in range(2):
            running = commands.start(*words, store.name, "--resume", cwd=here)
            running.wait(lots.uniform(0, 0.8) * whole.seconds)
            running.send(signal.SIGKILL)
            running.ended()
        ended = commands.run(*words, store.name, "--resume", cwd=here)
        assert ended.code == 0, ended.errors
        same_arrays(store, here / f"whole.{form}")


def test_other_pictures_with_the_same_levels_are_not_gone_on_with(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    for i in range(60, 200):
        shutil.copy(here / f"data/train/a/{i % 30 * 2:03}.png", here / f"data/train/a/{i}.png")
    (here / "data/train/b/059.png").write_bytes(b"x")
    options: Any = {"resize": (16, 16), "colour": "rgb", "batch_size": 16}
    with pytest.raises(DataError, match="059.png is damaged"):
        cnatool.dump(here / "net.onnx", here / "data", here / "s.zarr", **options)
    assert 0 < len(cnatool.open(here / "s.zarr").splits["train"]) < 200
    for path in here.glob("data/train/?/*.png"):
        if path.name != "059.png":
            picture = Image.open(path)
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    with pytest.raises(DataError, match=r"does not have the inputs that the dump was started with"):
        cnatool.dump(here / "net.onnx", here / "data", here / "s.zarr", resume=True, **options)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "--resize HEIGHTxWIDTH, or --resize SIDE and --crop HEIGHTxWIDTH"),
        (("--resize", "18"), "--crop HEIGHTxWIDTH"),
        (("--resize", "20x20", "--colour", "rgb"), "--resize 16x16 squeezes each image"),
        (("--resize", "16x16", "--colour", "grey"), "--colour rgb makes the channels fit"),
        (("--resize", "big"), "--resize 'big' is not a size"),
        (("--interpolation", "bicubik", "--resize", "16"), "choose from nearest, box"),
        (("--interpolation", "bicubic"), "--interpolation has no effect without --resize"),
        (("--preprocess", "none.json"), "none.json"),
        ((*WORDS, "--keep-inputs", "values"), "Or use --keep-inputs levels"),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], text: str, here: Path) -> None:
    result = run("dump", "net.onnx", "data", *words, cwd=here, code=2)
    assert text in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (here / "net.zarr").exists()


def test_two_ways_to_make_a_picture_fit_are_both_shown(here: Path) -> None:
    np.savez(here / "x.npz", x=np.zeros((9, 32, 32, 3), np.uint8))
    result = run("dump", "net.onnx", "x.npz", cwd=here, code=2)
    assert "--resize 16x16 squeezes each image into that size" in result.stderr
    assert "--resize 18 with --crop 16x16 keeps its proportions" in result.stderr


def test_preprocess_show_draws_what_is_fed(here: Path) -> None:
    words = ("preprocess", "show", "net.onnx", "data", *WORDS, *NORMAL, "--samples", "4")
    result = run(*words, "-o", "fed.png", cwd=here)
    assert "resized to a shorter side of 18 (bicubic)" in result.stdout
    drawn = np.asarray(Image.open(here / "fed.png").convert("RGB"))
    first = literally(sorted((here / "data/train/a").iterdir())[0])
    times = round(96 / 16)
    np.testing.assert_array_equal(drawn[2 : 2 + 96 : times, 2 : 2 + 96 : times], first)
    values = np.stack([literally(p) for p in sorted((here / "data/train/a").iterdir())[:4]])
    red = (values[..., 0] / 255 - 0.5) / 0.2
    assert f"channel 0: mean {red.mean():.4g}, standard deviation {red.std():.4g}" in result.stdout
    unwritable = run(*words, "-o", "no/fed.png", cwd=here, code=3)
    assert "no/fed.png cannot be written" in unwritable.stderr


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("b", ("--split", "a=data/test", "--split", "b=data/train", *WORDS)),
        ("test", ("data/train", "--holdout", "0.4", "--seed", "3", "--limit", "5", *WORDS)),
        (
            "val",
            ("x.parquet", "--split-column", "part", "--labels", "z", "--layout", "flat-chw->chw"),
        ),
    ],
)
def test_preprocess_show_reads_what_dump_reads(of: str, words: tuple[str, ...], here: Path) -> None:
    x = np.random.default_rng(2).uniform(size=(30, 768)).astype(np.float32)
    parts = ["val" if row % 3 == 1 else "train" for row in range(30)]
    pl.DataFrame({"x": x, "part": parts, "z": range(30)}).write_parquet(here / "x.parquet")
    run("dump", "net.onnx", *words, cwd=here)
    split = cnatool.open(here / "net.zarr").splits[of]
    size = ("--size", "16x16", "--order", "chw")
    show = ("preprocess", "show", "net.onnx", *words, "--of")
    shown = run(*show, of, *size, "-o", "fed.png", cwd=here)
    assert f"drew {min(16, len(split))} samples, the first of them {split.ids[0]}\n" in shown.stderr
    refused = run(*show, "none", cwd=here, code=2)
    assert "there is no split none; there are " in refused.stderr


def test_preprocess_show_draws_over_nothing(here: Path) -> None:
    (here / "model.png").write_bytes((here / "net.onnx").read_bytes())
    (here / "other.png").write_bytes(b"another")
    (here / "folder.png").mkdir()
    sample = next((here / "data/train/a").iterdir())
    kept = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    words = ("preprocess", "show", "model.png", *WORDS)
    both = ("--split", "a=data/train", "--split", "b=data/test")
    for where, text in (
        (("data", "-o", sample), "which is only read"),
        (("data", "-o", "data/new.png"), "which is only read"),
        (("data", "-o", "model.png"), "is in model.png, which is only read"),
        ((*both, "-o", "data/test/new.png"), "is in data/test, which is only read"),
        ((*both, "-o", "folder.png"), "folder.png cannot be written"),
        ((*both, "-o", "other.png/a.png"), "other.png/a.png cannot be written"),
    ):
        refused = run(
            *words, *where, "--overwrite", cwd=here, code=3 if "cannot be written" in text else 2
        )
        assert text in refused.stderr
    refused = run(*words, "data", "-o", "other.png", cwd=here, code=2)
    assert "other.png is already there: name another file, or pass --over" in refused.stderr
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == kept
    run(*words, "data", "-o", "other.png", "--overwrite", cwd=here)
    assert (here / "other.png").read_bytes().startswith(b"\x89PNG")


def test_preprocess_show_refuses_inputs_that_dump_could_not_keep(here: Path) -> None:
    words = ("preprocess", "show", "net.onnx", "data", *WORDS)
    run(*words, "--keep-inputs", "levels", cwd=here)
    refused = run(*words, "--keep-inputs", "values", cwd=here, code=2)
    assert "Or use --keep-inputs levels" in refused.stderr
