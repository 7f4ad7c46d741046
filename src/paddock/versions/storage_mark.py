"""The mark of a home in a store that is not its own folder: an object that says whose packs these are.

Garbage collection removes packs that its catalog does not know. Two homes in one place would remove each other's; the mark,
created before the home is and looked at before anything is deleted, keeps that from happening.
"""

from __future__ import annotations

import json
from typing import Any

from paddock.model.errors import AlreadyExists, Conflict, NotFound
from paddock.storage.objects import ObjectStore

MARK_KEY = "paddock-home.json"


def claim(objects: ObjectStore, url: str, home_id: str) -> None:
    """Mark the store at `url` as the home's. Conflict: it is another's. Idempotent."""
    writer = objects.create(MARK_KEY)
    try:
        writer.write((json.dumps({"home": home_id}) + "\n").encode())
        writer.finish()
    except AlreadyExists:
        _refuse_others(objects, url, home_id)
    finally:
        writer.abort()


def check_mark(objects: ObjectStore, url: str, home_id: str) -> None:
    """Conflict where the store at `url` is not marked as the home's."""
    try:
        _refuse_others(objects, url, home_id)
    except NotFound:
        raise Conflict(
            f"{url} has lost the object {MARK_KEY}, which says whose packs it holds; where they are this home's, "
            f'put it back with the content {{"home": "{home_id}"}}'
        ) from None


def _refuse_others(objects: ObjectStore, url: str, home_id: str) -> None:
    try:
        content: Any = json.loads(objects.read(MARK_KEY))
        owner = str(content["home"])
    except (ValueError, TypeError, KeyError):
        owner = "unknown"
    if owner != home_id:
        raise Conflict(f"{url} holds the data of another home (id {owner}); give each home a prefix of its own")
