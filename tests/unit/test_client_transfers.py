"""The HTTP client's own pieces: URLs, tar streams, what a mirror remembers; and the names of maps."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paddock
from paddock.client.archives import ArchiveEntry, pack, scan_folder
from paddock.client.connection import connect
from paddock.client.mapping import map_names
from paddock.client.pieces import PieceReader
from paddock.client.transport import Transport, path_of
from paddock.model.addresses import check_name
from paddock.model.errors import (
    Bug,
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Unavailable,
)


def test_the_version_is_that_of_the_distribution() -> None:
    assert paddock.__version__ == metadata.version("paddock")


def test_importing_paddock_loads_nothing_and_offers_all() -> None:
    script = "import sys, paddock; assert not [n for n in sys.modules if n.startswith(('paddock.c', 'dataclasses'))]"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    for name in paddock.__all__:
        assert getattr(paddock, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        paddock.nothing  # noqa: B018


def test_path_parts_are_escaped_whole() -> None:
    assert path_of("repos", "a/b", "main^2", "?x=#") == "/api/v1/repos/a%2Fb/main^2/%3Fx%3D%23"


@pytest.mark.parametrize("url", ["ftp://host", "host:80", "", "http://host:port"])
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL"):
        Transport(url)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (200, Bug, "is it a Paddock server"),
        (301, InvalidInput, "to https://paddock.example/lab; write that in --url"),
        (401, PermissionDenied, "before the server refuses access"),
        (404, NotFound, "no Paddock server there"),
        (413, LimitExceeded, "client_max_body_size"),
        (502, Unavailable, "does not reach the server"),
    ],
)
def test_what_others_answer_is_never_taken_for_an_answer(status: int, kind: type[PaddockError], said: str) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.send_response(status)
            self.send_header("Location", f"https://paddock.example/lab{self.path}")
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            connect(url=f"http://127.0.0.1:{server.server_port}", environment={}) as remote,
            pytest.raises(kind, match=said),
        ):
            remote.repos.delete("data")
        server.shutdown()


def test_the_environment_chooses_the_way(tmp_path: Path) -> None:
    with connect(environment={"PADDOCK_URL": "http://127.0.0.1:9"}) as remote:
        assert type(remote).__name__ == "HttpPaddock"
    with connect(tmp_path / "a", environment={"PADDOCK_URL": "http://127.0.0.1:9"}) as embedded:
        assert type(embedded).__name__ == "EmbeddedPaddock"
    with connect(environment={"PADDOCK_HOME": str(tmp_path / "b")}):
        assert (tmp_path / "b" / "home.json").is_file()


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 50)))
def test_pieces_read_as_one_file(pieces: list[bytes], sizes: list[int]) -> None:
    reader, plain = PieceReader(pieces), io.BytesIO(b"".join(pieces))
    for size in sizes:
        assert reader.read(size) == plain.read(size)
    assert reader.read() == plain.read()


def test_a_folder_packs_as_tar(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ("ü" * 120)).write_bytes(b"x" * 700)
    (tmp_path / "run").write_bytes(b"")
    (tmp_path / "run").chmod(0o755)
    data = b"".join(pack([*scan_folder(tmp_path, prefix="top"), ArchiveEntry("extra", data=b"text")]))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: member for member in archive}
        assert set(members) == {f"top/d/{'ü' * 120}", "top/run", "extra"}
        assert (members["top/run"].mode, members["extra"].mode) == (0o755, 0o644)
    assert len(data) % 512 == 0


def test_a_file_that_shrinks_is_a_conflict(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    entries = scan_folder(tmp_path, prefix="top")
    (tmp_path / "file").write_bytes(b"123")
    with pytest.raises(Conflict, match="shorter"):
        list(pack(entries))


def test_everything_that_cannot_be_packed_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / os.fsdecode(b"not\xffutf8")).touch()
    with pytest.raises(InvalidInput) as caught:
        scan_folder(tmp_path, prefix="top")
    assert len(caught.value.problems) == 4
    with pytest.raises(NotFound):
        scan_folder(tmp_path / "none", prefix="top")


@given(st.text(min_size=1, max_size=300).filter(lambda name: "/" not in name and "\0" not in name))
def test_map_names_are_names(name: str) -> None:
    source, target = Path("/data") / name, Path("/out") / name
    names = map_names(source, target)
    for full in (names.repo, names.pipeline):
        project, _, short = full.partition("/")
        assert project == "map"
        check_name("repo", short)
    assert map_names(source, target) == names
    assert map_names(target, source) != names
    assert map_names(source, target / "x").repo != names.repo
