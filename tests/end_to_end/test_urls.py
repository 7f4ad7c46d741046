"""Files from and to elsewhere: a web server, a real S3, local folders by URL; embedded and through a server."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paddock.client.connection import connect
from paddock.model.errors import Conflict, InvalidInput, NotFound, PermissionDenied, Unavailable
from paddock.model.services import Paddock
from paddock.storage import web
from paddock.storage.object_urls import StoreUrl, open_objects
from paddock.testing.servers import running_server

MIB = 1 << 20


@pytest.fixture(scope="module", params=["embedded", "http"])
def paddock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paddock]:
    home = tmp_path_factory.mktemp("urls") / "home"
    if request.param == "embedded":
        with connect(home, environment={}) as embedded:
            yield embedded
        return
    with running_server(home) as server, connect(url=server.url, environment={}) as remote:
        yield remote


@pytest.fixture
def repo(paddock: Paddock, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:60]
    return paddock.repos.create(name).name


# ---- a web server ------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """What the server has, and how it fails: `broken` bodies are cut off in the middle, `busy` answers are 503."""

    pages: dict[str, bytes] = field(default_factory=dict)
    tags: bool = True
    ranges: bool = True
    broken: int = 0
    busy: int = 0
    gets: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self.site.gets.append(self.path)
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site, content = self.site, self.site.pages.get(self.path.partition("?")[0])
        if self.path == "/moved":
            self._head(302, 0, {"Location": "/page"})
        elif self.path == "/secret":
            self._head(403, 0, {})
        elif content is None:
            self._head(404, 0, {})
        elif body and site.busy:
            site.busy -= 1
            self._head(503, 0, {})
        else:
            tag = {"ETag": f'"{hash(content)}"'} if site.tags else {}
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if site.ranges else 0
            self._head(206 if start else 200, len(content) - start, tag)
            if body and site.broken and len(content) - start > MIB:
                site.broken -= 1
                self.wfile.write(content[start : start + MIB])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif body:
                self.wfile.write(content[start:])

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    handler = type("Handler", (_Handler,), {"site": found})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


def test_a_page_is_put_and_not_fetched_again(paddock: Paddock, repo: str, site: Site) -> None:
    site.pages["/page"] = os.urandom(5 * MIB)
    site.pages["/a%20b.txt"] = b"named"
    report = paddock.files.put_url(f"{repo}@main:/x/", f"{site.url}/page?version=1")
    assert (report.files, report.bytes) == (1, 5 * MIB)
    assert b"".join(paddock.files.read(f"{repo}@main:/x/page")) == site.pages["/page"]
    paddock.files.put_url(f"{repo}@main:/x/", f"{site.url}/page?version=1")
    assert site.gets == ["/page?version=1"]
    paddock.files.put_url(f"{repo}@main", f"{site.url}/a%20b.txt")
    paddock.files.put_url(f"{repo}@main:/moved", f"{site.url}/moved")
    assert [file.path for file in paddock.files.list(f"{repo}@main")] == ["/a b.txt", "/moved", "/x"]

    site.pages["/page"] = b"changed"
    paddock.files.put_url(f"{repo}@main:/x/", f"{site.url}/page?version=1")
    assert b"".join(paddock.files.read(f"{repo}@main:/x/page")) == b"changed"
    site.tags = False
    for _ in range(2):
        paddock.files.put_url(f"{repo}@main:/x/", f"{site.url}/page?version=1")
    assert len(site.gets) == 7


def test_a_page_that_breaks_off_is_read_on(
    paddock: Paddock, repo: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "ATTEMPTS", 3)
    site.pages["/page"] = os.urandom(4 * MIB)
    site.broken, site.busy = 3, 1
    paddock.files.put_url(f"{repo}@main:/page", f"{site.url}/page")
    assert b"".join(paddock.files.read(f"{repo}@main:/page")) == site.pages["/page"]
    before = paddock.commits.list(repo)
    site.pages["/other"] = os.urandom(4 * MIB)
    site.broken, site.ranges = 1, False
    with pytest.raises(Conflict, match="broke off"):
        paddock.files.put_url(f"{repo}@main:/page", f"{site.url}/other")
    site.busy = 9
    with pytest.raises(Unavailable, match="503"):
        paddock.files.put_url(f"{repo}@main:/page", f"{site.url}/other")
    assert paddock.commits.list(repo) == before


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("{site}/none", NotFound),
        ("{site}/secret", PermissionDenied),
        ("{site}/", InvalidInput),
        ("http://127.0.0.1:9/x", Unavailable),
        ("http://", InvalidInput),
        ("ftp://host/x", InvalidInput),
        ("s3://", InvalidInput),
        ("file://host/x", InvalidInput),
        ("file:///none/here", NotFound),
        ("memory://nothing/x", NotFound),
    ],
)
def test_what_cannot_be_put_is_named(
    paddock: Paddock, site: Site, url: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "ATTEMPTS", 1)
    if "mistakes" not in {repo.name for repo in paddock.repos.list()}:
        paddock.repos.create("mistakes")
    whole = url.format(site=site.url)
    with pytest.raises(kind) as caught:
        paddock.files.put_url("mistakes@main", whole)
    scheme, _, rest = whole.partition("://")
    assert f"{scheme}:" in str(caught.value) or rest in str(caught.value)
    assert not paddock.commits.list("mistakes")


# ---- object stores -----------------------------------------------------------------------------------------------


def in_and_out(paddock: Paddock, repo: str, top: str) -> None:
    """A tree to a store and back, and what is skipped the second time."""
    files = {f"/in/d{number % 3}/f{number}": os.urandom(2000) for number in range(40)}
    files |= {"/in/large": os.urandom(9 * MIB), "/in/empty": b"", "/in/ü b": b"name"}
    paddock.commits.start(f"{repo}@main")
    for path, content in files.items():
        paddock.files.put(f"{repo}@main:{path}", content)
    paddock.commits.finish(f"{repo}@main")

    assert paddock.files.get_url(f"{repo}@main:/in", f"{top}/out").written == len(files)
    again = paddock.files.get_url(f"{repo}@main:/in", f"{top}/out")
    assert (again.files, again.written) == (len(files), 0)
    paddock.files.put(f"{repo}@main:/in/d1/f1", b"new")
    assert paddock.files.get_url(f"{repo}@main:/in", f"{top}/out").written == 1
    paddock.files.get_url(f"{repo}@main:/in/d1/f1", f"{top}/single")
    paddock.files.get_url(f"{repo}@main:/in/d1/f1", f"{top}/below/")

    report = paddock.files.put_url(f"{repo}@back:/in", f"{top}/out", concurrency=3)
    assert report.files == len(files)
    before, after = (paddock.files.inspect(f"{repo}@{branch}:/in") for branch in ("main", "back"))
    assert (before.digest, before.files) == (after.digest, after.files)
    paddock.files.put_url(f"{repo}@back:/one", f"{top}/single")
    paddock.files.put_url(f"{repo}@back:/two/", f"{top}/below/f1")
    for path in ("/one", "/two/f1"):
        assert b"".join(paddock.files.read(f"{repo}@back:{path}")) == b"new"
    with pytest.raises(NotFound):
        paddock.files.put_url(f"{repo}@back:/in", f"{top}/none")

    assert paddock.files.put_url(f"{repo}@back:/in", f"{top}/out", mirror=True).commit is None


def test_a_tree_goes_to_s3_and_back(paddock: Paddock, repo: str, s3_url: str) -> None:
    in_and_out(paddock, repo, s3_url)


def test_a_tree_goes_to_memory_and_back(paddock: Paddock, repo: str) -> None:
    in_and_out(paddock, repo, f"memory://{repo}")


def test_an_object_that_is_replaced_meanwhile_is_a_conflict(
    paddock: Paddock, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = open_objects(StoreUrl("memory", repo, ""))
    objects.replace("a", [os.urandom(9 * MIB)])
    real, seen = type(objects).read_range, []

    def read_range(self: object, key: str, offset: int, length: int) -> bytes:
        if not seen:
            seen.append(key)
            objects.replace("a", [os.urandom(9 * MIB)])
        return real(self, key, offset, length)

    monkeypatch.setattr(type(objects), "read_range", read_range)
    with pytest.raises(Conflict, match="replaced"):
        paddock.files.put_url(f"{repo}@main", f"memory://{repo}/a")
    assert not paddock.commits.list(repo)


def test_local_folders_by_url(paddock: Paddock, repo: str, tmp_path: Path) -> None:
    source = tmp_path / "in ü"
    source.mkdir()
    (source / "run").write_bytes(b"1")
    (source / "run").chmod(0o755)
    assert paddock.files.put_url(f"{repo}@main:/x", source.as_uri()).files == 1
    paddock.files.get_url(f"{repo}@main:/x", (tmp_path / "out").as_uri())
    assert os.access(tmp_path / "out" / "run", os.X_OK)
    for url in ("https://host/x", "ftp://host/x", "s3://"):
        with pytest.raises(InvalidInput):
            paddock.files.get_url(f"{repo}@main:/x", url)
    with pytest.raises(InvalidInput, match="concurrency"):
        paddock.files.put_url(f"{repo}@main:/x", f"memory://{repo}", concurrency=0)
