"""A server of S3 on this machine: moto's, in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cnatool.store import object_client
from support.servers import free_port, run_process

SECRETS = ("AKIATESTIDENTITY0001", "secret/Of+The=Bucket0002", "token-Of-The-Session-0003")
_REASON = "a server of S3 for tests: pip install 'cnatool[cloud-test]'"
# Without any, the server takes a request for that of a stranger; it checks no signatures.
_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=TEST/20260101/us-east-1/s3/aws4_request",
    "Content-Type": "application/octet-stream",
}


class Server:
    """The running server."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._buckets = 0

    def bucket(self) -> Bucket:
        """Make an empty bucket."""
        self._buckets += 1
        bucket = Bucket(self, f"bucket-{self._buckets}")
        bucket.send("PUT")
        return bucket

    def requests(self, bucket: str) -> list[str]:
        """List the requests for a bucket so far: method and key."""
        lines = re.findall(r'"(?:\x1b\[\d+m)*([A-Z]+) (/\S*) HTTP', self._log.read_text())
        return [f"{m} {path}" for m, path in lines if path.startswith(f"/{bucket}/")]


class Bucket:
    """A bucket, seen without obstore and without cnatool."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def __truediv__(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def send(self, method: str, key: str = "", body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self.server.url}/{self.name}{key and '/'}{key}", body, _HEADERS, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def get(self, key: str) -> bytes:
        return self.send("GET", key)

    def put(self, key: str, content: bytes) -> None:
        self.send("PUT", key, content)

    def delete(self, key: str) -> None:
        self.send("DELETE", key)

    def list(self, below: str = "") -> list[str]:
        keys: list[str] = []
        after = ""
        while True:
            listed = ElementTree.fromstring(
                self.send("GET", f"?list-type=2&prefix={below}&start-after={after}")
            )
            space = listed.tag.partition("}")[0] + "}"
            keys += [str(each.text) for each in listed.iter(f"{space}Key")]
            if listed.findtext(f"{space}IsTruncated") != "true":
                return keys
            after = keys[-1]

    def requests(self) -> list[str]:
        """List the requests of cnatool and of this test so far."""
        return self.server.requests(self.name)

    @contextmanager
    def counted(self, most: int) -> Iterator[None]:
        """Check that what happens inside takes at most so many requests."""
        before = len(self.requests())
        yield
        made = self.requests()[before:]
        assert len(made) <= most, made

    def download(self, prefix: str, folder: Path) -> Path:
        """Copy a store to a disk."""
        for key in self.list(f"{prefix}/"):
            path = folder / key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(key))
        return folder

    def upload(self, folder: Path, prefix: str) -> str:
        """Copy a store from a disk."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return self / prefix


@contextmanager
def run_server(folder: Path) -> Iterator[Server]:
    """Run the server; skip the test where it is not installed."""
    if not all(map(importlib.util.find_spec, ("obstore", "moto", "flask", "flask_cors"))):
        pytest.skip(_REASON)
    port, log = free_port(), folder / "requests.log"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    with run_process(words, port, log):
        yield Server(f"http://127.0.0.1:{port}", log)


def use_bucket(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let this process, and those that it starts, use an endpoint with some credential."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    for name, secret in zip(names, SECRETS, strict=True):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    # Its clients have the environment of their time.
    object_client.connect.cache_clear()
