"""Objects in a bucket: the one interface to obstore, and what its errors mean.

A put is atomic, and can be made to depend on the version of the object that it replaces. Messages
never repeat what a server or obstore says: it may contain signatures, tokens and keys.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from cnatool.errors import NotAStoreError, StoreAccessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obstore import GetOptions

    from cnatool._util.files import Buffer
    from cnatool._util.urls import ObjectURL

# Identifies the content of an object: its entity tag, and in some clouds a number.
Version: TypeAlias = "dict[str, str]"
# Seconds to connect, of one request, and of all attempts at it.
_CONNECT, _REQUEST, _ATTEMPTS = 5, 300, 60
_RETRIES = 5
# Keys that are deleted by one request.
_DELETED = 1000

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_REGION = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
_REFUSED = (
    "AccessDenied",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
)
# Services that give credentials to a machine or a container, where none were found otherwise.
_METADATA = ("169.254.", "metadata.google.internal", "latest/api/token")
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with boto3 installed",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
# Variables with the address of a server that is asked.
_SERVERS = {
    "s3": (*_ENDPOINTS, "AWS_ENDPOINT_URL_STS", "AWS_METADATA_ENDPOINT"),
    "gs": (),
    "az": (
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_ENDPOINT",
        "AZURE_IDENTITY_ENDPOINT",
        "AZURE_MSI_ENDPOINT",
        "IDENTITY_ENDPOINT",
    ),
}


class ConflictError(Exception):
    """The object is not, or no longer, in the version that a put depends on."""


class MissingObjectError(Exception):
    """There is no such object."""


class _RangeError(Exception):
    """The object is shorter than the range that was asked for."""


class ObjectInfo(NamedTuple):
    """What a server says of an object."""

    size: int
    version: Version


class Objects:
    """The objects whose keys begin with that of a URL; thread-safe."""

    __slots__ = ("_prefix", "_store", "url")

    def __init__(self, url: ObjectURL) -> None:
        self.url = url
        self._prefix = url.key
        self._store = _connect(url.scheme, url.bucket)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix and name else self._prefix or name

    def get(self, name: str) -> tuple[bytes, Version]:
        """Read an object; raise MissingObjectError if it does not exist."""
        import obstore

        with self._translated():
            got = obstore.get(self._store, self._key(name))
            return bytes(got.bytes()), _version(got.meta)

    def info(self, name: str) -> ObjectInfo:
        """Return what is known of an object; raise MissingObjectError if it does not exist."""
        import obstore

        with self._translated():
            return _info(obstore.head(self._store, self._key(name)))

    def version(self, name: str) -> Version:
        """Return the version of an object; raise MissingObjectError if it does not exist."""
        return self.info(name).version

    def get_head(self, name: str, size: int) -> bytes:
        """Read the first bytes of an object, fewer if it is shorter."""
        import obstore

        with suppress(_RangeError), self._translated():
            return bytes(obstore.get_range(self._store, self._key(name), start=0, length=size))
        return b""

    def get_range(self, name: str, start: int, stop: int, version: Version) -> memoryview:
        """Read a range of a version of an object, less of it where the object ends early.

        Raises ConflictError if the object has another version by now, and MissingObjectError if it
        does not exist.
        """
        import obstore

        options: GetOptions = {"range": (start, stop)}
        if "e_tag" in version:
            options["if_match"] = version["e_tag"]
        with suppress(_RangeError), self._translated():
            got = obstore.get(self._store, self._key(name), options=options)
            # A server may ignore the condition.
            if _version(got.meta) != version:
                raise ConflictError
            return memoryview(got.bytes())
        return memoryview(b"")

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read ranges of an object, by their starts and ends; adjacent ones in one request.

        If the object is too short for one of them, any may be cut short.
        """
        import obstore

        starts, ends = zip(*ranges, strict=True)
        with suppress(_RangeError), self._translated():
            got = obstore.get_ranges(
                self._store, self._key(name), starts=starts, ends=ends, coalesce=_COALESCED
            )
            return list(map(bytes, got))
        return [b""] * len(ranges)

    def create(self, name: str, content: Buffer) -> Version:
        """Put a new object whole; raise ConflictError if there is one already."""
        return self._put(name, content, "create")

    def replace(self, name: str, content: Buffer, version: Version) -> Version:
        """Replace a version of an object; raise ConflictError if it has another by now."""
        return self._put(name, content, version)

    def put(self, name: str, content: Buffer) -> Version:
        """Put an object, whatever there is."""
        return self._put(name, content, "overwrite")

    def _put(self, name: str, content: Buffer, mode: Any) -> Version:
        import obstore

        with self._translated():
            # In parts, a put could not depend on what is there, and a killed process would leave
            # parts that cost money and that no listing shows.
            return _version(
                obstore.put(self._store, self._key(name), content, mode=mode, use_multipart=False)
            )

    def names(self) -> set[str]:
        """List the names directly below the URL, of objects and of what further keys share."""
        import obstore

        with self._translated():
            listed = obstore.list_with_delimiter(self._store, self._prefix or None)
        keys = [*listed["common_prefixes"], *(each["path"] for each in listed["objects"])]
        return {key.rstrip("/").rpartition("/")[2] for key in keys}

    def walk(self) -> Iterator[str]:
        """List the names of all objects below the URL."""
        return (name for name, _ in self.walk_infos())

    def walk_infos(self) -> Iterator[tuple[str, ObjectInfo]]:
        """List the names of all objects below the URL, and what is known of each."""
        import obstore

        start = len(self._prefix) + 1 if self._prefix else 0
        pages = iter(obstore.list(self._store, self._prefix or None))
        while True:
            # A caller's own exceptions are not those of obstore.
            with self._translated():
                page = next(pages, None)
            if page is None:
                return
            yield from ((each["path"][start:], _info(each)) for each in page)

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        self._delete([self._key(name)])

    def delete_all(self) -> None:
        """Delete all objects below the URL."""
        keys = [self._key(name) for name in self.walk()]
        for start in range(0, len(keys), _DELETED):
            self._delete(keys[start : start + _DELETED])

    def _delete(self, keys: Sequence[str]) -> None:
        import obstore

        with suppress(MissingObjectError), self._translated():
            obstore.delete(self._store, keys)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what an exception of obstore means in its place."""
        try:
            yield
        except BaseException as error:
            if not _is_failure(error):
                raise
            raise self._translate(error) from None

    def _translate(self, error: BaseException) -> Exception:
        """Return what an exception of obstore means, without any of its text."""
        from obstore import exceptions

        text = str(error)
        code = match[1] if (match := _CODE.search(text)) else ""
        status = match[1] if (match := _STATUS.search(text)) else ""
        scheme, where = self.url.scheme, f"{self.url.scheme}://{self.url.bucket}"
        if code in _NO_BUCKET:
            return NotAStoreError(
                f"{self.url}: there is no bucket {self.url.bucket}. Create it, or check its name"
                f"{_endpoint_advice(scheme)}."
            )
        if isinstance(error, FileNotFoundError):
            return MissingObjectError()
        if isinstance(error, exceptions.InvalidPathError):
            return UsageError(
                f"{self.url} has an object with an empty part, '.' or '..' in its key. Rename it, "
                "or name a folder without it."
            )
        if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
            return ConflictError()
        if status == "416":
            return _RangeError()
        if code in _REGION or "configured region" in text:
            return StoreAccessError(f"{where} is in another region. Set AWS_REGION to its region.")
        if "Expired" in code or "ExpiredToken" in text:
            return StoreAccessError(
                f"{where} refuses the credential: it has expired. Renew it and try again."
            )
        if any(service in text for service in _METADATA):
            return StoreAccessError(f"{where}: no credential was found. {_CREDENTIALS[scheme]}.")
        denied = exceptions.PermissionDeniedError, exceptions.UnauthenticatedError
        if isinstance(error, denied) or code in _REFUSED:
            return StoreAccessError(
                f"{where} refuses the credential{f' ({code})' if code else ''}. Check that it is "
                "right, and allows to read and list this bucket and, for a store that is written, "
                "also to write and delete."
            )
        if code == "NotImplemented" or status == "501":
            return StoreAccessError(
                f"{where}: the server has no conditional puts, without which two writers could "
                "destroy a store. Write it to a local path and copy it there."
            )
        if status:
            return StoreAccessError(
                f"{where}: the server answered with status {status}"
                f"{f' ({code})' if code else ''}. Try again later."
            )
        if "error sending request" in text or "HttpError" in text or "timed out" in text:
            return StoreAccessError(
                f"{where}: {_host(scheme)} does not answer. Check the network"
                f"{_endpoint_advice(scheme)}."
            )
        return StoreAccessError(
            f"{where}: the request failed ({type(error).__name__}). Check the credential in the "
            f"environment{_endpoint_advice(scheme)}."
        )


# Ranges closer than this are read together: a request costs as much as so many bytes.
_COALESCED = 1 << 20


def _version(meta: Any) -> Version:
    return {key: meta[key] for key in ("e_tag", "version") if meta.get(key) is not None}


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(int(meta["size"]), _version(meta))


def _is_failure(error: BaseException) -> bool:
    """Whether an exception is an error, or a panic of Rust, which is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _check_servers(scheme: str, bucket: str) -> None:
    """Refuse addresses of servers at which obstore panics; they may contain a password."""
    for name in _SERVERS[scheme]:
        address = os.environ.get(name)
        if address and not _is_address(address):
            raise UsageError(
                f"{scheme}://{bucket}: {name} is not the address of a server. It has to begin "
                "with http:// or https://, as in http://HOST:9000."
            )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Reading a port that is no port raises.
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    spaced = any(character.isspace() for character in text)
    return parts.scheme in ("http", "https") and bool(host) and not spaced


