"""URLs of objects behave as paths by their names."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cnatool._util.urls import ObjectURL, is_url, parse_path
from cnatool.errors import UsageError


@pytest.mark.parametrize("text", ["s3://b/x/y.zarr", "s3:/b/x/y.zarr", "S3://b/x//y.zarr/"])
def test_a_url_keeps_its_slashes(text: str) -> None:
    for given in (text, Path(text)):
        url = parse_path(given)
        assert str(url) == f"{url}" == "s3://b/x/y.zarr"
        assert isinstance(url, ObjectURL)
        assert (url.scheme, url.bucket, url.key) == ("s3", "b", "x/y.zarr")
        assert (url.name, url.suffix, url.stem) == ("y.zarr", ".zarr", "y")


def test_what_is_derived_from_a_url_is_one() -> None:
    url = parse_path("gs://b/x/y.zarr")
    assert str(url.parent) == "gs://b/x"
    assert str(url.parent.parent) == "gs://b"
    assert str(url.with_name(".y.lock")) == "gs://b/x/.y.lock"
    assert str(url / "splits/train") == "gs://b/x/y.zarr/splits/train"
    assert (url.parent / "../z.zarr").key == "z.zarr"
    assert all(map(is_url, (url.parent, url / "a", url.with_suffix(".h5"))))
    assert pickle.loads(pickle.dumps(url)) == url == parse_path(url)
    assert len({url, parse_path(str(url))}) == 1


def test_nothing_on_disk_is_at_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = parse_path("s3://b/y.zarr")
    assert not url.exists()
    assert not url.is_dir()
    assert not url.is_symlink()


@pytest.mark.parametrize("text", ["a/b.zarr", "C:/x", "http://b/x", "s3:", "s3://", "./s3://b"])
def test_other_paths_are_paths(text: str) -> None:
    assert type(parse_path(text)) is type(Path(text))


@pytest.mark.parametrize("text", ["s3://u:hidden@b/x", "s3://b/x?hidden", "az://b/x#hidden"])
def test_secrets_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_path(text)
    assert "hidden" not in str(caught.value)
