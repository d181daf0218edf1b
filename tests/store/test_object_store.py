"""Messages about buckets: what is wrong and where, and no secret in any of them."""

from __future__ import annotations

import datetime
import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.buckets import SECRETS, Bucket, use_bucket
from support.command import refused, run
from support.stores import write_store

from cnatool._util.urls import ObjectURL, parse_path
from cnatool.errors import StoreAccessError, UsageError
from cnatool.store import clouds, object_client, object_store
from cnatool.store.clouds import CLOUDS
from cnatool.store.object_errors import ConflictError, MissingObjectError, translate_errors
from cnatool.store.object_store import Objects

# What S3 answers when it refuses, with what it repeats of the request.
ANSWER = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>The provided token '
    "is not right</Message><AWSAccessKeyId>{key}</AWSAccessKeyId><StringToSign>{secret}"
    "</StringToSign><Token-0>{token}</Token-0></Error>"
)


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """Run a server that gives the same answer to every request."""
    key, secret, token = SECRETS

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = ANSWER.format(code=code, key=key, secret=secret, token=token).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test choose the endpoint; no server is needed."""
    pytest.importorskip("obstore", reason="stores in a bucket: pip install 'cnatool[cloud]'")
    yield monkeypatch
    object_client.connect.cache_clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def without_secrets(text: str) -> str:
    for secret in (*SECRETS, "topsecret"):
        assert secret not in text
    return text


def refused_quietly(*words: object, cwd: Path, code: int = 2) -> str:
    """Run a command that fails, with and without its traceback; no secret is in the output."""
    result = run("--debug", *words, cwd=cwd, code=None)
    without_secrets(result.stdout + result.stderr)
    return without_secrets(refused(*words, cwd=cwd, code=code))


def test_objects_are_put_on_conditions(bucket: Bucket) -> None:
    objects = Objects(ObjectURL(bucket / "a"))
    first = objects.create("x", b"1")
    with pytest.raises(ConflictError):
        objects.create("x", b"2")
    second = objects.replace("x", b"3", first)
    for version in (first, {"e_tag": '"other"'}):
        with pytest.raises(ConflictError):
            objects.replace("x", b"4", version)
    assert objects.get("x") == (b"3", second)
    assert objects.version("x") == second
    assert bucket.get("a/x") == b"3"


def test_objects_that_are_missing(bucket: Bucket) -> None:
    objects = Objects(ObjectURL(bucket / "a"))
    for call in (objects.get, objects.version):
        with pytest.raises(MissingObjectError):
            call("x")
    with pytest.raises(MissingObjectError):
        objects.get_head("x", 9)
    with pytest.raises(MissingObjectError):
        objects.get_ranges("x", [(0, 1)])
    objects.delete("x")
    assert objects.names() == set()


def test_only_what_is_below_the_url_is_listed_and_deleted(bucket: Bucket) -> None:
    for key in ("a", "a.b", "a/x", "a/y/z", "ab/x"):
        bucket.put(key, b"")
    objects = Objects(ObjectURL(bucket / "a"))
    assert objects.names() == {"x", "y"}
    assert sorted(objects.walk()) == ["x", "y/z"]
    objects.delete_all()
    assert bucket.list() == ["a", "a.b", "ab/x"]


def test_ranges_that_lie_close_are_one_request(bucket: Bucket) -> None:
    content = bytes(range(256)) * 100
    bucket.put("x", content)
    objects = Objects(ObjectURL(bucket / "x").parent)
    with bucket.counted(1):
        parts = objects.get_ranges("x", [(0, 10), (500, 600), (25000, 25600)])
    assert parts == [content[:10], content[500:600], content[25000:25600]]
    assert objects.get_head("x", 1 << 20) == content


def test_a_bucket_that_does_not_exist(bucket: Bucket, tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr")
    for words in (
        ["score", "s3://no-such-bucket/s.zarr"],
        ["verify", "s3://no-such-bucket/s.zarr"],
        ["convert", "s.zarr", "s3://no-such-bucket/s.zarr"],
    ):
        message = refused_quietly(*words, cwd=tmp_path)
        assert "there is no bucket no-such-bucket. Create it" in message


def test_a_store_that_does_not_exist(bucket: Bucket, tmp_path: Path) -> None:
    message = refused_quietly("score", bucket / "none.zarr", cwd=tmp_path)
    assert f"{bucket / 'none.zarr'}: no such store." in message
    bucket.put("other.zarr/x", b"")
    message = refused_quietly("score", bucket / "other.zarr", cwd=tmp_path)
    assert f"{bucket / 'other.zarr'} is not a cnatool store" in message


def test_nothing_is_overwritten(bucket: Bucket, tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr")
    run("convert", "s.zarr", bucket / "s.zarr", cwd=tmp_path)
    before = {key: bucket.get(key) for key in bucket.list()}
    for more in ((), ("--overwrite",)):
        message = refused_quietly("convert", "s.zarr", bucket / "s.zarr", *more, cwd=tmp_path)
        assert "exists already, and nothing is overwritten in a bucket" in message
        assert f"`aws s3 rm --recursive {bucket / 's.zarr'}/`" in message
    assert {key: bucket.get(key) for key in bucket.list()} == before


@pytest.mark.parametrize("name", ["s.h5", "s.hdf5", "s.zarr.zip"])
def test_only_zarr_stores_are_in_a_bucket(alone: object, tmp_path: Path, name: str) -> None:
    write_store(tmp_path / "s.zarr")
    for words in (["score", f"s3://b/{name}"], ["convert", "s.zarr", f"s3://b/{name}"]):
        message = refused(*words, cwd=tmp_path)
        assert f"s3://b/{name}: only a Zarr store can be in a bucket" in message


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (400, "ExpiredToken", "s3://b rejects the credentials: they have expired. Renew them"),
        (403, "InvalidAccessKeyId", "s3://b rejects the credentials (InvalidAccessKeyId)"),
        (403, "SignatureDoesNotMatch", "s3://b rejects the credentials (SignatureDoesNotMatch)"),
        (403, "AccessDenied", "s3://b rejects the credentials (AccessDenied)"),
        (301, "PermanentRedirect", "s3://b is in another region. Set AWS_REGION"),
        (501, "NotImplemented", "s3://b: the server has no conditional puts"),
        (405, "MethodNotAllowed", "the server answered with status 405 (MethodNotAllowed)"),
    ],
)
def test_what_a_server_refuses(
    alone: pytest.MonkeyPatch, tmp_path: Path, status: int, code: str, said: str
) -> None:
    write_store(tmp_path / "s.zarr")
    with answering(status, code) as endpoint:
        use_bucket(alone, endpoint)
        for words in (["score", "s3://b/s.zarr"], ["convert", "s.zarr", "s3://b/s.zarr"]):
            assert said in refused_quietly(*words, cwd=tmp_path, code=3)


def test_a_server_that_wants_fewer_changes_is_asked_again(
    alone: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pauses: list[float] = []
    alone.setattr(object_store.time, "sleep", pauses.append)
    with answering(429, "SlowDown") as endpoint:
        use_bucket(alone, endpoint)
        with pytest.raises(StoreAccessError, match=r"answered with status 429 \(SlowDown\)"):
            Objects(ObjectURL("s3://b/s.zarr")).create("x", b"")
    assert pauses == list(object_store._PAUSES)


def test_an_endpoint_that_does_not_answer(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = free_port()
    use_bucket(alone, f"http://user:topsecret@127.0.0.1:{port}")
    message = refused_quietly("score", "s3://b/s.zarr", cwd=tmp_path, code=3)
    assert f"s3://b: 127.0.0.1:{port} does not answer. Check the network" in message


def test_no_credential(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_bucket(alone, "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        alone.delenv(name)
    # Where a machine of Amazon's would answer.
    alone.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    alone.setenv("AWS_EC2_METADATA_DISABLED", "true")
    alone.setenv("HOME", str(tmp_path))
    message = refused("score", "s3://b/s.zarr", cwd=tmp_path, code=3)
    assert "s3://b: no credentials were found. Set AWS_ACCESS_KEY_ID" in message


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://b/s.zarr", "AWS_ENDPOINT_URL"),
        ("s3://b/s.zarr", "AWS_ENDPOINT_URL_S3"),
        ("s3://b/s.zarr", "AWS_ENDPOINT"),
        ("s3://b/s.zarr", "AWS_METADATA_ENDPOINT"),
        ("az://b/s.zarr", "AZURE_STORAGE_ENDPOINT"),
        ("az://b/s.zarr", "IDENTITY_ENDPOINT"),
        ("az://b/s.zarr", "AZURE_AUTHORITY_HOST"),
        ("gs://b/s.zarr", "GOOGLE_BASE_URL"),
    ],
)
def test_an_address_of_a_server_that_is_none(
    alone: pytest.MonkeyPatch, tmp_path: Path, url: str, name: str
) -> None:
    use_bucket(alone, "http://127.0.0.1:1")
    for address in (
        "topsecret@127.0.0.1:5917",
        "http://",
        "http://user:topsecret@",
        "http://topsecret:99999",
        " http://127.0.0.1:1",
        "http://top secret:1",
        "http://[::1",
    ):
        alone.setenv(name, address)
        message = refused_quietly("score", url, cwd=tmp_path)
        assert f"b: {name} is not the address of a server. It has to begin with http" in message


def test_a_file_of_credentials_that_is_not_there(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "topsecret.json"))
    message = refused_quietly("score", "gs://b/s.zarr", cwd=tmp_path)
    assert "gs://b: GOOGLE_APPLICATION_CREDENTIALS has to be the path of a file" in message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://b/s.zarr", "The provided token has expired.</Message><Code>ExpiredToken</Code>"),
        ("az://b/s.zarr", "Signed expiry time [Sat, 01 Jan 2022] has to be after"),
        ("az://b/s.zarr", "Lifetime validation failed. The token is expired."),
        ("gs://b/s.zarr", '"error_description": "Token has been expired or revoked."'),
    ],
)
def test_a_credential_that_has_expired(alone: pytest.MonkeyPatch, url: str, said: str) -> None:
    from obstore.exceptions import UnauthenticatedError

    for text, expired in ((said, True), ("topsecret", False)):
        with (
            pytest.raises(StoreAccessError) as caught,
            translate_errors(ObjectURL(url)),
        ):
            raise UnauthenticatedError(text)
        assert ("they have expired. Renew them" in str(caught.value)) is expired
        assert "rejects the credentials" in without_secrets(str(caught.value))


def test_a_profile_is_asked_before_what_it_gave_expires(alone: pytest.MonkeyPatch) -> None:
    """boto3 renews what is valid for less than ten minutes, the client in the last five."""
    pytest.importorskip("boto3", reason="profiles of AWS: pip install boto3")
    from boto3.session import Session
    from botocore.credentials import RefreshableCredentials

    use_bucket(alone, "http://127.0.0.1:1")
    alone.delenv("AWS_ACCESS_KEY_ID")
    now = datetime.datetime.now(datetime.UTC)
    metadata = {
        "access_key": "key",
        "secret_key": "topsecret",
        "token": "token",
        "expiry_time": (now + datetime.timedelta(hours=1)).isoformat(),
    }
    credentials = RefreshableCredentials.create_from_metadata(metadata, dict, "process")
    alone.setattr(Session, "get_credentials", lambda _: credentials)
    provider = object_client._read_profile()["credential_provider"]
    assert provider()["expires_at"] <= now + datetime.timedelta(minutes=11)
    assert credentials._mandatory_refresh_timeout >= 600


def test_panic_of_obstore_is_one_message(
    alone: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Addresses at which it is known to panic are refused before.
    alone.setattr(clouds, "_is_address", lambda _: True)
    use_bucket(alone, "127.0.0.1:5917")
    message = refused("score", "s3://b/s.zarr", cwd=tmp_path, code=3)
    assert "s3://b: the request failed (PanicException). Check the credential" in message
    objects = Objects(ObjectURL("s3://b/s.zarr"))
    for call in (
        lambda: objects.get("x"),
        lambda: objects.version("x"),
        lambda: objects.get_head("x", 9),
        lambda: objects.get_ranges("x", [(0, 1)]),
        lambda: objects.put("x", b""),
        lambda: objects.delete("x"),
        objects.names,
        objects.delete_all,
    ):
        with pytest.raises(StoreAccessError, match="PanicException"):
            call()
    # Rust writes the panic itself.
    assert "panicked" in capfd.readouterr().err


def test_interrupt_of_a_request_is_not_translated(
    alone: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    use_bucket(alone, "http://127.0.0.1:1")
    alone.setattr("obstore.head", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Objects(ObjectURL("s3://b/s.zarr")).version("x")


def test_a_profile_that_does_not_exist(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_bucket(alone, "http://127.0.0.1:1")
    alone.delenv("AWS_ACCESS_KEY_ID")
    alone.setenv("HOME", str(tmp_path))
    alone.setenv("AWS_PROFILE", "topsecret")
    if "boto3" in sys.modules or __import__("importlib.util").util.find_spec("boto3"):
        message = refused_quietly("score", "s3://b/s.zarr", cwd=tmp_path, code=3)
        assert "the configuration in the environment cannot be used (ProfileNotFound)" in message
        object_client.connect.cache_clear()
    alone.setitem(sys.modules, "boto3", None)
    message = refused("score", "s3://b/s.zarr", cwd=tmp_path)
    assert "profiles need the package boto3" in message


@pytest.mark.parametrize(
    ("scheme", "variables", "expected"),
    [
        ("s3", {"AWS_ACCESS_KEY_ID": "topsecret"}, "AWS_SECRET_ACCESS_KEY is not set"),
        ("s3", {"AWS_SECRET_ACCESS_KEY": "topsecret"}, "AWS_ACCESS_KEY_ID is not set"),
        ("az", {}, "AZURE_STORAGE_ACCOUNT_NAME is not set"),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": __file__}, "CREDENTIALS names contains no"),
    ],
)
def test_variable_that_is_missing_is_named(
    alone: pytest.MonkeyPatch,
    tmp_path: Path,
    scheme: str,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name in (*CLOUDS[scheme].needed, *CLOUDS[scheme].files, "AWS_PROFILE"):
        alone.delenv(name, raising=False)
    for name, value in variables.items():
        alone.setenv(name, value)
    message = refused_quietly("score", f"{scheme}://b/s.zarr", cwd=tmp_path, code=3)
    assert expected in message
    assert "topsecret" not in message
    assert "Error)" not in message


def test_obstore_is_not_installed(alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone.setitem(sys.modules, "obstore.store", None)
    object_client.connect.cache_clear()
    message = refused("score", "s3://b/s.zarr", cwd=tmp_path)
    assert "s3://b: objects in a bucket need the package obstore" in message
    assert "`pip install 'cnatool[cloud]'`" in message


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:topsecret@b/s.zarr",
        "az://container/s.zarr?sv=1&sig=topsecret",
        "gs://b/s.zarr#topsecret",
        "https://user:topsecret@host/s.zarr?X-Amz-Signature=topsecret",
        "s3://b/data.npz?X-Amz-Signature=topsecret",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    for words in (["score", url], ["dump", "net.onnx", "data.npz", "-o", url], ["study", url]):
        without_secrets(refused(*words, cwd=tmp_path))
    if not url.startswith("https"):
        with pytest.raises(UsageError) as caught:
            parse_path(url)
        without_secrets(str(caught.value))


def test_no_secret_is_in_a_store(bucket: Bucket, tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr")
    output = run("convert", "s.zarr", bucket / "s.zarr", cwd=tmp_path)
    without_secrets(output.stdout + output.stderr)
    for key in bucket.list():
        without_secrets(bucket.get(key).decode("latin-1") + key)


def test_every_cloud_names_its_credential(alone: pytest.MonkeyPatch) -> None:
    for scheme, said in (("az", "AZURE_STORAGE_ACCOUNT_NAME"), ("gs", "GOOGLE_APPLICATION_CRED")):
        for name in ("AZURE_STORAGE_ACCOUNT_NAME", "GOOGLE_APPLICATION_CREDENTIALS"):
            alone.delenv(name, raising=False)
        if scheme == "az":
            with pytest.raises(StoreAccessError, match=said):
                Objects(ObjectURL(f"{scheme}://b/s.zarr"))
        assert said in CLOUDS[scheme].credential