def _endpoint() -> str | None:
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)


def _host(scheme: str) -> str:
    """Name the server, without a user and a password."""
    endpoint = _endpoint() if scheme == "s3" else None
    if endpoint is None:
        return "the server"
    parts = urlsplit(endpoint)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _endpoint_advice(scheme: str) -> str:
    return " and AWS_ENDPOINT_URL" if scheme == "s3" else ""


@cache
def _connect(scheme: str, bucket: str) -> Any:
    """Make the client of a bucket, configured by the environment."""
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise UsageError(
            f"{scheme}://{bucket}: objects in a bucket need the package obstore. Install it with "
            "`pip install 'cnatool[cloud]'`."
        ) from None
    _check_servers(scheme, bucket)
    options: dict[str, Any] = {
        "retry_config": {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_ATTEMPTS),
        },
        "client_options": {
            "connect_timeout": timedelta(seconds=_CONNECT),
            "timeout": timedelta(seconds=_REQUEST),
        },
    }
    try:
        if scheme == "gs":
            return GCSStore(bucket, **options)
        if scheme == "az":
            return AzureStore(bucket, **options)
        if (_endpoint() or "").lower().startswith("http://"):
            options["client_options"]["allow_http"] = True
        return S3Store(bucket, **options, **_read_profile())
    except UsageError:
        raise
    except BaseException as error:
        if not _is_failure(error):
            raise
        raise StoreAccessError(
            f"{scheme}://{bucket}: the configuration in the environment cannot be used "
            f"({type(error).__name__}). {_CREDENTIALS[scheme]}."
        ) from None


def _read_profile() -> dict[str, Any]:
    """Read a profile of AWS with boto3, where it is installed and the environment has no key."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE"):
        return {}
    try:
        import boto3
    except ImportError:
        if os.environ.get("AWS_PROFILE"):
            raise UsageError(
                "AWS_PROFILE is set, and profiles need the package boto3. Install it with `pip "
                "install boto3`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            ) from None
        return {}
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    if session.get_credentials() is None:
        return {}
    region = {} if session.region_name is None else {"region": session.region_name}
    return {"credential_provider": Boto3CredentialProvider(session), **region}
