"""URLs as sources and targets of files. What reaches the network is imported when one is named, since loading it takes time."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from paddock.model.errors import InvalidInput

CONCURRENCY_MAX = 256


def local_path(url: str) -> Path | None:
    """The folder or file of a `file://` URL; None for others."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/"):
        raise InvalidInput(f"{url}: name a local file or folder by its whole path, such as file:///data/in")
    return Path(path)


def check_concurrency(count: int) -> int:
    if not 1 <= count <= CONCURRENCY_MAX:
        raise InvalidInput(f"concurrency is {count}; from 1 to {CONCURRENCY_MAX} transfers may run at once")
    return count
