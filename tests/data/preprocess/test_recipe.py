from __future__ import annotations

import gc
import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnatool.data.images.transform import transform_array
from cnatool.data.preprocess.apply import PreprocessOptions
from cnatool.data.preprocess.recipe import Recipe, read_recipe
from cnatool.errors import UsageError
from cnatool.records.image_transform import Geometry
from cnatool.schemas import schema_text

SCHEMA = "cnatool.preprocess/1"
SHARED_FOLDER = HealthCheck.function_scoped_fixture
VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema_text("preprocess")))


def written(folder: Path, fields: dict[str, Any]) -> Path:
    path = folder / "file.json"
    path.write_text(json.dumps(fields), "utf-8")
    return path


def own(folder: Path, **fields: Any) -> Recipe:
    return read_recipe(written(folder, {"schema": SCHEMA, **fields}))


# --- a file of one's own ------------------------------------------------------------------------


def test_every_field(tmp_path: Path) -> None:
    recipe = own(
        tmp_path,
        colour="bgr",
        resize=[256, 192],
        fit="cover",
        interpolation="bicubic",
        crop=[224, 160],
        offset="down",
        fill=[1, 2, 3],
        layout="hwc->chw",
        scale="1/127.5",
        mean=1,
        std=[0.5, 1, 2],
    )
    assert recipe.geometry() == Geometry(
        resize=(256, 192),
        interpolation="bicubic",
        crop=(224, 160),
        colour="bgr",
        fit="cover",
        offset="down",
        fill=(1, 2, 3),
    )
    assert recipe.options() == PreprocessOptions(1 / 127.5, (1.0,), (0.5, 1.0, 2.0), "hwc->chw")


def test_what_is_left_out_is_not_done(tmp_path: Path) -> None:
    recipe = own(tmp_path)
    assert recipe.geometry() is None
    assert recipe.options() == PreprocessOptions()
    # Without a size nothing is resampled, and there is nothing to record.
    assert own(tmp_path, interpolation="lanczos", offset="down").geometry() is None
    assert own(tmp_path, colour="grey").geometry() == Geometry(colour="grey")
    assert own(tmp_path, crop=7).geometry() == Geometry(crop=(7, 7))


def test_three_forms_say_the_same(tmp_path: Path) -> None:
    texts = {
        "a.json": '{"schema": "cnatool.preprocess/1", "resize": 256, "crop": [224, 200],'
        ' "scale": "1/255", "mean": [0.5, 0.25, 1e-3], "std": 0.5, "layout": "NCHW"}',
        "a.yaml": "# a comment\nschema: cnatool.preprocess/1\nresize: 256\ncrop: [224, 200]\n"
        "scale: 1/255\nmean:\n  - 0.5\n  - 0.25\n  - 1.0e-3\nstd: 0.5\nlayout: NCHW\n",
        "a.YML": '{schema: "cnatool.preprocess/1", resize: 256, crop: [224, 200], scale: 1/255,'
        " mean: [0.5, 0.25, 0.001], std: 0.5, layout: NCHW}",
        "a.toml": 'schema = "cnatool.preprocess/1"\nresize = 256\ncrop = [224, 200]\n'
        'scale = "1/255"\nmean = [0.5, 0.25, 1e-3]\nstd = 0.5\nlayout = "NCHW"\n',
    }
    recipes = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
        recipes.append(read_recipe(str(tmp_path / name)))
    assert len({repr(recipe) for recipe in recipes}) == 1
    assert recipes[0].options().scale == 1 / 255
    assert recipes[0].options().mean == (0.5, 0.25, 0.001)


FLOATS = st.floats(1e-3, 1e3)


