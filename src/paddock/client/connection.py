"""`paddock.connect()`: one call, both ways in."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import cast

from paddock.model.errors import InvalidInput
from paddock.model.services import Paddock
from paddock.settings_file import load_settings


def connect(
    home: str | os.PathLike[str] | None = None,
    url: str | None = None,
    *,
    catalog: str | None = None,
    storage: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Paddock:
    """Return services on an embedded home, or on a server where a URL is given.

    home: a folder; default PADDOCK_HOME, else the nearest `.paddock/` upwards, else `~/.paddock`. It is made where
    there is none. storage: where that home keeps its bulk data (`s3://bucket/prefix`, `gs://`, `az://`, `file://`), for a home
    that is made now; default PADDOCK_STORAGE, else the home's own folder; Conflict where it exists and has it elsewhere. catalog: URL of the
    PostgreSQL database of a home that many machines share, with its bulk data at `storage`; default PADDOCK_CATALOG. url: `http://host:port` of `paddock up`; default PADDOCK_URL. An argument wins over the environment
    (default: `os.environ`), and that over settings files. InvalidInput where both are given, or a variable or a file is wrong. Nothing is dialled yet, and only
    the way that is taken is imported.
    """
    if home is not None and url is not None:
        raise InvalidInput(f"both a home ({os.fspath(home)}) and a server ({url}) are given; name one of them")
    if storage is not None and url is not None:
        raise InvalidInput(f"a server ({url}) has its storage already; name it where the server's home is made")
    if catalog is not None and url is not None:
        raise InvalidInput(f"both a catalog and a server ({url}) are given; name one of them")
    settings = load_settings(os.environ if environment is None else environment)
    server = url if url is not None else settings.url if home is None and storage is None and catalog is None else None
    # The way not taken is not imported: the embedded one needs no HTTP client, the other no storage.
    if server is not None:
        module = importlib.import_module("paddock.client.http")
        return cast(Paddock, module.HttpPaddock(server))
    module = importlib.import_module("paddock.client.embedded")
    opened = module.EmbeddedPaddock.find(home, catalog=catalog, storage=storage, settings=settings)
    return cast(Paddock, opened)
