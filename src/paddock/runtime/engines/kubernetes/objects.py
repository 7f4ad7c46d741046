"""Kubernetes objects as plain JSON, and where they are served."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from paddock.model.dataclass import dataclass

Object = dict[str, Any]
"""A Kubernetes object, as its JSON."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object in one namespace."""

    plural: str
    namespace: str
    api_version: str = "v1"

    def path(self, name: str = "") -> str:
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        below = f"/{quote(name, safe='')}" if name else ""
        return f"{root}/namespaces/{quote(self.namespace, safe='')}/{self.plural}{below}"