@given(
    recipe=st.builds(
        dict,
        colour=st.sampled_from(["as-is", "rgb", "bgr", "grey"]),
        resize=st.integers(1, 999) | st.tuples(st.integers(1, 999), st.integers(1, 999)),
        fit=st.sampled_from([None, "cover", "contain"]),
        interpolation=st.sampled_from(["nearest", "lanczos"]),
        crop=st.none() | st.integers(1, 999),
        fill=st.integers(0, 65535) | st.just((1, 2, 3)) | st.just(()),
        layout=st.sampled_from([None, "chw", "flat-hwc->chw"]),
        scale=st.none() | FLOATS | st.sampled_from(["1/255", "-2e3", "0.5/3"]),
        mean=FLOATS | st.just((1.0, 2.0, 3.0)),
        std=FLOATS | st.just((1.0, 2.0, 3.0)),
    ).map(lambda fields: fields if fields["crop"] else fields | {"fill": ()})
)
@settings(suppress_health_check=[SHARED_FOLDER])
def test_a_recipe_survives_its_file_and_fits_the_schema(
    tmp_path: Path, recipe: dict[str, Any]
) -> None:
    made = Recipe(SCHEMA, **recipe)
    path = tmp_path / "made.json"
    path.write_bytes(msgspec.json.encode(made))
    assert read_recipe(path) == made
    VALIDATOR.validate(json.loads(path.read_bytes()))


