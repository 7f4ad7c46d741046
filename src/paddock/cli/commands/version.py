"""`paddock version`."""

from __future__ import annotations

import platform

from paddock import __version__
from paddock.cli import output
from paddock.cli.options import Json


def version(json: Json = False) -> None:
    """Print the version of Paddock and of Python."""
    if json:
        output.document({"version": __version__, "python": platform.python_version()})
    else:
        output.line(f"paddock {__version__} (Python {platform.python_version()})")
