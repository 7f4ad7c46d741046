"""Tags over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.client.http_objects import repo_path
from paddock.client.transport import Transport
from paddock.model.addresses import check_name, parse_address
from paddock.model.dataclass import dataclass
from paddock.model.records import Tag


@dataclass(frozen=True, slots=True)
class HttpTags:
    transport: Transport

    def create(self, tag: str, commit: str, *, description: str = "") -> Tag:
        body = {"commit": commit, "description": description}
        result: Tag = self.transport.request(Tag, "POST", _path(tag), body=body)
        return result

    def list(self, repo: str) -> Sequence[Tag]:
        result: tuple[Tag, ...] = self.transport.request(tuple[Tag, ...], "GET", repo_path(repo, "tags"))
        return result

    def inspect(self, tag: str) -> Tag:
        result: Tag = self.transport.request(Tag, "GET", _path(tag))
        return result

    def delete(self, tag: str) -> None:
        self.transport.request(None, "DELETE", _path(tag))


def _path(tag: str) -> str:
    address = parse_address(tag, default_ref=None)
    return repo_path(str(address.repo), "tags", check_name("tag", str(address.ref)))