def test_one_value_to_pad_with_is_that_of_every_channel(tmp_path: Path) -> None:
    alone, each = own(tmp_path, crop=5, fill=128), own(tmp_path, crop=5, fill=[128] * 3)
    image = np.zeros((3, 3, 3), np.uint8)
    made = [transform_array(image, recipe.geometry() or Geometry()) for recipe in (alone, each)]
    np.testing.assert_array_equal(*made)
    assert made[0][0].tolist() == [[128] * 3] * 5
    # What a constrained type corrupted shows at a collection.
    kept = [own(tmp_path, crop=5, resize=[7, 7], fill=128) for _ in range(100)]
    gc.collect()
    assert kept == [kept[0]] * 100


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"resiz": 3}, "there is no field resiz. Did you mean resize"),
        ({"interpolate": 3}, "there is no field interpolate. Did you mean interpolation"),
        ({"dtype": "x"}, "there is no field dtype. There are"),
        ({"\x1b[31m": 1}, r"there is no field '\\x1b\[31m'. There are schema, colour, resize"),
        ({"resize": "224"}, "resize: expected int | array | null, got str"),
        ({"resize": [224]}, "resize: expected array of length 2, got 1"),
        ({"resize": 224.5}, "resize: expected int | array | null, got float"),
        ({"resize": True}, "resize: expected int | array | null, got bool"),
        ({"resize": 0}, "resize 0: give sides from 1 to 32768"),
        ({"resize": [1 << 14, 1 << 14]}, "no more than 67108864 pixels"),
        ({"resize": 10**18}, "resize 1000000000000000000: give sides from 1"),
        ({"resize": 10**20}, "cannot be read as JSON .a whole number is too large"),
        ({"crop": -1}, "crop -1x-1: give sides from 1"),
        ({"interpolation": "cubic"}, "interpolation: invalid enum value 'cubic'"),
        ({"colour": None}, "colour: expected str, got null"),
        ({"fit": "cover"}, "fit 'cover' has no effect without resize: give resize as well"),
        ({"fill": [0]}, "fill has no effect without crop: give crop as well"),
        ({"fill": 0}, "fill has no effect without crop: give crop as well"),
        ({"crop": 3, "fill": [0, -1]}, "fill -1: give values from 0 to 65535"),
        ({"crop": 3, "fill": 65536}, "fill 65536: give values from 0 to 65535"),
        ({"crop": 3, "fill": 0.5}, "fill: expected int | array, got float"),
        ({"layout": "cwh"}, "layout` 'cwh' is not a layout: give TARGET or SOURCE->TARGET"),
        ({"scale": 0}, "scale 0: give finite numbers other than 0"),
        ({"scale": "1/0"}, "scale '1/0' is not a number: give one, or a fraction as in 1/255"),
        ({"scale": "1/2/3"}, "scale '1/2/3' is not a number"),
        ({"scale": "nan"}, "scale 'nan' is not a number"),
        ({"scale": "1e999"}, "scale inf: give finite"),
        ({"mean": [0.5, "x"]}, r"mean\[1\]: expected float, got str"),
        ({"mean": 10**18 * 1e20}, "mean 1e+38: give finite numbers"),
        ({"std": [1, 0.0, 1]}, "std 1 0 1: .* other than 0"),
        ({"mean": [1, 2], "std": [1, 2, 3]}, "mean has 2 and std 3 values: give one value, or one"),
        (
            {"schema": "cnatool.preprocess/2"},
            "schema 'cnatool.preprocess/2' is not known: only 'cnatool.",
        ),
        ({"schema": None}, "schema 'None'"),
    ],
)
def test_fields_that_cannot_be_meant(tmp_path: Path, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as refused:
        own(tmp_path, **fields)
    assert str(tmp_path / "file.json") in str(refused.value)
    pattern = text.replace("|", r"\|").replace("+", r"\+")
    assert refused.match(pattern)


def test_the_files_of_the_documentation(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "preprocessing.md").read_text("utf-8")
    blocks = re.findall(r"```(json|yaml|toml)\n(.*?)```", text, re.DOTALL)
    made = []
    for number, (form, content) in enumerate(blocks):
        path = tmp_path / f"{number}.{form}"
        path.write_text(content, "utf-8")
        made.append(read_recipe(path))
    first, second, third, boxed, *sounds, resnet = made
    assert first == second == third
    assert sounds
    assert all(recipe.geometry() is None for recipe in sounds)
    assert boxed.geometry() == Geometry(
        resize=(640, 640), fit="contain", crop=(640, 640), fill=(114, 114, 114)
    )
    geometry = first.geometry()
    assert geometry is not None
    # The worked example: 341×256, from row 16 and column 58.
    assert geometry.resized(375, 500) == (256, 341)
    image = np.arange(256 * 341, dtype=np.uint16).reshape(256, 341)
    cut = transform_array(image, Geometry(crop=geometry.crop))
    np.testing.assert_array_equal(cut[..., 0], image[16:240, 58:282])
    path = tmp_path / "config.json"
    cfg = {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic"}
    path.write_text(json.dumps({"pretrained_cfg": cfg}), "utf-8")
    timm = read_recipe(path)
    assert (timm.geometry(), timm.options()) == (resnet.geometry(), resnet.options())


# --- hostile files ------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{was}'] * 9)}]\n"
    for was, now in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.json", "[" * 100_000, "cannot be read as JSON (too deep)"),
        ("a.json", '{"a":' * 21 + "1" + "}" * 21, "cannot be read as JSON (too deep)"),
        ("a.yaml", "[" * 5_000, "cannot be read as YAML (too deep)"),
        ("a.yaml", "{a: " * 4_000, "cannot be read as YAML (too deep)"),
        ("a.toml", "a = " + "[" * 400, "cannot be read as TOML"),
        ("a.toml", "a." * 8_000 + "b = 1", "a line has more than 500 characters"),
        ("a.toml", "a." * 200 + "b = 1", "cannot be read as TOML (too deep)"),
        ("a.toml", ("a." * 240 + "\n").join(map(str, range(30))), "cannot be read as TOML"),
        ("a.yaml", BOMB, "anchors and aliases are not supported"),
        ("a.yaml", "a: &a [*a]", "anchors and aliases are not supported"),
        ("a.yaml", "a: !!python/object/apply:os.system [id]", "is not supported"),
        ("a.yaml", "!!python/name:os.system ''", "could not determine a constructor"),
        ("a.yaml", "a: 1\na: 2", "'a' occurs twice"),
        ("a.json", '{"a": 1, "a": 2}', "'a' occurs twice"),
        ("a.toml", "a = 1\na = 2", "cannot be read as TOML"),
        ("a.json", '{"mean": NaN}', "NaN is not a number in JSON"),
        ("a.json", '{"mean": -Infinity}', "-Infinity is not a number in JSON"),
        ("a.json", '{"schema": "cnatool.preprocess/1", "mean": 1e999}', "mean inf: give"),
        ("a.yaml", "{schema: cnatool.preprocess/1, mean: .nan}", "mean nan: give"),
        ("a.toml", 'schema = "cnatool.preprocess/1"\nstd = -inf', "std -inf: give"),
        ("a.json", '{"resize": ' + "9" * 4_000_000 + "}", "cannot be read as JSON"),
        ("a.yaml", "resize: 0x" + "f" * 16_000, "a whole number is too large"),
        ("a.yaml", "resize: 1" + ":1" * 8_000, "a whole number is too large"),
        ("a.yaml", "resize: 1" + ":1" * 8_000 + ".5", "cannot be read as YAML"),
        ("a.yaml", "resize: 2020-13-45", "cannot be read as YAML"),
        ("a.toml", "resize = 2020-13-45", "cannot be read as TOML"),
        ("a.toml", "resize = 0x" + "f" * 400, "a whole number is too large"),
        ("a.json", "9" * (1 << 22), "cannot be read as JSON"),
        ("a.json", "9" * ((1 << 22) + 1), "has more than 4.19 MB, too much for settings"),
        ("a.yaml", "#" * 17_000, "has more than 16.4 kB"),
        ("a.toml", "#" * 17_000, "has more than 16.4 kB"),
        ("a.json", b"\xff\xfe{}", "cannot be read as JSON"),
        ("a.json", "", "cannot be read as JSON"),
        ("a.yaml", "", "does not hold fields with values"),
        ("a.json", "[1]", "does not hold fields with values"),
        ("a.json", "{}", "the format is not known: add"),
        ("a.yaml", "a: 2020-01-01\nb: !!binary aGk=", "the format is not known"),
        ("a.yaml", "? [a, b]\n: 1", "the name ['a', 'b'] is not text: put it in quotes"),
        ("a.yaml", "1: 2", "the name 1 is not text: put it in quotes"),
        ("a.yaml", "a: {on: 2}", "the name True is not text: put it in quotes"),
        ("a.yaml", "~: 2", "the name None is not text: put it in quotes"),
        ("a.yaml", "'1': 2", "the format is not known"),
        ("a.yaml", "--- {}\n--- {}", "cannot be read as YAML"),
        ("a.txt", "{}", "give a file in .json, .toml, .yaml, .yml"),
    ],
)
def test_hostile_files(tmp_path: Path, name: str, content: str | bytes, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError) as refused:
            read_recipe(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert text in str(refused.value)
    assert len(str(refused.value)) < 1_000
    assert str(refused.value).isprintable()


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(UsageError, match="has more than"):
        read_recipe(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_recipe(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError, match="there is no file"):
        read_recipe(tmp_path / "folder.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UsageError, match="there is no file"):
        read_recipe(tmp_path / "pipe.json")


VALID = {
    "a.json": b'{"schema": "cnatool.preprocess/1", "resize": [25, 6], "mean": [0.5, 1], "std": 2}',
    "b.json": b'{"image_processor_type": "ViTImageProcessor", "size": {"height": 9, "width": 8},'
    b'"resample": 2, "do_normalize": true, "image_mean": [0.5], "image_std": [0.1]}',
    "c.json": b'{"pretrained_cfg": {"input_size": [3, 9, 9], "crop_pct": 0.9, "mean": [0.5]}}',
    "a.yaml": b"schema: cnatool.preprocess/1\nresize: [25, 6]\nmean: [0.5, 1]\n",
    "a.toml": b'schema = "cnatool.preprocess/1"\nresize = [25, 6]\nmean = [0.5, 1]\n',
}


@pytest.mark.parametrize("name", VALID)
@settings(suppress_health_check=[SHARED_FOLDER], deadline=None, max_examples=100)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(list(b'{}[]":,.-019eE\n &*!x\x00\xff'))),
        min_size=1,
        max_size=4,
    )
)
def test_files_changed_by_chance(tmp_path: Path, name: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(VALID[name])
    for at, byte in changes:
        content[at % len(content)] = byte
    (tmp_path / name).write_bytes(content)
    said = ""
    try:
        recipe = read_recipe(tmp_path / name)
    except UsageError as error:
        said = str(error)
    assert len(said) < 1_000
    assert said.isprintable()
    if not said:
        values = (*recipe.options().mean, *recipe.options().std)
        assert np.isfinite(values).all()
