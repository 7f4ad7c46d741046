"""Object stores by URL: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///folder`, `memory://name`.

Credentials never are in a URL. They come from the environment, by the names that each store's own tools use, and for S3 from
the profile in `~/.aws` too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.storage.objects import LocalObjects

if TYPE_CHECKING:
    from paddock.storage.network_objects import NetworkObjects

SCHEMES = ("s3", "gs", "az", "file", "memory")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A checked URL. `place` is the bucket, the container or the memory's name; `path` the prefix in it, or the folder."""

    scheme: str
    place: str
    path: str

    @property
    def local(self) -> bool:
        return self.scheme == "file"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}{self.path}"


def parse_store_url(text: str) -> StoreUrl:
    """InvalidInput says what is wrong with it, without repeating what might be a secret."""
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        names = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InvalidInput(f"{_safe(text)} does not name an object store; use a URL that starts with one of {names}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInput(
            f"{_safe(text)}: a store's URL has no user, password or parameters; set credentials in the environment"
        )
    path = unquote(parts.path)
    if any(part in (".", "..") for part in path.split("/")) or "//" in path or "\0" in path:
        raise InvalidInput(f"{text}: its path has an empty part, `.` or `..`; write it plainly")
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not path.strip("/"):
            raise InvalidInput(f"{text}: name a folder by its whole path, such as file:///data/store")
        return StoreUrl("file", "", path.rstrip("/"))
    if parts.scheme != "memory" and not parts.netloc:
        raise InvalidInput(f"{text}: name a bucket, such as {parts.scheme}://bucket/prefix")
    return StoreUrl(parts.scheme, parts.netloc, path.rstrip("/"))


def is_url(place: str) -> bool:
    """Whether a place is the URL of a store, and not the path of a folder."""
    return place.partition("://")[0] in SCHEMES and "://" in place


def open_place(place: str) -> LocalObjects | NetworkObjects:
    """The store at `place`: a folder's path, or a URL."""
    return open_objects(parse_store_url(place)) if is_url(place) else LocalObjects(Path(place))


def open_objects(url: StoreUrl) -> LocalObjects | NetworkObjects:
    """The store at `url`. Asks nothing of the network yet. Loading obstore costs some 20 ms; `file://` does without.

    Endpoint and credentials come from the environment of this process (obstore reads it). InvalidInput: they make no store.
    """
    match url.scheme:
        case "file":
            return LocalObjects(Path(url.path))
        case "memory":
            return _memory(str(url))
        case _:
            return _open_network(url, os.environ)


@cache
def _memory(url: str) -> NetworkObjects:
    """One for each name, for as long as this process lives."""
    from obstore.store import MemoryStore

    from paddock.storage.network_objects import NetworkObjects

    return NetworkObjects(MemoryStore(), url)


def _open_network(url: StoreUrl, environment: Mapping[str, str]) -> NetworkObjects:
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    from paddock.storage.aws_profile import s3_config
    from paddock.storage.network_errors import translate
    from paddock.storage.network_objects import REQUEST_RETRIES, NetworkObjects

    kinds: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    config = s3_config(environment) if url.scheme == "s3" else {}
    options: dict[str, Any] = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "5m"}
    if _plain_http(url.scheme, config, environment):
        options["allow_http"] = True
    try:
        store = kinds[url.scheme](
            url.place,
            prefix=url.path.strip("/") or None,
            config=config,
            client_options=options,
            retry_config=REQUEST_RETRIES,
        )
    except (BaseError, ValueError) as error:
        raise translate(error, "open", "", str(url)) from error
    return NetworkObjects(store, str(url))


def _plain_http(scheme: str, config: Mapping[str, str], environment: Mapping[str, str]) -> bool:
    """Whether the endpoint is one without TLS. To name such a one is to allow it."""
    variables = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "gs": ("GOOGLE_BASE_URL",),
        "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    }[scheme]
    endpoints = [config.get("endpoint", ""), *(environment.get(variable, "") for variable in variables)]
    if scheme == "az" and environment.get("AZURE_STORAGE_USE_EMULATOR", "") not in ("", "0", "false"):
        return True
    return any(endpoint.startswith("http://") for endpoint in endpoints)


def _safe(text: str) -> str:
    """A URL for a message: without what comes before `@` or after `?`."""
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else text.split("?", 1)[0]
