"""What differs between the clouds for their users: variables of the environment, and words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from cnatool.errors import UsageError

UNUSABLE = "the configuration in the environment cannot be used"


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud.

    Attributes
    ----------
    bucket : str
        What it calls a bucket.
    credential : str
        How to give a credential.
    checked : str
        The variables of a credential, or of the server, that may be wrong.
    endpoints : tuple of str
        Variables that replace its own server, the first of them that is set.
    servers : tuple of str
        Further variables with the address of a server that is asked.
    needed : tuple of str
        Variables of a credential of which none may be missing where another is set.
    files : tuple of str
        Variables with the path of a file of credentials.
    delete : str
        A command that deletes a store by its URL; empty if there is none for a URL.
    """

    bucket: str
    credential: str
    checked: str
    endpoints: tuple[str, ...]
    servers: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    delete: str = ""

    def endpoint(self) -> tuple[str, str] | None:
        """Return the variable that replaces the cloud's server, and its value; None if unset."""
        values = ((name, os.environ.get(name, "")) for name in self.endpoints)
        return next(((name, value) for name, value in values if value), None)

    def host(self) -> str:
        """Name the server, without a user and a password."""
        endpoint = self.endpoint()
        if endpoint is None:
            return "the server"
        parts = urlsplit(endpoint[1])
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def advice(self) -> str:
        """Return the variable to check where a server or a bucket is not found."""
        endpoint = self.endpoint()
        name = self.checked if endpoint is None else endpoint[0]
        return f" and {name}" if name else ""

    def explain_configuration(self) -> str:
        """Explain why a client cannot be made: which variable is wrong, as far as that shows."""
        missing = [name for name in self.needed if not os.environ.get(name)]
        if missing and (len(missing) < len(self.needed) or len(self.needed) == 1):
            return f"{' and '.join(missing)} is not set"
        file = next((name for name in self.files if os.environ.get(name)), None)
        if file is not None:
            return f"the file that {file} names contains no credential that can be used"
        return UNUSABLE

    def check_environment(self, where: str) -> None:
        """Refuse addresses of servers at which obstore panics, and files that are not there.

        Neither is repeated: an address may contain a password.
        """
        for name in (*self.endpoints, *self.servers):
            address = os.environ.get(name)
            if address and not _is_address(address):
                raise UsageError(
                    f"{where}: {name} is not the address of a server. It has to begin with http:// "
                    "or https://, as in http://HOST:9000."
                )
        for name in self.files:
            path = os.environ.get(name)
            if path and not os.access(path, os.R_OK):
                raise UsageError(
                    f"{where}: {name} has to be the path of a file of credentials, and there is "
                    "none that can be read."
                )


CLOUDS = {
    "s3": Cloud(
        bucket="bucket",
        credential=(
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with boto3 installed"
        ),
        checked="AWS_ENDPOINT_URL",
        endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        servers=("AWS_ENDPOINT_URL_STS", "AWS_METADATA_ENDPOINT"),
        needed=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        delete="aws s3 rm --recursive {}/",
    ),
    "gs": Cloud(
        bucket="bucket",
        credential=(
            "Set GOOGLE_APPLICATION_CREDENTIALS to the path of a file of credentials, or run "
            "`gcloud auth application-default login`"
        ),
        checked="",
        endpoints=("GOOGLE_BASE_URL",),
        files=(
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
        ),
        delete="gcloud storage rm --recursive {}",
    ),
    "az": Cloud(
        bucket="container",
        credential=(
            "Set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or "
            "AZURE_STORAGE_SAS_TOKEN"
        ),
        checked="AZURE_STORAGE_ACCOUNT_NAME",
        endpoints=("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
        needed=("AZURE_STORAGE_ACCOUNT_NAME",),
        servers=(
            "AZURITE_BLOB_STORAGE_URL",
            "AZURE_AUTHORITY_HOST",
            "AZURE_FABRIC_TOKEN_SERVICE_URL",
            "AZURE_IDENTITY_ENDPOINT",
            "AZURE_MSI_ENDPOINT",
            "IDENTITY_ENDPOINT",
        ),
    ),
}


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        # Reading a port that is no port raises.
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    spaced = any(character.isspace() for character in text)
    return parts.scheme in ("http", "https") and bool(host) and not spaced
