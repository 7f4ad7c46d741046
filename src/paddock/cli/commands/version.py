"""`paddock version`."""

from __future__ import annotations

import platform

from paddock.cli import output
from paddock.cli.options import Json
from paddock.model.version import VERSION


def version(json: Json = False) -> None:
    """Print the version of Paddock and of Python."""
    if json:
        output.document({"version": VERSION, "python": platform.python_version()})
    else:
        output.line(f"paddock {VERSION} (Python {platform.python_version()})")
