"""The client of a bucket, configured by the environment as other tools of its cloud are."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cache
from typing import Any

from cnatool.errors import StoreAccessError, UsageError
from cnatool.store.clouds import CLOUDS, UNUSABLE
from cnatool.store.object_errors import is_failure

# Seconds to connect, of one request, and of all attempts at it.
_CONNECT, _REQUEST, _ATTEMPTS = 5, 300, 60
_RETRIES = 5
# How long the client uses a credential of a profile, less the five minutes before its end in which
# it asks for another. boto3 itself renews one that would be valid for less than ten minutes, so
# what is used is always valid.
_PROFILE_LIFE = timedelta(minutes=10)


@cache
def connect(scheme: str, bucket: str) -> Any:
    """Make the client of a bucket."""
    where = f"{scheme}://{bucket}"
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise UsageError(
            f"{where}: objects in a bucket need the package obstore. Install it with "
            "`pip install 'cnatool[cloud]'`, or in a clone `pip install -e '.[cloud]'`."
        ) from None
    cloud = CLOUDS[scheme]
    cloud.check_environment(where)
    endpoint = cloud.endpoint()
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
    if endpoint is not None and endpoint[1].lower().startswith("http://"):
        options["client_options"]["allow_http"] = True
    try:
        if scheme == "gs":
            return GCSStore(bucket, **options)
        if scheme == "az":
            return AzureStore(bucket, **options)
        return S3Store(bucket, **options, **_read_profile())
    except UsageError:
        raise
    except BaseException as error:
        if not is_failure(error):
            raise
        # Errors of obstore have classes that tell nothing; those of boto3 name what is wrong.
        own = type(error).__module__.startswith("obstore")
        reason = cloud.explain_configuration() if own else UNUSABLE + f" ({type(error).__name__})"
        raise StoreAccessError(f"{where}: {reason}. {cloud.credential}.") from None


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
    provider = Boto3CredentialProvider(session, ttl=_PROFILE_LIFE)
    return {"credential_provider": provider, **region}
