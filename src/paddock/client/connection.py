"""`paddock.connect()`: one call, both ways in."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from paddock.model.errors import InvalidInput
from paddock.model.services import Paddock


def connect(
    home: str | os.PathLike[str] | None = None,
    url: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> Paddock:
    """Return services on an embedded home, or on a server where a URL is given.

    home: a folder; default PADDOCK_HOME, else the nearest `.paddock/` upwards, else `~/.paddock`. It is
    made on first
        use. url: `http://host:port` of `paddock up`; default PADDOCK_URL. An explicit argument wins over the
        environment (default: `os.environ`), and naming both is InvalidInput.
    Nothing is opened or dialled yet, and only the way that is taken is imported.
    """
    variables = os.environ if environment is None else environment
    if home is not None and url is not None:
        raise InvalidInput(f"both a home ({os.fspath(home)}) and a server ({url}) are given; name one of them")
    if url is None and home is None:
        url = variables.get("PADDOCK_URL") or None
    # The way not taken is not imported: the embedded one needs no HTTP client, the other no storage.
    if url is not None:
        module = importlib.import_module("paddock.client.http")
        return cast(Paddock, module.HttpPaddock(url))
    module = importlib.import_module("paddock.client.embedded")
    return cast(Paddock, module.EmbeddedPaddock.open(home_of(home, variables)))


def home_of(home: str | os.PathLike[str] | None, environment: Mapping[str, str] | None = None) -> Path | None:
    """The home that is named: by the argument, else by PADDOCK_HOME; None where neither names one."""
    variables = os.environ if environment is None else environment
    named = os.fspath(home) if home is not None else variables.get("PADDOCK_HOME") or None
    return None if named is None else Path(named)
