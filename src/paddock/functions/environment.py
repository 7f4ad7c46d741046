"""The environment lock: which Python and which distributions a function's code was applied with."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from paddock.model.errors import Conflict

LOCK_FILE = "paddock-environment.json"
_OWN = "paddock"


def environment_lock(imported: Iterable[str]) -> str:
    """The lock of code that imports these top-level modules: JSON, the same for the same environment."""
    owners = metadata.packages_distributions()
    names = {name for module in imported for name in owners.get(module, ()) if name != _OWN}
    document = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "distributions": {name: metadata.version(name) for name in sorted(names)},
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def check_environment(folder: Path) -> None:
    """Compare the lock in a code folder, if there is one, with this process. Conflict names what differs."""
    lock = folder / LOCK_FILE
    if not lock.is_file():
        return
    document = json.loads(lock.read_text(encoding="utf-8"))
    here = f"{platform.python_implementation()} {platform.python_version()}"
    differs = [] if document["python"] == here else [f"Python {document['python']} is {here} here"]
    for name, version in document["distributions"].items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != version:
            differs.append(f"{name} {version} is {found} here")
    if differs:
        raise Conflict(
            f"the environment has changed since the pipeline was applied: {'; '.join(differs)}; apply it again"
        )
