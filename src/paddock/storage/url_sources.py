"""What lies at a URL, file by file: objects of `s3://`, `gs://`, `az://`, `memory://`, or one file of `http(s)://`.

Bytes come as parts that can be fetched at the same time. `file://` is not for here: a local folder has its own way in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from paddock.model.addresses import check_path
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, Corrupt, InvalidInput, NotFound
from paddock.storage.object_urls import StoreUrl, open_objects, parse_store_url

if TYPE_CHECKING:
    from paddock.storage.network_objects import NetworkObjects

PART_BYTES = 8 << 20
WEB_SCHEMES = ("http", "https")
OBJECT_SCHEMES = ("s3", "gs", "az", "memory")


@dataclass(frozen=True, slots=True)
class UrlFile:
    """One file at a URL. `parts` are fetched in any order, at once or one by one, and joined in theirs."""

    path: str
    """Relative to the source: `/a/b`; empty for a source that is one file."""
    size: int
    tag: str
    """Changes with the content; empty where the source does not promise that."""
    parts: tuple[Callable[[], Iterator[bytes]], ...]
    check: Callable[[], None]
    """Raises Conflict where the file is another one by now than `size` and `tag` say. For files of several parts."""


@dataclass(frozen=True, slots=True)
class UrlSource:
    """What is to be put from a URL. `name`: of the file, where it is a single one."""

    url: str
    name: str | None
    files: Callable[[], Iterator[UrlFile]]


def open_source(url: str) -> UrlSource:
    """Look what is at a URL: one object or web page, or all objects below a prefix. NotFound: nothing is.

    Credentials come from the environment, as `object_urls` says.
    """
    scheme = urlsplit(url).scheme
    if scheme in WEB_SCHEMES:
        # It brings in the HTTP client.
        from paddock.storage.web import open_page

        return open_page(url)
    if scheme not in OBJECT_SCHEMES:
        names = ", ".join(f"{each}://" for each in (*WEB_SCHEMES, *OBJECT_SCHEMES, "file"))
        raise InvalidInput(f"{url.partition('://')[0]}:// is no kind of URL that is known here; use one of {names}")
    return _open_prefix(url)


def bucket_of(url: str) -> tuple[NetworkObjects, str]:
    """The whole bucket that a URL is in, and the key or prefix in it (`a/b`, or empty)."""
    parsed = parse_store_url(url)
    objects = open_objects(StoreUrl(parsed.scheme, parsed.place, ""))
    return objects, parsed.path.strip("/")  # type: ignore[return-value]  # only file:// gives another


def _open_prefix(url: str) -> UrlSource:
    objects, key = bucket_of(url)
    if key and not url.endswith("/"):
        try:
            found = objects.info(key)
        except NotFound:
            pass
        else:
            one = _object(objects, key, "", found.size, found.tag)
            return UrlSource(url, key.rpartition("/")[2], lambda: iter((one,)))
    prefix = f"{key}/" if key else ""
    if next(objects.list(prefix), None) is None:
        raise NotFound(f"nothing is at {url}; check the bucket and the path")

    def files() -> Iterator[UrlFile]:
        for found in objects.list(prefix):
            name = found.key.removeprefix(prefix)
            if name:
                yield _object(objects, found.key, _relative(name, url), found.size, found.tag)

    return UrlSource(url, None, files)


def _relative(name: str, url: str) -> str:
    try:
        return check_path(f"/{name}")
    except InvalidInput as error:
        raise InvalidInput(f"{url} has an object that can't be a file: {error.message}; rename it") from None


def _object(objects: NetworkObjects, key: str, path: str, size: int, tag: str) -> UrlFile:
    def part(offset: int) -> Callable[[], Iterator[bytes]]:
        return lambda: iter((_read(objects, key, offset, min(PART_BYTES, size - offset)),))

    def check() -> None:
        now = objects.info(key)
        if (now.size, now.tag) != (size, tag):
            raise _changed(objects, key)

    return UrlFile(path, size, tag, tuple(part(offset) for offset in range(0, size, PART_BYTES)), check)


def _read(objects: NetworkObjects, key: str, offset: int, length: int) -> bytes:
    try:
        return objects.read_range(key, offset, length)
    except Corrupt:
        raise _changed(objects, key) from None


def _changed(objects: NetworkObjects, key: str) -> Conflict:
    return Conflict(f"{objects.url.rstrip('/')}/{key} was replaced while it was read; nothing was put, run it again")


def page_name(url: str) -> str:
    """The file name in a web address; InvalidInput where it has none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name or "/" in name:
        raise InvalidInput(f"{url} names no file; give the target a path, as in data@main:/name")
    return name
