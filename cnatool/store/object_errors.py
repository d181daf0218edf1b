"""What the exceptions of obstore mean.

Messages never repeat what a server or obstore says: it may contain signatures, tokens and keys.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnatool.errors import DataError, NotAStoreError, StoreAccessError
from cnatool.store.clouds import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool._util.urls import ObjectURL

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
# What servers say of a credential that has expired: Amazon's, Azure's of two kinds, Google's.
_EXPIRED = (
    "ExpiredToken",
    "Signed expiry time",
    "The token is expired",
    "Token has been expired",
)
# Services that give credentials to a machine or a container, where none were found otherwise.
_METADATA = ("169.254.", "metadata.google.internal", "latest/api/token")


class ConflictError(Exception):
    """The object is not, or no longer, in the version that a put depends on."""


class MissingObjectError(Exception):
    """There is no such object."""


class ThrottledError(StoreAccessError):
    """The server wants fewer requests: Google's takes about one change of an object a second."""


class RangeError(Exception):
    """The object is shorter than the range that was asked for."""


@contextmanager
def translate_errors(url: ObjectURL) -> Iterator[None]:
    """Raise what an exception of obstore means in its place."""
    try:
        yield
    except BaseException as error:
        if not is_failure(error):
            raise
        raise _translate(error, url) from None


def is_failure(error: BaseException) -> bool:
    """Whether an exception is an error, or a panic of Rust, which is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def make_missing_bucket_error(url: ObjectURL) -> NotAStoreError:
    """Make the error of a bucket that does not exist."""
    cloud = CLOUDS[url.scheme]
    return NotAStoreError(
        f"{url}: there is no {cloud.bucket} {url.bucket}. Create it, or check its name"
        f"{cloud.advice()}."
    )


def make_unconditional_error(url: ObjectURL, what: str) -> StoreAccessError:
    """Make the error of a server that does not honour the conditions of puts."""
    return StoreAccessError(
        f"{url.scheme}://{url.bucket}: the server {what}, without which two writers could destroy "
        "a store. Write it to a local path and copy it there."
    )


def _translate(error: BaseException, url: ObjectURL) -> Exception:
    """Return what an exception of obstore means, without any of its text."""
    from obstore import exceptions

    text = str(error)
    code = match[1] if (match := _CODE.search(text)) else ""
    status = match[1] if (match := _STATUS.search(text)) else ""
    if code in _NO_BUCKET:
        return make_missing_bucket_error(url)
    if isinstance(error, FileNotFoundError):
        return MissingObjectError()
    if isinstance(error, exceptions.InvalidPathError):
        return DataError(
            f"{url} has an object with an empty part, '.' or '..' in its key. Rename it, or name "
            "a folder without it."
        )
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
        return ConflictError()
    if status == "416":
        return RangeError()
    denied = isinstance(
        error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError
    ) or (status.startswith("4") and "token request" in text)
    return _translate_refusal(text, code, url, denied=denied) or _translate_failure(
        error, text, code, status, url
    )


def _translate_refusal(
    text: str, code: str, url: ObjectURL, *, denied: bool
) -> StoreAccessError | None:
    """Return the error of a credential or a region that is refused; None if it is another."""
    cloud, where = CLOUDS[url.scheme], f"{url.scheme}://{url.bucket}"
    if code in _REGION or "configured region" in text:
        return StoreAccessError(f"{where} is in another region. Set AWS_REGION to its region.")
    if "Expired" in code or any(words in text for words in _EXPIRED):
        return StoreAccessError(
            f"{where} rejects the credentials: they have expired. Renew them and try again."
        )
    if any(service in text for service in _METADATA):
        return StoreAccessError(f"{where}: no credentials were found. {cloud.credential}.")
    if denied or code in _REFUSED:
        return StoreAccessError(
            f"{where} rejects the credentials{f' ({code})' if code else ''}. Check that they are "
            f"right and allow reading and listing this {cloud.bucket} and, for a store that is "
            "written, also writing and deleting."
        )
    return None


def _translate_failure(
    error: BaseException, text: str, code: str, status: str, url: ObjectURL
) -> StoreAccessError:
    """Return the error of a server that does not answer, or not as it should."""
    cloud, where = CLOUDS[url.scheme], f"{url.scheme}://{url.bucket}"
    if code == "NotImplemented" or status == "501":
        return make_unconditional_error(url, "has no conditional puts")
    if status:
        kind = ThrottledError if status == "429" else StoreAccessError
        return kind(
            f"{where}: the server answered with status {status}{f' ({code})' if code else ''}. Try "
            "again later."
        )
    if "error sending request" in text or "HttpError" in text or "timed out" in text:
        return StoreAccessError(
            f"{where}: {cloud.host()} does not answer. Check the network{cloud.advice()}."
        )
    return StoreAccessError(
        f"{where}: the request failed ({type(error).__name__}). Check the credential in the "
        f"environment{cloud.advice()}."
    )
